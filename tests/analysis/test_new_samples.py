"""Rankings for new samples: samples are held out whole, and too few of them give no q-value."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, norm, ttest_rel

from pyro_mgvi import (
    MGVI,
    CrossFit,
    DataError,
    DataWarning,
    GroupedCounts,
    TrainingPlan,
    cross_fit,
)
from pyro_mgvi.analysis import new_samples, sample_tests
from pyro_mgvi.analysis.efficient_scores import q_values
from pyro_mgvi.analysis.folds import dealt_out, whole_samples
from pyro_mgvi.analysis.new_samples import new_sample_scores
from pyro_mgvi.cli.legends import about_q_values
from pyro_mgvi.model.decoding import Decoding

PLAN = TrainingPlan(max_epochs=2, batch_size=32)


@pytest.fixture(scope="module")
def nested(adata):
    """Four donors of each of three groups, ten cells each."""
    adata = adata.copy()
    number = adata.obs.groupby("group", observed=True).cumcount() % 4
    adata.obs["donor"] = [f"{g}.{i}" for g, i in zip(adata.obs["group"], number)]
    adata.obs["crossed"] = [f"donor{i}" for i in number]
    adata.obs["lane"] = np.where(number % 2, "one", "two")
    return adata


@pytest.fixture(scope="module")
def fits(nested):
    """Models that know samples, by the key, with their refits."""
    found = {}
    for key in ("donor", "crossed"):
        mgvi = MGVI.from_anndata(nested, "group", latents=["z:1", "t:2"], sample_key=key)
        mgvi.fit(nested, PLAN, progress=False)
        found[key] = mgvi, cross_fit(mgvi, nested, progress=False)
    return found


@pytest.mark.parametrize("key", ["donor", "crossed"])
def test_samples_are_held_out_whole_and_each_fold_has_each_group(fits, nested, key):
    mgvi, refits = fits[key]
    data = mgvi.read(nested)
    assert whole_samples(data, refits.fold_n)
    counts = pd.crosstab(nested.obs["group"].to_numpy(), refits.fold_n)
    assert counts.shape == (3, 2) and counts.to_numpy().min() >= 19  # of about 40, two donors each
    three = dealt_out(data, 3, seed=1)
    assert whole_samples(data, three) and pd.crosstab(data.group_n, three).to_numpy().min() >= 9


@pytest.mark.parametrize("key", ["donor", "crossed"])
@pytest.mark.parametrize("offset", ["averaged", "own"])
def test_a_ranking_says_that_it_is_for_new_samples(fits, nested, key, offset):
    mgvi, refits = fits[key]
    table = mgvi.rank_genes(nested, "group1", offset=offset, calibration=refits)
    assert table.attrs["q_value_of"] == "new samples"
    assert np.isfinite(table[["z_score", "q_value"]]).all(axis=None)
    pd.testing.assert_frame_equal(
        table, mgvi.rank_genes(nested, "group1", offset=offset, calibration=refits)
    )


def test_a_paired_shift_is_the_paired_t_test_of_residuals(fits, nested, monkeypatch):
    mgvi, refits = fits["crossed"]
    monkeypatch.setattr(sample_tests, "squeezed", lambda variance_g, df, alike: (variance_g, 0.0))
    monkeypatch.setattr(sample_tests, "_between_to_within", lambda *_: 1e12)  # all count the same
    monkeypatch.setattr(new_samples, "shrunk", lambda z_g: z_g)
    data, without = mgvi.read(nested), Decoding.leaving_out(mgvi.families)
    z = new_sample_scores(refits, data, "group2", without, np.arange(len(data)))
    effects = {}
    for fold, refit in enumerate(refits.refits):
        tested = data.subset(np.flatnonzero(refits.fold_n == fold))
        own = tested.group_n == 1
        residual, weight = np.zeros(tested.shape), np.zeros(tested.shape)
        of_fold = refit, tested, own, without, refits.seed
        for part, found in new_samples.unseen_contrasts(*of_fold):
            residual[:, part], weight[:, part] = found.residual_ng, found.weight_ng
        for sample in set(tested.sample_n):
            for side in (True, False):
                unit = (tested.sample_n == sample) & (own == side)
                effects[sample, side] = residual[unit].sum(0) / weight[unit].sum(0)
    names = sorted(set(data.sample_n))
    expected = ttest_rel(*([effects[name, side] for name in names] for side in (True, False)))
    np.testing.assert_allclose(2 * norm.sf(np.abs(z)), expected.pvalue, rtol=1e-3)
    np.testing.assert_array_equal(np.sign(z), np.sign(expected.statistic))


def test_of_samples_some_of_which_are_crossed_only_these_are_compared(fits, nested):
    mgvi, refits = fits["crossed"]
    data, without = mgvi.read(nested), Decoding.leaving_out(mgvi.families)
    of_one = (nested.obs["crossed"] == "donor0").to_numpy()
    own = (nested.obs["group"] == "group2").to_numpy()
    partly, fully = np.flatnonzero(~(of_one & own)), np.flatnonzero(~of_one)
    z_g, expected_g = (
        new_sample_scores(refits, data, "group2", without, cells) for cells in (partly, fully)
    )
    assert np.abs(expected_g).max() > 0.5
    np.testing.assert_array_equal(z_g, expected_g)


def test_too_few_samples_or_folds_of_cells_have_no_q_value_and_say_why(fits, nested):
    mgvi, refits = fits["donor"]
    few = ~nested.obs["donor"].isin(["group1.0", "group1.1"]).to_numpy()
    with pytest.warns(DataWarning, match=r"group1 for new samples: .* of 2 sample\(s\)"):
        table = mgvi.rank_genes(nested, "group1", few, calibration=refits)
    assert table["q_value"].isna().all() and np.isfinite(table["bayes_factor"]).all()
    some = np.arange(nested.n_obs) % 2 == 0
    with pytest.warns(DataWarning, match="unseen cells are too few .* 15 are needed"):
        mgvi.rank_genes(nested, "group1", some, offset="own", calibration=refits)
    by_cells = CrossFit(refits.refits, np.arange(nested.n_obs) // 4 % 2, refits.seed)
    with pytest.warns(DataWarning, match="hold out cells, not whole samples"):
        table = mgvi.rank_genes(nested, "group1", calibration=by_cells)
    assert table["z_score"].isna().all()


def test_what_cannot_be_told_from_the_refits_has_no_q_value(fits, nested):
    """Donors of one group are all in one fold, and those of the others in another."""
    mgvi, refits = fits["donor"]
    apart = CrossFit(refits.refits, (nested.obs["group"] == "group1").to_numpy().astype(int), 0)
    with pytest.warns(DataWarning, match="no q-value of group1 .* held out by different refits"):
        table = mgvi.rank_genes(nested, "group1", calibration=apart)
    assert table[["z_score", "q_value"]].isna().all(axis=None)
    with pytest.warns(DataWarning, match="q-values of group1 are of 1 of 2 splits of the cells"):
        both = mgvi.rank_genes(nested, "group1", calibration=[apart, refits])
    one = mgvi.rank_genes(nested, "group1", calibration=refits)
    np.testing.assert_array_equal(both["z_score"], one["z_score"])


def test_too_few_crossed_samples_are_counted_and_may_be_left_out(fits, nested):
    mgvi, refits = fits["donor"]
    moved = np.flatnonzero(nested.obs["donor"] == "group1.0")[:5]
    donors = nested.obs["donor"].to_numpy(object).copy()
    donors[moved] = "group2.0"
    partly = nested.copy()
    partly.obs["donor"] = donors
    fold_n = np.array([int(name[-1]) % 2 for name in donors])
    asked = {"calibration": CrossFit(refits.refits, fold_n, 0)}
    of_one = r"of group1, only 1 sample\(s\) \(group2.0\) are in other groups"
    with pytest.warns(DataWarning, match=f"{of_one}.* leave out the cells"):
        table = mgvi.rank_genes(partly, "group1", **asked)
    assert table["q_value"].isna().all()
    without = ~np.isin(np.arange(nested.n_obs), moved)
    assert mgvi.rank_genes(partly, "group1", without, **asked)["q_value"].notna().all()
    few = ~np.isin(donors, ["group1.1", "group1.2", "group1.3"])  # no four of the group are left
    with pytest.warns(DataWarning, match=f"{of_one}.* of the cells at hand"):
        mgvi.rank_genes(partly, "group1", few, **asked)


def test_a_group_of_one_sample_is_refitted_on_cells(nested):
    one = nested.copy()
    one.obs["donor"] = one.obs["donor"].str.replace(r"group1\.\d", "group1.0", regex=True)
    with pytest.warns(DataWarning, match="fewer than 3 samples of group1"):
        mgvi = MGVI.from_anndata(one, "group", latents=["z:1", "t:2"], sample_key="donor")
    plain = MGVI.from_anndata(one, "group", latents=["z:1", "t:2"])
    found = dealt_out(mgvi.read(one), 2, seed=0)
    np.testing.assert_array_equal(found, dealt_out(plain.read(one), 2, seed=0))


def test_a_batch_of_one_fold_is_refused_by_name(nested):
    mgvi = MGVI.from_anndata(nested, "group", batch_key="crossed", sample_key="crossed")
    with pytest.raises(DataError, match=r"batch\(es\) donor0, .* leave out batch_key"):
        cross_fit(mgvi, nested, progress=False)


def test_without_samples_nothing_changes(nested):
    """A model's weights do not depend on samples that have no effects in it."""
    mgvi = MGVI.from_anndata(
        nested, "group", latents=["z:1", "t:2"], sample_key="donor", sample_effects=False
    )
    mgvi.fit(nested, PLAN, progress=False)
    plain = MGVI.from_anndata(nested, "group", latents=["z:1", "t:2"])
    plain.fit(nested, PLAN, progress=False)
    for key, values in plain.latents(nested).items():
        pd.testing.assert_frame_equal(mgvi.latents(nested)[key], values, check_exact=True)
    table = plain.rank_genes(nested, "group1", calibration=False)
    assert table.attrs["q_value_of"] == "new cells of these samples"


def contrast_of(rng, n_donors, slope, genes=300, affected=20):
    """Return a group's cells of some donors, as a refit may predict them: half follow a program."""
    n = 60 * n_donors
    program_n1 = rng.integers(2, size=n)[:, None] - 0.5
    donor_n = np.repeat(np.arange(n_donors), 60)
    level_ng = rng.normal(0, 0.3, (n_donors, genes))[donor_n]
    slope_ng = rng.normal(0, 0.3, (n_donors, genes))[donor_n] + slope * (
        np.arange(genes) < affected
    )
    mean = 1.0
    counts = rng.poisson(mean * np.exp(level_ng + slope_ng * program_n1))
    nuisance = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    ones = np.ones((n, genes))
    found = new_samples.Contrast(ones * program_n1, counts - mean, ones * mean, nuisance)
    labels = np.zeros(n, int), np.zeros(n, int), np.zeros((n, 0)), None, np.arange(n)
    data = GroupedCounts(counts, *labels, sample_n=donor_n.astype(str))
    return 0, data, np.ones(n, bool), [(np.arange(genes), found)]


def test_what_the_cells_of_a_sample_have_in_common_is_no_slope():
    fold, data, own, [(genes, found)] = contrast_of(np.random.default_rng(1), 5, 1.0)
    level_ng = np.random.default_rng(2).normal(0, 3, (5, 300))[data.sample_n.astype(int)]
    moved = found._replace(residual_ng=found.residual_ng + found.weight_ng * level_ng)
    units, others = (
        new_samples._slopes(iter([(fold, data, own, [(genes, x)])])) for x in (found, moved)
    )
    np.testing.assert_allclose(others.score_ug, units.score_ug, atol=1e-6)
    np.testing.assert_allclose(others.information_ug, units.information_ug)


@pytest.mark.slow
def test_slopes_that_differ_between_donors_are_no_discovery_and_common_ones_are():
    rng = np.random.default_rng(0)
    null = [
        sample_tests.sample_scores(new_samples._slopes(iter([contrast_of(rng, 5, 0.0)])))
        for _ in range(12)
    ]
    p = norm.sf(np.ravel(null))
    assert kstest(p, "uniform").statistic < 0.04 and (p < 0.01).mean() < 0.018
    z = sample_tests.sample_scores(new_samples._slopes(iter([contrast_of(rng, 5, 1.0)])))
    called = q_values(z) < 0.1
    assert called[:20].sum() > 14 and called[20:].sum() < 5


@pytest.mark.slow
def test_without_a_common_gene_the_reason_is_said(nested):
    adata, masks = nested.copy(), {}
    counts = adata.X.toarray()
    for i, group in enumerate(sorted(set(adata.obs["group"]))):  # each lacks another third
        masks[group] = np.arange(60) % 3 != i
        counts[np.ix_((adata.obs["group"] == group).to_numpy(), ~masks[group])] = 0
    adata.X = counts
    settings = {"sample_key": "crossed", "feature_masks": masks, "latents": ["z:1", "t:1"]}
    mgvi = MGVI.from_anndata(adata, "group", **settings)
    mgvi.fit(adata, PLAN, progress=False)
    refits = cross_fit(mgvi, adata, max_epochs=1, progress=False)
    with pytest.warns(DataWarning, match="no gene is in all groups of the cells"):
        table = mgvi.rank_genes(adata, "group1", calibration=refits, progress=False)
    assert table["q_value"].isna().all() and "40 genes" in table.attrs["genes_without_q"]
    assert "that all groups of theirs have" in about_q_values(mgvi, table)
    two = adata.obs["group"].isin(["group1", "group2"]).to_numpy()
    table = mgvi.rank_genes(adata, "group1", two, calibration=refits, progress=False)
    assert table["z_score"].notna().sum() == 20
