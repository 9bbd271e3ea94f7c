"""Refits on halves of the cells: which cells, how they are trained, and where they are too few."""

import warnings
from importlib import import_module

import numpy as np
import pandas as pd
import pytest

from pyro_mgvi import (
    MGVI,
    AdditiveDecoder,
    ComponentWarning,
    CrossFit,
    DataError,
    SettingsError,
    TrainingPlan,
    cross_fit,
)
from pyro_mgvi.analysis.folds import dealt_out


def test_too_few_cells_have_no_q_value(trained, adata):
    refits = cross_fit(trained, adata, max_epochs=1, progress=False)
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
    refits = cross_fit(trained, adata, max_epochs=1, progress=False)
    for group in trained.schema.groups:
        sizes = np.bincount(refits.fold_n[(adata.obs["group"] == group).to_numpy()])
        assert len(sizes) == 2 and abs(sizes[0] - sizes[1]) <= 1
    pd.testing.assert_frame_equal(trained.latents(adata)["z"], before, check_exact=True)
    lonely = adata[np.r_[np.flatnonzero(adata.obs["group"] == "group1")[:3], 60:120]].copy()
    lonely = lonely[(lonely.obs["group"] != "group1") | (np.arange(lonely.n_obs) < 3)].copy()
    with pytest.raises(DataError, match=r"group1: fewer than 4.*calibration=False, --no-q"):
        cross_fit(trained, lonely, progress=False)


def test_a_group_or_batch_without_a_cell_is_not_called_small(adata):
    cells = adata.copy()
    cells.obs["batch"] = np.resize(["b1", "b2"], adata.n_obs)
    mgvi = MGVI.from_anndata(cells, group_key="group", batch_key="batch")
    for column, name in (("group", "group2"), ("batch", "b1")):
        data = mgvi.read(cells[cells.obs[column] != name].copy())
        with pytest.raises(DataError, match=f"no cell of {name}, which .* pass all cells, and"):
            dealt_out(data, 2, 0)


def test_refits_take_as_many_steps_and_weigh_noise_by_their_cells(trained, adata, monkeypatch):
    plans, seen = [], []

    def train(program, data, plan, progress):
        plans.append(plan)
        seen.append(data.cells)
        return pd.DataFrame()

    module = import_module("pyro_mgvi.analysis.cross_fit")  # the package's name is the function's
    monkeypatch.setattr(module, "train", train)
    refits = cross_fit(trained, adata, max_epochs=1)
    assert [plan.batch_size for plan in plans] == [16, 16]
    three = cross_fit(trained, adata, max_epochs=1, folds=3)
    assert [plan.batch_size for plan in plans[2:]] == [21, 21, 21] and len(three.refits) == 3
    assert set(np.bincount(three.fold_n)) == {40}
    for fit, of_fit in ((refits, seen[:2]), (three, seen[2:])):
        for fold, cells in enumerate(of_fit):  # a fold is tested by the refit that has not seen it
            np.testing.assert_array_equal(cells, np.flatnonzero(fit.fold_n != fold))
    with pytest.raises(SettingsError, match="folds must be at least 2"):
        cross_fit(trained, adata, folds=1)
    for fold, refit in enumerate(refits.refits):
        half = adata[refits.fold_n != fold].copy()
        assert refit.own_weight == MGVI.from_anndata(half, "group").own_weight
        assert refit.own_weight["t"] > trained.own_weight["t"]
    given = MGVI.from_anndata(adata, "group", own_weight={"t": 7.0})
    assert all(x.own_weight["t"] == 7 for x in cross_fit(given, adata, max_epochs=1).refits)


def test_refits_are_trained_as_the_model_was_each_with_a_seed_of_its_own(adata, monkeypatch):
    plan = TrainingPlan(max_epochs=2, batch_size=32, search=None, prune_below=0.0, seed=5)
    mgvi = MGVI.from_anndata(adata, "group", latents=["z:3", "t:2"])
    mgvi.fit(adata, plan, progress=False)
    plans, seeds = [], []

    def train(program, data, plan, progress):
        plans.append(plan)
        seeds.append(program.seed)
        return pd.DataFrame()

    monkeypatch.setattr(import_module("pyro_mgvi.analysis.cross_fit"), "train", train)
    cross_fit(mgvi, adata)
    assert plans[0] == plans[1]
    assert (plans[0].max_epochs, plans[0].search, plans[0].prune_below) == (2, None, 0.0)
    assert plans[0].seed is None and seeds == [mgvi.seed, mgvi.seed + 1]
    cross_fit(mgvi, adata, TrainingPlan(batch_size=50), max_epochs=1)
    assert (plans[2].max_epochs, plans[2].batch_size) == (1, 25)


def test_what_a_component_cannot_do_is_not_said_of_each_refit(adata):
    with pytest.warns(ComponentWarning):
        mgvi = MGVI.from_anndata(adata, "group", decoder=AdditiveDecoder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cross_fit(mgvi, adata, max_epochs=1, progress=False)


@pytest.mark.slow
def test_refits_are_of_their_cells_in_their_order_and_of_their_model(trained, adata):
    refits = cross_fit(trained, adata, max_epochs=1, progress=False)
    own, again = {"calibration": refits, "progress": False}, adata.copy()
    again.obs_names = [f"{name}-1" for name in again.obs_names]  # the same cells by other names
    expected = trained.rank_genes(adata, "group1", **own)
    pd.testing.assert_frame_equal(trained.rank_genes(again, "group1", **own), expected)
    order = np.random.default_rng(0).permutation(120)
    renamed = adata.copy()
    renamed.obs["group"] = renamed.obs["group"].to_numpy()[::-1]
    other = MGVI.from_anndata(adata, "group", latents=["z:2", "t:1"])
    of_genes = MGVI.from_anndata(adata[:, :50], "group", latents=other.families.families)
    cases = [
        (trained, adata[order].copy(), "the same cells in another order"),
        (trained, renamed, "other groups"),
        (trained, adata[:, ::-1].copy(), None),  # read in the order of the model
        (other, adata, "another model, with other latents"),
        (of_genes, adata[:, :50].copy(), "another model, with other genes and latents"),
        (trained, adata[:100].copy(), "refits are of 120 cells, the data have 100"),
    ]
    for mgvi, data, message in cases:
        if message is None:
            pd.testing.assert_frame_equal(mgvi.rank_genes(data, "group1", **own), expected)
            continue
        with pytest.raises(DataError, match=message):
            mgvi.rank_genes(data, "group1", **own)
        with pytest.raises(DataError, match=message):
            mgvi.diagnose(data, refits=refits, progress=False)
    with pytest.raises(DataError, match="as many cells, but the data have other groups"):
        trained.diagnose(adata, refits=refits, shuffled=refits)  # not of shuffled groups
