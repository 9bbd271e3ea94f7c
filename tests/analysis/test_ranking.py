"""Gene rankings against formulas written down elsewhere, and their error rate on planted truth."""

from functools import partialmethod

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import nbinom, poisson

import pyro_mgvi
from pyro_mgvi import (
    MGVI,
    CrossFit,
    DataError,
    DataWarning,
    Gaussian,
    Poisson,
    SettingsError,
    cross_fit,
    private,
    shared,
)
from pyro_mgvi.analysis.cross_fit import q_values
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.training.program import Program


def by_hand(mgvi, adata, group, averaged, log_pmf):
    """Bayes factors of equation 12 from the weights: gain, and shares with and without t."""
    data, groups = mgvi.read(adata), mgvi.schema.groups
    code = groups.index(group)
    batch = data.rows(np.flatnonzero(data.group_n == code))
    moments = mgvi.guide.moments(batch.counts, batch.covariates)
    d = mgvi.model.decoder
    (z,), t = moments["z"][0], moments["t"][0]
    location, scale = (x.detach().numpy().astype(float) for x in moments["library"])
    library = np.exp(location + scale**2 / 2)

    def log_p(private, offset):
        zeros = torch.zeros_like(private)
        copies = [private if g == code else zeros for g in range(len(groups))]
        inputs = torch.cat([z, *copies], -1)
        hidden = torch.relu(d.trunk(inputs))
        rate = d.heads[0](hidden) + inputs @ d.linear + offset
        share = rate.detach().double().softmax(-1).numpy()
        outputs = [head(hidden).detach().numpy().astype(float) for head in d.heads[1:]]
        return log_pmf(batch.counts.numpy(), share * library[:, None], *outputs), share

    response = d.response.unflatten(0, (len(groups), -1))  # groups x dims x genes
    own = d.offset[code] + z @ response[code]
    offset = d.offset.mean(0) + z @ response.mean(0) if averaged else own
    (with_t, share), (without, shared) = (
        log_p(t[code], own),
        log_p(torch.zeros_like(t[code]), offset),
    )
    return with_t - without, share, shared


@pytest.mark.parametrize("offset", ["averaged", "own"])
def test_the_bayes_factor_is_equation_12(trained, adata, offset):
    theta = trained.model.likelihood.log_theta.detach().exp().numpy().astype(float)

    def zinb(x, mean, logits):
        gate, count = expit(logits), nbinom.pmf(x, theta, theta / (theta + mean))
        return np.log(np.where(x == 0, gate, 0) + (1 - gate) * count)

    table = trained.rank_genes(adata, "group2", offset=offset, calibration=False)
    gain, share, shared = by_hand(trained, adata, "group2", offset == "averaged", zinb)
    assert table["bayes_factor"].is_monotonic_decreasing
    assert table.index.name == "gene"
    table = table.loc[list(adata.var_names)]
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


def test_any_likelihood_of_counts_that_tells_genes_apart_is_ranked(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=["z:3", "t:2"], likelihood=Poisson)
    table = mgvi.rank_genes(adata, "group2", calibration=False).loc[list(adata.var_names)]
    gain, *_ = by_hand(mgvi, adata, "group2", True, poisson.logpmf)
    error = abs(table["bayes_factor"] - gain.sum(0))
    assert (error < 1e-4 * abs(gain).sum(0)).all()  # large counts: the cells' terms cancel
    values = adata.copy()
    values.X = np.log1p(values.X.toarray())
    gaussian = MGVI.from_anndata(values, "group", likelihood=Gaussian)
    with pytest.raises(SettingsError, match=r"with Gaussian: .*likelihood of counts"):
        gaussian.rank_genes(values, "group2", calibration=False)


def test_minibatches_do_not_matter(trained, adata, monkeypatch):
    whole = trained.rank_genes(adata, "group1", calibration=False)
    monkeypatch.setattr(Program, "posteriors", partialmethod(Program.posteriors, size=7))
    parts = trained.rank_genes(adata, "group1", calibration=False)
    whole, parts = (x["bayes_factor"].sort_index() for x in (whole, parts))
    np.testing.assert_allclose(whole, parts, rtol=1e-3, atol=1e-4)


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
    shared = [x["mean_shared"].sort_index() for x in (one, other, both)]
    assert abs(shared[0] - shared[1]).max() > 0.1 and abs(shared[0] - shared[2]).max() > 0.1
    with torch.no_grad():
        trunk, linear = mgvi.model.decoder.trunk.weight, mgvi.model.decoder.linear
        trunk[:, 3 + 6 :] = linear[3 + 6 :] = 0.0  # the pair latents now do nothing
    table = mgvi.rank_genes(adata, "group1", latents="pair", calibration=False)
    np.testing.assert_allclose(table["bayes_factor"], 0, atol=1e-5)  # and no offset is averaged


@pytest.mark.slow
def test_scores_of_several_splits_are_averaged():
    adata = clear_recipe(0, n_cells=200, n_shared_genes=60, n_program_genes=20)
    mgvi = MGVI.from_anndata(adata, "group", latents=(shared(2), private(2)))
    mgvi.fit(adata, max_epochs=2, progress=False)
    splits = [cross_fit(mgvi, adata, max_epochs=2, progress=False, split=i) for i in range(2)]

    def ranked(calibration):
        table = mgvi.rank_genes(adata, "group1", calibration=calibration, progress=False)
        return table.loc[list(adata.var_names)]

    first, second, both = ranked(splits[0]), ranked(splits[1]), ranked(splits)
    pair = np.array([first["z_score"], second["z_score"]])
    assert np.isfinite(pair).all() and not np.array_equal(*pair)
    assert np.array_equal(both["z_score"], pair.mean(0))
    np.testing.assert_allclose(both["z_sd"], np.abs(pair[0] - pair[1]) / np.sqrt(2))
    assert np.array_equal(both["q_value"], q_values(pair.mean(0)))
    assert ranked(splits[:1]).equals(first)
    assert "z_sd" not in first


@pytest.mark.slow
def test_splits_without_a_score_are_left_out_of_the_mean_in_any_order():
    adata = clear_recipe(0, n_cells=200, n_shared_genes=60, n_program_genes=20)
    mgvi = MGVI.from_anndata(adata, "group", latents=(shared(2), private(2)))
    mgvi.fit(adata, max_epochs=2, progress=False)
    good = cross_fit(mgvi, adata, max_epochs=2, progress=False)
    poor = CrossFit(good.refits, (np.arange(200) < 10).astype(int), 0)  # ten cells in a fold
    asked = {"progress": False}
    one = mgvi.rank_genes(adata, "group1", calibration=good, **asked)
    for splits in ([good, poor], [poor, good]):
        with pytest.warns(DataWarning, match="q-values of group1 are of 1 of 2 splits"):
            table = mgvi.rank_genes(adata, "group1", calibration=splits, **asked)
        assert table.drop(columns="z_sd").equals(one) and table["z_sd"].isna().all()
    table = mgvi.rank_genes(adata, "group1", calibration=[poor, poor], **asked)
    assert table[["z_score", "q_value", "z_sd"]].isna().all(axis=None)


@pytest.mark.slow
def test_splits_divide_the_cells_otherwise_the_first_as_without(trained, adata):
    first, second, usual = (
        cross_fit(trained, adata, max_epochs=1, progress=False, **how)
        for how in ({"split": 0}, {"split": 1}, {})
    )
    assert (first.fold_n != second.fold_n).mean() > 0.3
    assert np.array_equal(usual.fold_n, first.fold_n)
    assert [refit.seed for refit in usual.refits] == [refit.seed for refit in first.refits]
    assert len({refit.seed for split in (first, second) for refit in split.refits}) == 4
    with pytest.raises(SettingsError, match="split"):
        cross_fit(trained, adata, split=-1)


@pytest.mark.parametrize("calibration", [[], ["refits"], "refits"])
def test_what_is_no_split_is_refused(trained, adata, calibration):
    with pytest.raises(SettingsError, match="calibration"):
        trained.rank_genes(adata, "group1", calibration=calibration)


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


@pytest.mark.slow
def test_planted_genes_are_found_with_few_errors_and_none_where_there_are_none(
    planted, nothing_planted
):
    adata = planted.adata
    table = planted.mgvi.rank_genes(adata, "group1", calibration=planted.refits)
    factors = adata.var[["DEFacP1", "DEFacP2", "DEFacP3", "DEFacP4"]]
    affected = (factors.nunique(axis=1) > 1).loc[table.index]
    found = table["q_value"] < 0.1
    assert found.sum() > 20 and affected[found].mean() > 0.85
    assert affected[:20].mean() > 0.9

    null = nothing_planted
    table = null.mgvi.rank_genes(null.adata, "group1", calibration=null.refits)
    assert (table["q_value"] > 0.05).all()


def test_a_model_without_group_specific_latents_says_what_to_train(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=shared(3))
    with pytest.raises(SettingsError, match=r"no group-specific latent.*private"):
        mgvi.rank_genes(adata, "group1")
