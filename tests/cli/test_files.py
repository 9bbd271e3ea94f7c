"""Files of the command line are read or refused, and written whole or not at all."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from pyro_mgvi import DataError, SettingsError
from pyro_mgvi.cli.files import query, read_h5ad, writable, write_h5ad


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


def test_what_is_no_h5ad_is_refused(tmp_path):
    (tmp_path / "text.h5ad").write_text("not hdf5")
    for name, message in (
        ("none.h5ad", "none.h5ad does not exist"),
        ("text.h5ad", "text.h5ad cannot be read as h5ad"),
        (".", "does not exist: name an h5ad file"),
    ):
        with pytest.raises(DataError, match=message):
            read_h5ad(tmp_path / name)


def test_a_path_that_cannot_be_written_is_refused_and_nothing_is_left_behind(tmp_path):
    for name in ("folder.h5ad", "folder.csv", "folder.html"):
        (tmp_path / name).mkdir()
        with pytest.raises(SettingsError, match="it is a folder"):
            writable(tmp_path / name)
    (tmp_path / "file").write_text("no folder")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SettingsError, match=r"the folder .* does not exist"):
        writable(tmp_path / "no" / "out.h5ad")
    with pytest.raises(SettingsError, match="cannot be made"):
        writable(tmp_path / "file" / "out.h5ad", make_folder=True)
    writable(tmp_path / "out.h5ad")
    writable(tmp_path / "out.mgvi")
    assert sorted(tmp_path.rglob("*")) == before
    writable(tmp_path / "new" / "deep" / "out.h5ad", make_folder=True)
    assert list((tmp_path / "new" / "deep").iterdir()) == []


def test_a_full_disk_is_refused_before_any_work(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("disk is full")

    monkeypatch.setattr("pyro_mgvi.cli.files.tempfile.TemporaryFile", full)
    with pytest.raises(SettingsError, match="disk is full"):
        writable(tmp_path / "out.h5ad")


def test_an_h5ad_is_written_whole_or_not_at_all(adata, tmp_path, monkeypatch):
    path = tmp_path / "out.h5ad"
    path.write_text("the old one")

    def half(self, target, **settings):
        Path(target).write_text("half of")
        raise OSError("disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ad.AnnData, "write_h5ad", half)
        with pytest.raises(OSError, match="disk is full"):
            write_h5ad(adata, path)
    assert path.read_text() == "the old one" and list(tmp_path.iterdir()) == [path]
    write_h5ad(adata, path)
    assert (read_h5ad(path).X != adata.X).nnz == 0 and list(tmp_path.iterdir()) == [path]
