"""Files of the command line are read, or refused in one line."""

import h5py
import numpy as np
import pandas as pd
import pytest

from pyro_mgvi import DataError, SettingsError
from pyro_mgvi.cli.files import query, read_cells
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


def test_mudata_is_told_what_to_write(adata, tmp_path):
    with h5py.File(tmp_path / "in.h5mu", "w") as file:
        file.attrs["encoding-type"] = "MuData"
    (tmp_path / "in.zarr").mkdir()
    (tmp_path / "in.zarr" / ".zgroup").write_text("{}")
    (tmp_path / "in.zarr" / ".zattrs").write_text('{"encoding-type": "MuData"}')
    for name in ("in.h5mu", "in.zarr"):
        with pytest.raises(DataError, match=r"several modalities \(MuData\).*\['rna'\]"):
            read_cells(tmp_path / name)
