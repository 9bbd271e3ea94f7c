"""Gene rankings against formulas written down elsewhere, and their error rate on planted truth."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import kstest, nbinom, norm

import pyro_mgvi
from pyro_mgvi import MGVI, DataError, SettingsError
from pyro_mgvi.analysis.cross_fit import CrossFit, cross_fit, efficient_scores, q_values, recentred
from pyro_mgvi.datasets.simulate import SplatParams, clear_recipe, grouped


@pytest.fixture
def trained(mgvi, adata):
    mgvi.fit(adata, max_epochs=3, batch_size=32, progress=False)
    return mgvi


def by_hand(mgvi, adata, group, averaged):
    """Bayes factors of equation 12, from the weights, with scipy's negative binomial."""
    data = mgvi.read(adata)
    code = mgvi.schema.groups.index(group)
    cells = np.flatnonzero(data.group_n == code)
    batch = data.rows(cells)
    posteriors = mgvi.guide.posteriors(batch.counts, batch.covariates)
    d = mgvi.model.decoder
    z, t = posteriors["z"][0], posteriors["t"][0]
    location, scale = (x.detach().numpy().astype(float) for x in posteriors["library"])
    library = np.exp(location + scale**2 / 2)
    theta = mgvi.model.likelihood.log_theta.detach().exp().numpy().astype(float)

    def log_p(private, offset):
        zeros = torch.zeros_like(private)
        copies = [private if g == code else zeros for g in range(len(mgvi.schema.groups))]
        inputs = torch.cat([z, *copies], -1)
        hidden = torch.relu(d.trunk(inputs))
        rate = d.heads[0](hidden) + inputs @ d.linear + offset
        share = rate.softmax(-1).detach().numpy().astype(float)
        gate = expit(d.heads[1](hidden).detach().numpy().astype(float))
        mean, x = share * library[:, None], batch.counts.numpy()
        count = nbinom.pmf(x, theta, theta / (theta + mean))
        return np.log(np.where(x == 0, gate, 0) + (1 - gate) * count), share

    response = d.response.unflatten(0, (len(mgvi.schema.groups), -1))  # groups x dims x genes
    own = d.offset[code] + z @ response[code]
    offset = d.offset.mean(0) + z @ response.mean(0) if averaged else own
    (with_t, share), (without, shared) = (
        log_p(t[code], own),
        log_p(torch.zeros_like(t[code]), offset),
    )
    return with_t - without, share, shared


@pytest.mark.parametrize("offset", ["averaged", "own"])
def test_the_bayes_factor_is_equation_12(trained, adata, offset):
    table = trained.rank_genes(adata, "group2", offset=offset, calibration=False)
    gain, share, shared = by_hand(trained, adata, "group2", offset == "averaged")
    assert table["bayes_factor"].is_monotonic_decreasing
    table = table.set_index("gene").loc[list(adata.var_names)]
    for column, truth in (
        ("bayes_factor", gain.sum(0)),
        ("per_cell", gain.mean(0)),
        ("fraction_in_favour", (gain > 0).mean(0)),
        ("mean_all", 1e4 * share.mean(0)),
        ("mean_shared", 1e4 * shared.mean(0)),
        ("log_fold_change", np.log2(share.mean(0) / shared.mean(0))),
    ):
        np.testing.assert_allclose(table[column], truth, rtol=1e-3, atol=1e-4, err_msg=column)
    assert table["q_value"].isna().all()


def test_minibatches_do_not_matter(trained, adata, monkeypatch):
    whole = trained.rank_genes(adata, "group1", calibration=False)
    monkeypatch.setattr("pyro_mgvi.mgvi.EVALUATION_SIZE", 7)
    parts = trained.rank_genes(adata, "group1", calibration=False)
    whole, parts = (x.set_index("gene").sort_index() for x in (whole, parts))
    np.testing.assert_allclose(whole["bayes_factor"], parts["bayes_factor"], rtol=1e-3, atol=1e-4)


def test_chosen_cells_are_those_of_a_subset(trained, adata):
    cells = (adata.obs["celltype"] != "T1").to_numpy()
    masked = trained.rank_genes(adata, "group1", cells, calibration=False)
    subset = trained.rank_genes(adata[cells].copy(), "group1", calibration=False)
    np.testing.assert_allclose(masked["bayes_factor"], subset["bayes_factor"], rtol=1e-5)


def test_chosen_latents_alone_are_left_out(adata):
    latents = (pyro_mgvi.shared(3), pyro_mgvi.private(2), pyro_mgvi.pairwise(2))
    mgvi = MGVI.from_anndata(adata, "group", latents=latents)
    one, other, both = (
        mgvi.rank_genes(adata, "group1", latents=names, offset="own", calibration=False)
        for names in ("t", "pair", ["t", "pair"])
    )
    shared = [x.set_index("gene")["mean_shared"].sort_index() for x in (one, other, both)]
    assert abs(shared[0] - shared[1]).max() > 0.1 and abs(shared[0] - shared[2]).max() > 0.1
    with torch.no_grad():
        trunk, linear = mgvi.model.decoder.trunk.weight, mgvi.model.decoder.linear
        trunk[:, 3 + 6 :] = linear[3 + 6 :] = 0.0  # the pair latents now do nothing
    table = mgvi.rank_genes(adata, "group1", latents="pair", calibration=False)
    np.testing.assert_allclose(table["bayes_factor"], 0, atol=1e-5)  # and no offset is averaged


def test_bad_input_is_explained(trained, adata):
    group = adata.obs["group"].to_numpy(str)
    cases = [
        (("group9",), {}, DataError, "group1, group2, group3"),
        (("group1", group == "group2"), {}, DataError, "foreign cell.*group2"),
        (("group1", np.zeros(120, bool)), {}, DataError, "no cell"),
        (("group1", np.ones(5, bool)), {}, DataError, "boolean mask over the 120 cells"),
        (("group1",), {"latents": "z"}, SettingsError, "'t'"),
        (("group1",), {"latents": []}, SettingsError, "cannot be left out"),
        (("group1",), {"offset": "mine"}, SettingsError, "'mine'"),
    ]
    for options, settings, error, message in cases:
        with pytest.raises(error, match=message):
            trained.rank_genes(adata, *options, **settings, calibration=False)


def test_too_few_cells_have_no_q_value(trained, adata):
    refits = cross_fit(trained, adata, max_epochs=1, batch_size=32)
    few = np.arange(120) < 60  # about 20 of each group, 10 of them in each fold
    table = trained.rank_genes(adata, "group1", few, calibration=refits)
    assert table[["z_score", "q_value"]].isna().all(axis=None)
    assert np.isfinite(table["bayes_factor"]).all()
    own = (adata.obs["group"] == "group1").to_numpy()  # a mean shift needs cells to compare with
    many = CrossFit(refits.refits, refits.fold_n, 0)
    assert trained.rank_genes(adata, "group1", own, calibration=many)["q_value"].isna().all()
    with pytest.raises(DataError, match="refits are of 120 cells"):
        trained.rank_genes(adata[:50].copy(), "group1", calibration=refits)


def test_folds_divide_each_group_and_the_model_stays(trained, adata):
    before = trained.latents(adata)["z"]
    refits = cross_fit(trained, adata, max_epochs=1, batch_size=32)
    for group in trained.schema.groups:
        sizes = np.bincount(refits.fold_n[(adata.obs["group"] == group).to_numpy()])
        assert len(sizes) == 2 and abs(sizes[0] - sizes[1]) <= 1
    np.testing.assert_array_equal(trained.latents(adata)["z"], before)
    lonely = adata[np.r_[np.flatnonzero(adata.obs["group"] == "group1")[:3], 60:120]].copy()
    lonely = lonely[(lonely.obs["group"] != "group1") | (np.arange(lonely.n_obs) < 3)].copy()
    with pytest.raises(DataError, match="group1: fewer than 4 cells"):
        cross_fit(trained, lonely)


def test_refits_take_as_many_steps_and_weigh_noise_by_their_cells(trained, adata, monkeypatch):
    sizes = []
    monkeypatch.setattr(MGVI, "fit", lambda self, data, **plan: sizes.append(plan["batch_size"]))
    refits = cross_fit(trained, adata, max_epochs=1, batch_size=32)
    assert sizes == [16, 16]
    for fold, refit in enumerate(refits.refits):
        half = adata[refits.fold_n != fold].copy()
        assert refit.own_weight == MGVI.from_anndata(half, "group").own_weight
        assert refit.own_weight["t"] > trained.own_weight["t"]
    given = MGVI.from_anndata(adata, "group", own_weight={"t": 7.0})
    assert all(x.own_weight["t"] == 7 for x in cross_fit(given, adata, max_epochs=1).refits)


def test_q_values_are_of_doubled_tails_and_missing_stay_missing():
    z = np.array([4.0, 0.0, 3.0, -5.0])
    p = np.sort(2 * norm.sf(z[[0, 2]]))
    np.testing.assert_allclose(q_values(z), [4 * p[0], 1, 2 * p[1], 1])
    assert np.isnan(q_values(np.array([1.0, np.nan]))).all()


def test_efficient_scores_are_normal_without_effect_and_ignore_the_nuisance():
    rng = np.random.default_rng(0)
    n, genes = 400, 1000
    nuisance = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    delta = nuisance @ rng.normal(size=(3, genes)) + rng.normal(size=(n, genes))
    mean = np.exp(rng.normal(size=genes)) * np.ones((n, genes))
    counts = rng.negative_binomial(2.0, 2.0 / (2.0 + mean))
    slope = 1 / (1 + mean / 2.0)
    z = efficient_scores(delta, (counts - mean) * slope, mean * slope, nuisance)
    assert kstest(z, norm.cdf).pvalue > 0.01
    confounded = efficient_scores(
        delta, (counts - mean) * slope + (mean * slope) * (nuisance @ [3.0, 2.0, -1.0])[:, None],
        mean * slope, nuisance,
    )  # fmt: skip
    np.testing.assert_allclose(confounded, z, atol=1e-6)
    affected = rng.negative_binomial(2.0, 2.0 / (2.0 + mean * np.exp(0.3 * delta)))
    effect = efficient_scores(delta, (affected - mean) * slope, mean * slope, nuisance)
    assert np.median(effect) > 3
    assert (efficient_scores(0 * delta, counts - mean, mean, nuisance) == 0).all()


def test_recentring_undoes_a_shifted_null_and_never_helps():
    z = np.random.default_rng(0).normal(size=20_000)
    np.testing.assert_allclose(recentred(0.5 + 1.5 * z), z, atol=0.1)
    assert (recentred(0.5 * z - 1) <= 0.5 * z - 1 + 1e-12).all()


def test_planted_genes_are_found_with_few_errors_and_none_where_there_are_none():
    adata = clear_recipe(8, n_cells=1000, n_shared_genes=400, n_program_genes=100)
    mgvi = MGVI.from_anndata(adata, "group")
    mgvi.fit(adata, progress=False)
    table = mgvi.rank_genes(adata, "group1").set_index("gene")
    factors = adata.var[["DEFacP1", "DEFacP2", "DEFacP3", "DEFacP4"]]
    affected = (factors.nunique(axis=1) > 1).loc[table.index]
    found = table["q_value"] < 0.1
    assert found.sum() > 20 and affected[found].mean() > 0.85
    assert affected[:20].mean() > 0.9

    null = SplatParams(lib_loc=7.0, de_prob=0.0)
    adata = grouped(7, SplatParams(lib_loc=10.0), null, 1000, 400, 100)
    mgvi = MGVI.from_anndata(adata, "group")
    assert (mgvi.rank_genes(adata, "group1")["q_value"] > 0.05).all()
