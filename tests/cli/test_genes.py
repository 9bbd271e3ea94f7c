"""``fit --genes``: a part of the genes is modelled, and the whole file goes on being of use."""

import json

import anndata as ad
import numpy as np
import pytest

from pyro_mgvi import MGVI, choose_genes
from pyro_mgvi.cli.main import main
from pyro_mgvi.data.stores import on_disk


@pytest.fixture
def h5ad(adata, tmp_path):
    adata.write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "in.h5ad"


def fit(*options):
    return main(["fit", *map(str, options), "--group-key", "group", "--epochs", "1", "--quiet"])


@pytest.mark.parametrize("backed", [False, True])
def test_chosen_genes_are_modelled_and_all_are_kept(
    h5ad, adata, tmp_path, capsys, monkeypatch, backed
):
    if backed:
        monkeypatch.setattr(on_disk, "IN_MEMORY", 0.0)
    out, model, table = (tmp_path / name for name in ("out.h5ad", "model", "genes.csv"))
    more = ["--backed"] if backed else []
    assert fit(h5ad, "--genes", 25, "--out", out, "--model", model, *more) == 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "25 of 60 genes" in said and "35 are left out" in said
    result = ad.read_h5ad(out)
    assert list(result.var_names) == list(adata.var_names)
    assert json.loads(result.uns["mgvi"]["settings"])["genes_left_out"] == 35
    mgvi = MGVI.load(model)
    chosen = choose_genes(adata, 25, "group")
    assert list(mgvi.schema.genes) == list(adata.var_names[chosen])
    np.testing.assert_allclose(mgvi.latents(adata)["z"], result.obsm["X_mgvi_z"], atol=1e-5)
    capsys.readouterr()
    options = ["--group", "group1", "--no-q", "--quiet", "--out", table]
    assert main(["rank-genes", *map(str, [model, out, *options])]) == 0
    assert "not trained on" not in capsys.readouterr().err


@pytest.mark.parametrize("number", [1, 0, -3, 61])
def test_a_number_of_genes_that_there_are_not_is_refused(h5ad, tmp_path, capsys, number):
    assert fit(h5ad, f"--genes={number}", "--out", tmp_path / "out.h5ad") == 2
    bound = "at most 60" if number > 2 else "at least 2"
    assert f"--genes must be {bound}, not {number}" in capsys.readouterr().err
    assert not (tmp_path / "out.h5ad").exists()


def test_cells_without_a_chosen_gene_can_be_dropped(adata, tmp_path, capsys):
    adata = adata.copy()
    x = adata.X.toarray()
    adata.X = x
    while x[4, chosen := choose_genes(adata, 25, "group").to_numpy()].any():
        x[4, chosen] = 0  # which changes the choice a little
    adata.write_h5ad(tmp_path / "in.h5ad")
    assert fit(tmp_path / "in.h5ad", "--genes", 25, "--out", tmp_path / "out.h5ad") == 2
    assert adata.obs_names[4] in capsys.readouterr().err
    drop = ["--drop-empty", "--out", tmp_path / "out.h5ad"]
    assert fit(tmp_path / "in.h5ad", "--genes", 25, *drop) == 0
    assert ad.read_h5ad(tmp_path / "out.h5ad").n_obs == adata.n_obs - 1
