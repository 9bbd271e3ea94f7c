"""Masks of features from the shell: read, kept with the model, and told in the table's legend."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers.masked import masked

from pyro_mgvi import MGVI
from pyro_mgvi.cli.main import main
from pyro_mgvi.data.stores import on_disk


@pytest.fixture
def h5ad(adata, tmp_path):
    has_bg = np.ones((3, adata.n_vars), bool)
    has_bg[0, 4:7], has_bg[2, 9] = False, False
    cells = masked(adata, has_bg)
    cells.varm["has"] = pd.DataFrame(has_bg.T, cells.var_names, ["group1", "group2", "group3"])
    cells.write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad"


def fit(h5ad, *masks):
    where = ["--out", h5ad.parent / "out.h5ad", "--model", h5ad.parent / "model"]
    options = ["fit", h5ad, "--group-key", "group", "--feature-mask", *masks, *where]
    return main([*map(str, options), "--epochs", "2", "--quiet"])


@pytest.mark.parametrize(
    "masks", [["group1=in_group1", "group2=in_group2", "group3=in_group3"], ["has"]]
)
def test_masks_are_columns_or_a_table(h5ad, masks):
    assert fit(h5ad, *masks) == 0
    mgvi, cells = MGVI.load(h5ad.parent / "model"), ad.read_h5ad(h5ad)
    absent = {"group1": tuple(cells.var_names[4:7]), "group3": (cells.var_names[9],)}
    assert mgvi.schema.absent == absent
    result = ad.read_h5ad(h5ad.parent / "out.h5ad")
    np.testing.assert_array_equal(mgvi.latents(cells)["z"], result.obsm["X_mgvi_z"])


def test_counts_that_stay_in_their_file_are_masked_as_well(h5ad, monkeypatch):
    monkeypatch.setattr(on_disk, "IN_MEMORY", 0.0)
    assert fit(h5ad, "has", "--backed") == 0
    mgvi, cells = MGVI.load(h5ad.parent / "model"), ad.read_h5ad(h5ad)
    result = ad.read_h5ad(h5ad.parent / "out.h5ad")
    z = mgvi.latents(cells)["z"].to_numpy()
    np.testing.assert_allclose(result.obsm["X_mgvi_z"], z, rtol=1e-4, atol=1e-5)
    assert set(mgvi.schema.absent) == {"group1", "group3"}


def test_a_ranking_says_which_genes_have_no_row(h5ad, capsys):
    fit(h5ad, "has")
    out = h5ad.parent / "genes.csv"
    model = str(h5ad.parent / "model")
    options = ["rank-genes", model, str(h5ad), "--group", "group1", "--no-q", "--out", str(out)]
    assert main([*options, "--quiet"]) == 0
    assert "3 genes have no row" in capsys.readouterr().out
    assert len(pd.read_csv(out)) == 57


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (["group1=in_group1", "in_group2"], "'in_group2' is no GROUP=COLUMN"),
        (["group1=in_group1", "group1=in_group2"], "names group 'group1' twice"),
        (["group1="], "'group1=' is no GROUP=COLUMN"),
        (["group1=in_group1"], "say nothing of group(s) group2, group3"),
        (["nothing"], "neither a table in adata.varm nor the start of keys"),
    ],
)
def test_wrong_masks_are_refused_in_one_line(h5ad, capsys, masks, message):
    assert fit(h5ad, *masks) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (h5ad.parent / "out.h5ad").exists()
