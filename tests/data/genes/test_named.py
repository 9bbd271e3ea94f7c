"""Genes that are named are read, and nothing is said of the others."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers.cells import G, make, read
from helpers.masked import masked, masks_of
from scipy import sparse

from pyro_mgvi import MGVI, DataError, GroupedCounts, choose_genes, private, shared
from pyro_mgvi.data.genes.named import positions
from pyro_mgvi.data.stores import on_disk

NAMES = ["gene3", "gene0", "gene4"]
KEPT = np.array([True, False, False, True, True])


@pytest.mark.parametrize(
    "given",
    [
        NAMES,
        tuple(NAMES),
        np.array(NAMES),
        pd.Index(NAMES),
        KEPT,
        KEPT.tolist(),
        pd.Series(KEPT, [f"gene{i}" for i in range(G)]),
        pd.Series(KEPT, [f"gene{i}" for i in range(G)])[::-1],
    ],
    ids=lambda given: type(given).__name__,
)
def test_all_ways_to_name_genes_are_those_of_the_part(given):
    adata = make()
    data, part = read(adata, genes=given), read(adata[:, KEPT].copy())
    assert data.schema.genes == part.schema.genes == ("gene0", "gene3", "gene4")
    np.testing.assert_array_equal(data.x.toarray(), part.x.toarray())
    assert data.schema.left_out == 2 and "3 of 5 genes" in repr(data)


def test_those_of_adata_raw_are_chosen_there():
    adata = make()
    other = adata[:, :2].copy()
    other.raw = adata
    assert read(other, use_raw=True, genes=NAMES).schema.genes == ("gene0", "gene3", "gene4")


@pytest.mark.parametrize("stored", [False, True])
def test_masks_are_those_of_the_chosen_genes(tmp_path, monkeypatch, stored):
    adata = make()
    adata.obs["group"] = adata.obs["tissue"]
    has_bg = np.array([[1, 0, 1, 1, 1], [1, 1, 1, 0, 1]], bool)
    filled = masked(adata, has_bg)
    part = filled[:, KEPT].copy()
    if stored:
        filled.X = sparse.csr_matrix(filled.X)
        filled.write_h5ad(tmp_path / "x.h5ad")
        monkeypatch.setattr(on_disk, "IN_MEMORY", 0.0)
        filled = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    masks = masks_of(adata)
    data = GroupedCounts.from_anndata(filled, "group", feature_masks=masks, genes=NAMES)
    whole = GroupedCounts.from_anndata(part, "group", feature_masks=masks)
    assert data.schema.absent == whole.schema.absent == {"b": ("gene3",)}
    assert (data.buffer is not None) == stored
    np.testing.assert_array_equal(np.asarray(sparse.csr_matrix(data.x).toarray()), whole.x)


def test_groups_must_share_a_chosen_gene():
    adata = make()
    adata.obs["group"] = adata.obs["tissue"]
    filled = masked(adata, np.array([[1, 1, 0, 0, 1], [0, 0, 1, 1, 1]], bool))
    with pytest.raises(DataError, match="share no feature with any other group"):
        read(filled, group_key="group", feature_masks=masks_of(adata), genes=["gene0", "gene3"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gene0", "must be a list of names or the result of choose_genes, not 'gene0'"),
        (3, "must be a list of names"),
        (["gene0", "CD3D"], "names 1 gene.s. that the data have not got: CD3D"),
        (["gene0", "gene0"], "genes names a gene twice: gene0; name each once"),
        (["gene0", None], r"genes lacks 1 name\(s\) \(NaN\), at position 1"),
        ([b"gene0", b"gene1"], r"genes holds bytes, not text \(b'gene0', b'gene1'\)"),
        (KEPT.astype(int), r"0 and 1 for each gene: make them truth values, astype\(bool\)"),
        (pd.Series(KEPT, dtype=float), "0 and 1 for each gene"),
        (pd.Series(KEPT, dtype="boolean").mask(~KEPT), r"\(NA\) at position 1, 2: fill it in"),
        ([*KEPT[:4], None], r"neither True nor False \(NA\) at position 4"),
        ([True, False], "holds 2 truth values, and there are 5 genes"),
        (pd.Series([True, True], ["gene0", "CD3D"]), "have not got: CD3D"),
        (["gene0"], "the data have 1 gene"),
        ([], "the data have 0 gene"),
    ],
)
def test_other_genes_are_refused_by_name(given, message):
    with pytest.raises(DataError, match=message):
        read(make(), genes=given)


def test_a_cell_without_a_count_of_the_chosen_genes_is_named():
    adata = make()
    adata.X = adata.X.toarray()
    adata.X[2, KEPT] = 0
    with pytest.raises(DataError, match="have no counts of the chosen genes: cell2"):
        read(adata, genes=NAMES)
    assert len(read(adata, genes=NAMES, drop_empty=True)) == adata.n_obs - 1


def test_positions_are_in_the_order_of_the_data():
    assert positions(pd.Index(["a", "b", "c"]), ["c", "a"]).tolist() == [0, 2]


def test_a_model_of_chosen_genes_takes_the_whole_data_without_a_word(adata, tmp_path):
    chosen = choose_genes(adata, 30, "group")
    latents = (shared(3), private(2))
    mgvi = MGVI.from_anndata(adata, "group", genes=chosen, latents=latents)
    of_part = MGVI.from_anndata(adata[:, chosen].copy(), "group", latents=latents)
    for model, cells in ((mgvi, adata), (of_part, adata[:, chosen].copy())):
        model.fit(cells, max_epochs=1, progress=False)
    mgvi.save(tmp_path / "model")
    loaded = MGVI.load(tmp_path / "model")
    assert loaded.schema == mgvi.schema and loaded.schema.left_out == adata.n_vars - 30
    ours, theirs = loaded.latents(adata), of_part.latents(adata[:, chosen].copy())
    for key, table in theirs.items():
        np.testing.assert_array_equal(ours[key], table)
    ranking = loaded.rank_genes(adata, "group1", calibration=False, progress=False)
    assert set(ranking.index) == set(adata.var_names[chosen])
