"""Data, settings and training are those of the fit."""

import numpy as np
import pandas as pd
import pytest
from helpers.html_reader import Reader, number

import pyro_mgvi
from pyro_mgvi.report import render, section_inputs
from pyro_mgvi.report.result import Result


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


def test_the_epoch_told_is_that_whose_weights_were_kept_not_that_of_the_lowest_loss(fitted):
    adata, mgvi = fitted
    history, loss = mgvi.history, mgvi.history["validation"]
    kept = history.assign(kept=history.index == loss.idxmax())
    assert f"those of epoch {history['epoch'][loss.idxmax()]}," in training_of(adata, kept)
    earlier = history.drop(columns="kept")  # of earlier versions, which did not record it
    assert f"those of epoch {history['epoch'][loss.idxmin()]}," in training_of(adata, earlier)


def test_without_validation_or_history_no_epoch_is_said_to_be_kept(fitted):
    adata, mgvi = fitted
    for history in (
        mgvi.history.drop(columns="validation"),
        mgvi.history.assign(validation=np.nan),
    ):
        assert training_of(adata, history) == "12 epochs."
    assert "no history" in training_of(adata, mgvi.history[:0])


def test_without_counts_the_latents_are_still_shown(fitted):
    adata = fitted[0].copy()
    adata.X = None
    reader = Reader(render(adata, progress=False))
    assert any("adata.X is empty" in text for text in reader.texts["p"])
    assert reader.table("group", "cells")["cells"].astype(int).sum() == adata.n_obs
