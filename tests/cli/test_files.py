"""Files of the command line are read, or refused in one line."""

import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from pyro_mgvi import DataError, SettingsError
from pyro_mgvi.cli.files import check_chunks, query, read_cells
from pyro_mgvi.cli.outputs import write_cells


def test_a_query_gives_a_mask_of_the_cells(adata):
    mask = query(adata, "celltype == 'T1' and group != 'group2'")
    obs = adata.obs
    assert mask.dtype == bool and 0 < mask.sum() < adata.n_obs
    np.testing.assert_array_equal(mask, (obs["celltype"] == "T1") & (obs["group"] != "group2"))


def test_a_query_takes_an_unknown_value_for_false(adata):
    adata = adata.copy()
    healthy = pd.array([True, False, pd.NA] * 40, dtype="boolean")
    adata.obs["healthy"] = pd.Series(healthy, index=adata.obs_names)
    np.testing.assert_array_equal(query(adata, "healthy"), [True, False, False] * 40)


@pytest.mark.parametrize(
    "where, message",
    [
        ("organ == 1", "does not work on obs: .*its columns are group, celltype"),
        ("celltype ==", "does not work"),
        ("@os.getcwd()", "does not work"),
        ("__import__('os')", "does not work"),
        ("celltype", "is not true or false for each cell"),
        ("1 == 1", "is not true or false for each cell"),
    ],
)
def test_a_query_that_tells_no_cells_is_refused(adata, where, message):
    with pytest.raises(SettingsError, match=message) as caught:
        query(adata, where)
    assert "\n" not in str(caught.value)


def test_what_is_no_annotated_data_is_refused(adata, tmp_path):
    (tmp_path / "text.h5ad").write_text("not hdf5")
    (tmp_path / "text.zarr").write_text("not a folder")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    with h5py.File(tmp_path / "other.h5ad", "w") as file:
        file["table"] = [1, 2]
    for name, message in (
        ("none.h5ad", "none.h5ad does not exist: name an h5ad file or a zarr folder"),
        ("text.h5ad", "text.h5ad cannot be read as h5ad"),
        ("text.zarr", "text.zarr cannot be read as h5ad"),
        ("folder", "folder is a folder and no zarr"),
        ("broken.zarr", "broken.zarr cannot be read as zarr"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            read_cells(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_both_formats_are_told_by_what_is_there(adata, tmp_path):
    write_cells(adata, tmp_path / "a.h5ad")
    write_cells(adata, tmp_path / "a.zarr")
    (tmp_path / "a.h5ad").rename(tmp_path / "one")
    (tmp_path / "a.zarr").rename(tmp_path / "other")
    for name in ("one", "other"):
        found = read_cells(tmp_path / name)
        assert (found.X != adata.X).nnz == 0
        pd.testing.assert_frame_equal(found.obs, adata.obs)


@pytest.mark.parametrize("part", ["data", "indices", "indptr"])
@pytest.mark.slow
def test_a_zarr_that_has_lost_a_chunk_is_refused(adata, tmp_path, part):
    path = tmp_path / "a.zarr"
    write_cells(adata, path)
    assert read_cells(path).n_obs == adata.n_obs
    described = {"zarr.json", ".zarray", ".zattrs"}
    files = (path / "X" / part).rglob("*")
    chunk = next(file for file in files if file.is_file() and file.name not in described)
    chunk.unlink()
    with pytest.raises(DataError, match=rf"has lost 1 of \d+ chunk\(s\) of X/{part}: copy the"):
        read_cells(path)


@pytest.mark.slow
def test_zeros_that_zarr_has_not_written_are_no_lost_chunk(adata, tmp_path):
    """Dense matrices, rows without values, first genes alone, and zeros that nobody asked for."""
    path, cells = tmp_path / "a.zarr", adata[:20].copy()
    whole = sparse.csr_matrix(cells.X)
    cells.layers["dense"] = whole.toarray()
    cells.layers["none"] = sparse.csr_matrix(cells.shape)
    first = np.ones(20), np.zeros(20, int), np.arange(21)
    cells.layers["first"] = sparse.csr_matrix(first, shape=cells.shape)
    cells.layers["zeros"] = whole.copy()
    cells.layers["zeros"].data[:] = 0
    write_cells(cells, path)
    for layer in (None, "dense", "none", "first"):
        found = read_cells(path, layer=layer)
    assert (found.layers["zeros"] != cells.layers["zeros"]).nnz == 0
    with pytest.raises(
        DataError, match=r"1 of 1 chunk\(s\) of layers/zeros/data: .*eliminate_zeros"
    ):
        read_cells(path, layer="zeros")
    cells.X = whole.toarray()
    write_cells(cells, path)
    np.testing.assert_array_equal(read_cells(path).X, cells.X)


@pytest.mark.slow
def test_shards_hold_more_chunks_than_there_are(tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3.0")
    values = sparse.csr_matrix(np.arange(1, 101.0).reshape(10, 10))
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=3)
    x = root.create_group("X", attributes={"encoding-type": "csr_matrix"})
    for name in ("data", "indices", "indptr"):
        x.create_array(name, data=vars(values)[name], chunks=(10,), shards=(40,))
    check_chunks(tmp_path / "a.zarr")
    shutil.rmtree(tmp_path / "a.zarr" / "X" / "data" / "c")
    with pytest.raises(DataError, match=r"has lost 10 of 10 chunk\(s\) of X/data"):
        check_chunks(tmp_path / "a.zarr")


def test_mudata_is_told_what_to_write(adata, tmp_path):
    with h5py.File(tmp_path / "in.h5mu", "w") as file:
        file.attrs["encoding-type"] = "MuData"
    (tmp_path / "in.zarr").mkdir()
    (tmp_path / "in.zarr" / ".zgroup").write_text("{}")
    (tmp_path / "in.zarr" / ".zattrs").write_text('{"encoding-type": "MuData"}')
    for name in ("in.h5mu", "in.zarr"):
        with pytest.raises(DataError, match=r"several modalities \(MuData\).*\['rna'\]"):
            read_cells(tmp_path / name)
