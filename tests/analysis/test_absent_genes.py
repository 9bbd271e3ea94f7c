"""Results of groups that have not got all genes: rows, numbers and reasons."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers.masked import masked, masks_of, random_masks

from pyro_mgvi import MGVI, TrainingPlan, criticism, cross_fit, differential_expression
from pyro_mgvi.analysis.cross_fit import shuffled_groups
from pyro_mgvi.analysis.efficient_scores import efficient_scores
from pyro_mgvi.data.masks import common_absent

PLAN = TrainingPlan(max_epochs=3, batch_size=32)


@pytest.fixture(scope="module")
def fitted():
    from pyro_mgvi.datasets import clear_recipe

    adata = clear_recipe(seed=1, n_cells=240, n_shared_genes=45, n_program_genes=15)
    has_bg = random_masks(np.random.default_rng(0), 2, adata.n_vars, 0.2)
    some = masked(adata, has_bg, np.nan)
    latents = ["z:3", "t:2"]
    mgvi = MGVI.from_anndata(some, "group", latents=latents, feature_masks=masks_of(some))
    mgvi.fit(some, PLAN, progress=False)
    return mgvi, some, has_bg


def test_expression_of_absent_genes_is_nan_or_a_marked_prediction(fitted):
    mgvi, adata, has_bg = fitted
    code = pd.Categorical(adata.obs["group"]).codes
    measured = mgvi.normalized_expression(adata, "z")
    np.testing.assert_array_equal(measured.notna(), has_bg[code])
    np.testing.assert_allclose(measured.sum(axis=1), 1, rtol=1e-5)
    assert measured.attrs["absent"]["group1"] == list(adata.var_names[~has_bg[0]])
    predicted = mgvi.normalized_expression(adata, "z", predict_absent=True)
    np.testing.assert_array_equal(predicted.where(has_bg[code]), measured)
    assert (predicted > 0).all().all()
    assert predicted.attrs["predicted"] == measured.attrs["absent"]
    few = mgvi.normalized_expression(adata, genes=[adata.var_names[~has_bg[0]][0]])
    assert list(few.attrs["absent"]["group1"]) == list(few.columns)
    mean, std = mgvi.expression_draws(adata, n_draws=2)
    np.testing.assert_array_equal(mean.notna(), has_bg[code])
    np.testing.assert_array_equal(std.notna(), has_bg[code])


@pytest.mark.slow
@pytest.mark.parametrize("offset", ["averaged", "own"])
def test_a_ranking_has_the_genes_that_the_group_has(fitted, offset):
    mgvi, adata, has_bg = fitted
    refits = cross_fit(mgvi, adata, PLAN, progress=False)
    table = mgvi.rank_genes(adata, "group1", offset=offset, calibration=refits)
    assert set(table.index) == set(adata.var_names[has_bg[0]])
    assert table.notna().all().all()
    n_alone = int((has_bg[0] & ~has_bg[1]).sum())
    assert table.attrs["absent_genes"].startswith(f"{(~has_bg[0]).sum()} genes have no row")
    assert table.attrs["genes_of_one_group"].startswith(f"{n_alone} genes are in no other group")


def test_fold_changes_are_of_genes_that_both_groups_have():
    """Half of all counts are of genes that one group lacks: its other shares are twice as large."""
    rng = np.random.default_rng(0)
    adata = ad.AnnData(
        rng.poisson(np.tile([1.0] * 30 + [3.0] * 10, (200, 1))).astype(np.float32),
        obs={"group": np.repeat(["a", "b"], 100)},
        var={"a": [1] * 40, "b": [1] * 30 + [0] * 10},
    )
    adata.X[100:, 30:] = 0
    masks = {"a": "a", "b": "b"}
    mgvi = MGVI.from_anndata(adata, "group", latents=["z:1", "t:1"], feature_masks=masks)
    mgvi.fit(adata, PLAN, progress=False)
    table = differential_expression(mgvi, adata, "a", "b", n_draws=200).sort_index()
    common, only = adata.var_names[:30], adata.var_names[30:]
    shares = table.loc[common, ["mean_first", "mean_second"]].sum() / 1e4
    assert shares.iloc[0] < 0.6 and shares.iloc[1] == pytest.approx(1, rel=1e-4)
    assert abs(table.loc[common, "log_fold_change"].mean()) < 0.1
    assert table.loc[only, "log_fold_change"].isna().all()
    assert table.loc[only, "mean_first"].notna().all()


def test_programs_have_the_genes_that_an_owner_has(fitted):
    mgvi, adata, has_bg = fitted
    table = mgvi.programs(adata, ["t", "z"], calibration=False)
    for code, key in enumerate(("t_group1", "t_group2")):
        if key in set(table["latent"]):
            found = set(table.loc[table["latent"] == key, "gene"])
            assert found == set(adata.var_names[has_bg[code]])
    assert set(table.loc[table["latent"] == "z", "gene"]) == set(adata.var_names)


def test_an_effect_is_over_the_cells_that_have_the_gene(fitted):
    from pyro_mgvi.analysis.gene_effects.effects import effects

    mgvi, adata, has_bg = fitted
    data, copy = mgvi.read(adata), mgvi.families.copies_of("z")[0]
    together = effects(mgvi, data, copy)
    alone = effects(mgvi, data.subset(np.flatnonzero(data.group_n == 0)), copy)
    of_one = has_bg[0] & ~has_bg[1]
    ratio = together.sd_d / alone.sd_d  # effects are per standard deviation of all cells
    np.testing.assert_allclose(
        together.effect_dg[:, of_one], ratio[:, None] * alone.effect_dg[:, of_one], rtol=0.05,
        atol=0.01,
    )  # fmt: skip
    np.testing.assert_allclose(together.mean_g[of_one], alone.mean_g[of_one], rtol=1e-4)
    assert together.measured_g.all() and not alone.measured_g[~has_bg[0]].any()


def test_groups_are_compared_in_genes_that_both_have(fitted):
    mgvi, adata, has_bg = fitted
    table = differential_expression(mgvi, adata, "group1", "group2", n_draws=20)
    table = table.loc[adata.var_names]
    np.testing.assert_array_equal(table["log_fold_change"].notna(), has_bg.all(0))
    np.testing.assert_array_equal(table["mean_first"].notna(), has_bg[0])
    np.testing.assert_array_equal(table["mean_second"].notna(), has_bg[1])


def test_scores_are_those_of_the_cells_that_have_the_gene():
    rng = np.random.default_rng(0)
    delta, residual, weight = rng.normal(size=(3, 80, 5))
    nuisance = np.column_stack([np.ones(80), rng.normal(size=80)])
    has_ng = rng.random((80, 5)) > 0.3
    has_ng[:, 4] = np.arange(80) < 29  # too few for a normal statistic
    weight = (np.abs(weight) + 0.1) * has_ng
    found = efficient_scores(delta, residual, weight, nuisance)
    for gene in range(4):
        cells = has_ng[:, gene]
        parts = (x[cells][:, [gene]] for x in (delta, residual, weight))
        assert found[gene] == efficient_scores(*parts, nuisance[cells])[0]
    assert np.isnan(found[4])


def test_shuffled_groups_have_the_genes_that_all_groups_have(fitted):
    mgvi, adata, has_bg = fitted
    data = mgvi.read(adata)
    shuffled = shuffled_groups(data, 0)
    assert shuffled.schema.absent == common_absent(data.schema)
    np.testing.assert_array_equal(shuffled.schema.measured_bg, np.tile(has_bg.all(0), (2, 1)))
    np.testing.assert_array_equal(shuffled.x, np.asarray(data.x) * has_bg.all(0))
    assert not np.array_equal(shuffled.group_n, data.group_n)
    assert np.bincount(shuffled.group_n).tolist() == np.bincount(data.group_n).tolist()


@pytest.mark.slow
def test_a_diagnosis_is_there(fitted):
    mgvi, adata, _ = fitted
    report = mgvi.diagnose(adata, "celltype", plan=PLAN, progress=False)
    assert report.copies.loc[["t_group1", "t_group2"], ["worth", "shuffled"]].notna().all().all()


def test_predictive_checks_are_of_the_cells_that_have_a_gene(fitted):
    mgvi, adata, _ = fitted
    found = criticism.predictive_checks(mgvi, adata, n_draws=20, progress=False)
    x = adata.X
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        np.testing.assert_allclose(found.genes["mean_observed"], np.nanmean(x, 0), rtol=1e-6)
    np.testing.assert_allclose(found.genes["zeros_observed"], np.nanmean(x == 0, 0) * len(x)
                               / (~np.isnan(x)).sum(0), rtol=1e-6)  # fmt: skip
    zeros_n = (x == 0).sum(1) / (~np.isnan(x)).sum(1)
    np.testing.assert_allclose(found.cells["zeros_observed"], zeros_n, rtol=1e-6)
    summary = found.summary()
    assert summary.notna().all().all()


def test_models_with_other_masks_are_not_compared(fitted):
    from pyro_mgvi import SettingsError

    mgvi, adata, has_bg = fitted
    with pytest.warns(UserWarning):
        few = MGVI.from_anndata(
            masked(adata, has_bg), "group", latents=["z:3", "t:2"]
        )  # takes absent genes for zeros
        scores = {
            name: criticism.held_out(model, masked(adata, has_bg), 2, progress=False)
            for name, model in {"masks": mgvi, "zeros": few}.items()
        }
    with pytest.raises(SettingsError, match="differ in feature masks"):
        criticism.compare(scores)


def test_a_model_comes_back_with_its_masks(fitted, tmp_path):
    mgvi, adata, has_bg = fitted
    mgvi.save(tmp_path / "model")
    loaded = MGVI.load(tmp_path / "model")
    assert loaded.schema == mgvi.schema
    np.testing.assert_array_equal(loaded.schema.measured_bg, has_bg)
    for key, table in mgvi.latents(adata).items():
        np.testing.assert_array_equal(loaded.latents(adata)[key], table)
    own = adata[adata.obs["group"] == "group1", has_bg[0]].copy()  # without the other's genes
    found = loaded.latents(own)["z"]
    expected = mgvi.latents(adata)["z"].loc[found.index]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
