"""Hotspot: planted genes are found, whatever the form of the counts."""

import sys

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from pyro_mgvi import DataError, SettingsError
from pyro_mgvi.baselines import hotspot


@pytest.mark.slow  # what it compiles takes longer than the rest
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_hotspot_finds_genes_that_follow_the_latent(form, capsys):
    pytest.importorskip("hotspot", reason="needs the extra benchmark")
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(200, 2))
    counts = rng.poisson(3.0, size=(200, 30)).astype(np.float32)
    counts[:, :5] = rng.poisson(3 * np.exp(0.5 * latent[:, :1]), size=(200, 5))
    counts[:, 7] = 4.0
    latent[150:] = np.nan  # foreign cells
    adata = anndata.AnnData(form(counts))
    table = hotspot(adata, latent)
    assert table.index.name == "gene"
    assert set(table.index[:5]) == set("01234") and table["score"].iloc[4] > 3
    assert abs(table["score"].iloc[5:-1].mean()) < 1  # others: about standard normal
    assert table.index[-1] == "7" and np.isnan(table["score"].iloc[-1])
    again = hotspot(adata[:150].copy(), latent[:150])
    np.testing.assert_array_equal(table["score"], again["score"])
    adata.layers["raw"], adata.X = adata.X, None
    np.testing.assert_array_equal(hotspot(adata, latent, layer="raw")["score"], table["score"])
    names = adata.obs_names
    chosen = pd.Series(np.arange(200) < 100, names)
    part = hotspot(adata, latent, np.arange(200) < 100, layer="raw")["score"]
    for cells in (chosen.sample(frac=1, random_state=0), list(names[:100])):
        np.testing.assert_array_equal(hotspot(adata, latent, cells, layer="raw")["score"], part)
    assert not capsys.readouterr().err  # no progress bars


def test_bad_input_is_explained(mgvi, adata, monkeypatch):
    latent = mgvi.latents(adata)["t_group1"]
    for values, cells, message in (
        (latent.to_numpy()[:5], None, "latent is of 5 cells, adata of 120"),
        (latent[::-1], None, "align them by name"),
        (np.full((120, 1), "a"), None, "a latent is numbers"),
        (latent, np.ones(5, bool), "boolean mask"),
        (latent, ["nobody"], "unknown cell"),
        (latent, np.arange(120) < 31, "30 neighbours"),
        (0 * latent, None, "the same in all"),
    ):
        with pytest.raises(DataError, match=message):
            hotspot(adata, values, cells)
    with pytest.raises(DataError, match="layer 'nope' is not in adata"):
        hotspot(adata, latent, layer="nope")
    monkeypatch.setitem(sys.modules, "hotspot", None)
    with pytest.raises(
        SettingsError, match=r'hotspot cannot.*pip install "pyro-mgvi\[benchmark\]"'
    ):
        hotspot(adata, latent)
