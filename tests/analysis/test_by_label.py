"""Rankings within labels, and how much a group changes each cell."""

import numpy as np
import pandas as pd
import pytest

from pyro_mgvi import MGVI, DataError, GroupedCounts, SettingsError, TrainingPlan, cross_fit
from pyro_mgvi.analysis.efficient_scores import q_values
from pyro_mgvi.datasets import clear_recipe


@pytest.fixture(scope="module")
def cells():
    adata = clear_recipe(seed=2, n_cells=400, n_shared_genes=60, n_program_genes=20, n_types=2)
    adata.obs["kind"] = adata.obs["celltype"].astype(object)
    adata.obs.loc[adata.obs_names[:7], "kind"] = np.nan
    return adata


@pytest.fixture(scope="module")
def mgvi(cells):
    model = MGVI.from_anndata(cells, "group")
    model.fit(cells, TrainingPlan(max_epochs=3, search=None), progress=False)
    return model


@pytest.mark.slow
def test_each_block_is_the_ranking_of_its_cells(mgvi, cells):
    refits = cross_fit(mgvi, cells, max_epochs=2, progress=False)
    table = mgvi.rank_genes(cells, "group1", by="kind", calibration=refits)
    assert table.index.names == ["label", "gene"]
    sizes = cells.obs.loc[cells.obs["group"] == "group1", "kind"].value_counts()
    assert list(table.index.unique("label")) == list(sizes.index)
    for label in sizes.index:
        alone = mgvi.rank_genes(cells, "group1", cells.obs["kind"] == label, calibration=refits)
        pd.testing.assert_frame_equal(
            table.loc[label].drop(columns="q_value"), alone.drop(columns="q_value")
        )
    np.testing.assert_array_equal(table["q_value"], q_values(table["z_score"].to_numpy()))
    assert table["z_score"].notna().all()
    assert table.attrs["q_value_of"] == alone.attrs["q_value_of"]


def test_labels_come_in_any_form(mgvi, cells):
    quiet = {"calibration": False}
    table = mgvi.rank_genes(cells, "group1", by="kind", **quiet)
    shuffled = cells.obs["kind"].sample(frac=1, random_state=0)
    for by in (shuffled, cells.obs["kind"].to_numpy(), list(cells.obs["kind"])):
        pd.testing.assert_frame_equal(mgvi.rank_genes(cells, "group1", by=by, **quiet), table)
    data = GroupedCounts.from_anndata(cells, "group")
    for by in (shuffled, list(cells.obs["kind"])):
        of_data = mgvi.rank_genes(data, "group1", by=by, **quiet)
        pd.testing.assert_frame_equal(of_data, table)


def test_a_label_of_other_groups_alone_is_left_out(mgvi, cells):
    by = cells.obs["celltype"].astype(str).where(cells.obs["group"] == "group1", "foreign")
    table = mgvi.rank_genes(cells, "group1", by=by, calibration=False)
    assert table.attrs["left_out"] == ["foreign"]
    assert "foreign" not in table.index.unique("label")


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("kinds", "'kinds' is not a column of adata.obs"),
        (["a"], "1 labels, there are 400 cells"),
        ([None] * 400, "no cell of the group has a label"),
        (np.linspace(0, 1, 400), "labels apart among 207 cells.*no classes.*pandas.cut"),
        (pd.Series(["a"], index=["cell_1"]), "no single label"),
    ],
)
def test_bad_labels_are_named(mgvi, cells, by, said):
    with pytest.raises(DataError, match=said):
        mgvi.rank_genes(cells, "group1", by=by)  # before anything is refitted


def test_a_column_needs_cells_with_columns(mgvi, cells):
    with pytest.raises(DataError, match="GroupedCounts has not got"):
        mgvi.rank_genes(mgvi.read(cells), "group1", by="kind", calibration=False)


def test_effect_sizes_are_the_formula(mgvi, cells):
    found = mgvi.effect_sizes(cells)
    everything = mgvi.normalized_expression(cells).to_numpy(float)
    shared = mgvi.normalized_expression(cells, latents="z").to_numpy(float)
    by_hand = (everything * np.abs(np.log2(everything / shared))).sum(1)
    np.testing.assert_allclose(found, by_hand, rtol=1e-3)
    assert list(found.index) == list(cells.obs_names) and found.name == "effect_size"
    within = mgvi.effect_sizes(cells, offset="own")
    assert (within < found.mean()).mean() > 0.5  # what varies alone, without the mean's shift


def test_without_effect_there_is_none(cells):
    mgvi = MGVI.from_anndata(cells, "group")
    mgvi.fit(cells, TrainingPlan(max_epochs=1, search=None), progress=False)
    for family in mgvi.families.specific:
        mgvi.model.active[family.name].zero_()
    np.testing.assert_allclose(mgvi.effect_sizes(cells, offset="own"), 0.0, atol=1e-6)


def test_effects_need_counts(cells):
    from pyro_mgvi import Gaussian

    logged = cells.copy()
    logged.X = np.log1p(cells.X.toarray())
    mgvi = MGVI.from_anndata(logged, "group", likelihood=Gaussian)
    with pytest.raises(SettingsError, match="no shares of transcripts"):
        mgvi.effect_sizes(logged)
