"""Data, settings and training are those of the fit."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers.fitting import fitted as fitted_model
from helpers.html_reader import Reader, number
from helpers.masked import masked, masks_of

import pyro_mgvi
from pyro_mgvi.report import blocks, render
from pyro_mgvi.report.result import Result
from pyro_mgvi.report.sections import inputs as section_inputs


@pytest.mark.slow
def test_data_settings_and_training_are_those_of_the_fit(fitted, page):
    adata, mgvi = fitted
    reader = Reader(page)
    table = reader.table("group", "cells").set_index("group")
    depth = np.asarray(adata.X.sum(1)).ravel()
    for name, cells in adata.obs.groupby("group", observed=True).indices.items():
        assert table.at[name, "cells"] == str(len(cells))
        assert number(table.at[name, "counts per cell"]) == round(np.median(depth[cells]))
    counts = reader.table("celltype").set_index("celltype")
    truth = pd.crosstab(adata.obs["celltype"], adata.obs["group"])
    assert (
        counts.astype(int).to_numpy() == truth.loc[counts.index, counts.columns].to_numpy()
    ).all()
    settings = dict(reader.table("setting").to_numpy())
    assert settings["batch (column of obs)"] == "donor" and settings["latents"] == "z:3 t:2"
    assert settings["covariates"] == "none" and settings["counts (layer)"] == "X"
    versions = dict(reader.table("package").to_numpy())
    assert versions["pyro-mgvi"] == pyro_mgvi.__version__
    kept = mgvi.history[mgvi.history["kept"]]
    said = f"those of epoch {kept['epoch'].item()}, whose loss on held-out cells is "
    assert said + f"{kept['validation'].item():,.2f} nats per cell" in page


def training_of(adata, history):
    """Return what the section on training says of another history."""
    adata = adata.copy()
    adata.uns["mgvi"] = dict(adata.uns["mgvi"]) | {"history": history}
    return section_inputs.training(Result.read(adata)).blocks[0].text


@pytest.mark.slow
def test_the_epoch_told_is_that_whose_weights_were_kept_not_that_of_the_lowest_loss(fitted):
    adata, mgvi = fitted
    history, loss = mgvi.history, mgvi.history["validation"]
    kept = history.assign(kept=history.index == loss.idxmax())
    assert f"those of epoch {history['epoch'][loss.idxmax()]}," in training_of(adata, kept)
    earlier = history.drop(columns="kept")  # of earlier versions, which did not record it
    assert f"those of epoch {history['epoch'][loss.idxmin()]}," in training_of(adata, earlier)


def test_depth_is_that_of_the_rounded_counts_that_were_fitted(adata):
    cells = adata.copy()
    less = np.random.default_rng(0).uniform(0, 0.9, cells.shape)
    cells.X = np.maximum(cells.X.toarray() - less, 0).astype(np.float32)
    mgvi = pyro_mgvi.MGVI.from_anndata(cells, "group", round_counts=True, latents=["z:2"])
    mgvi.write_latents(cells)
    rounded = np.rint(cells.X)
    for model in (mgvi, None):
        section = section_inputs.data(Result.read(cells, model))
        table = next(
            item.frame for item in section.blocks[-1].items if isinstance(item, blocks.Table)
        )
        for group, row in table.set_index("group").iterrows():
            own = rounded[(cells.obs["group"] == group).to_numpy()]
            assert row["counts per cell"] == round(np.median(own.sum(1)))
            assert row["genes per cell"] == round(np.median((own > 0).sum(1)))


def test_without_validation_or_history_no_epoch_is_said_to_be_kept(fitted):
    adata, mgvi = fitted
    for history in (
        mgvi.history.drop(columns="validation"),
        mgvi.history.assign(validation=np.nan),
    ):
        assert training_of(adata, history) == "12 epochs."
    assert "no history" in training_of(adata, mgvi.history[:0])


@pytest.mark.slow
def test_without_counts_the_latents_are_still_shown(fitted):
    adata = fitted[0].copy()
    adata.X = None
    reader = Reader(render(adata, progress=False))
    assert any("adata.X is empty" in text for text in reader.texts["p"])
    assert reader.table("group", "cells")["cells"].astype(int).sum() == adata.n_obs


def by_group(adata, *labels):
    result = Result.read(adata, labels=labels)
    return section_inputs.data(result).blocks[-1].items[-1]


def test_cells_without_a_label_are_no_row_and_are_counted(fitted):
    adata = fitted[0].copy()
    adata.obs["some"] = adata.obs["celltype"].where(np.arange(120) % 4 > 0)
    table = by_group(adata, "some")
    truth = pd.crosstab(adata.obs["some"], adata.obs["group"])
    assert list(table.frame["some"]) == list(truth.index) and len(truth) == 5
    np.testing.assert_array_equal(table.frame.iloc[:, 1:], truth)
    assert table.caption == "Cells of each some, by group. 30 cells have none and are left out."


def test_a_table_of_very_many_levels_has_a_row_for_the_others(fitted):
    adata = fitted[0].copy()
    adata.obs["score"] = np.linspace(0, 1, 120)
    adata.obs["clone"] = [f"clone {i}" for i in range(120)]
    table = by_group(adata, "score", "clone")  # of the first that is no number
    assert len(table.frame) == 33 and table.frame.iloc[-1, 0] == "other (88 levels)"
    assert table.frame.iloc[:, 1:].to_numpy().sum() == 120


def test_an_interrupted_training_is_said_to_be_one(fitted):
    adata = fitted[0].copy()
    for interrupted in (True, False):
        adata.uns["mgvi"] = dict(adata.uns["mgvi"]) | {"interrupted": interrupted}
        text = section_inputs.training(Result.read(adata)).blocks[0].text
        assert ("Training was interrupted (Ctrl-C or an error)" in text) == interrupted


@pytest.mark.parametrize("name", ["cells", "counts per cell"])
def test_a_group_key_may_have_the_name_of_a_column_of_the_table(fitted, name):
    adata = fitted[0].copy()
    adata.obs[name] = adata.obs["group"]
    recorded = json.loads(adata.uns["mgvi"]["settings"]) | {"group_key": name}
    adata.uns["mgvi"] = dict(adata.uns["mgvi"]) | {"settings": json.dumps(recorded)}
    result = Result.read(adata, labels=["celltype"])
    table = section_inputs.data(result).blocks[-1].items[1]
    sizes = adata.obs["group"].value_counts()
    assert [row[:2] for row in table.rows] == [[name, str(sizes[name])] for name in result.groups]


def test_many_groups_are_rows(adata):
    cells = adata.copy()
    cells.obs["group"] = [f"g{i % 10}" for i in range(120)]
    mgvi = pyro_mgvi.MGVI.from_anndata(cells, "group", latents=[pyro_mgvi.shared(2)])
    mgvi.fit(cells, max_epochs=1, progress=False)
    mgvi.write_latents(cells)
    table = section_inputs.data(Result.read(cells, mgvi, labels=["celltype"])).blocks[-1].items[-1]
    truth = pd.crosstab(cells.obs["group"], cells.obs["celltype"])
    assert list(table.frame["group"]) == list(truth.index) and len(truth) == 10
    np.testing.assert_array_equal(table.frame[list(truth.columns)], truth)


@pytest.mark.slow
def test_depth_is_of_the_genes_that_a_group_has_and_transformed_values_have_none(adata):
    has_bg = (np.arange(60) % np.array([[2], [3], [5]]) > 0) | (np.arange(60) % 30 == 0)
    cells = masked(adata, has_bg, fill=np.nan)
    mgvi = fitted_model(cells, feature_masks=masks_of(cells))
    mgvi.write_latents(cells, progress=False)
    found = Reader(render(cells, mgvi, progress=False)).table("group", "cells").set_index("group")
    for group in found.index:
        mine = np.nan_to_num(cells.X[(cells.obs["group"] == group).to_numpy()])
        assert number(found.at[group, "counts per cell"]) == round(np.median(mine.sum(1)))
    assert "the model knows which" in render(cells, progress=False)
    logs = adata.copy()
    logs.X = np.log1p(adata.X.toarray())
    gaussian = fitted_model(logs, likelihood=pyro_mgvi.Gaussian)
    gaussian.write_latents(logs, progress=False)
    page = render(logs, gaussian, progress=False)
    assert "transformed: they have no depth" in page and "counts per cell" not in page
