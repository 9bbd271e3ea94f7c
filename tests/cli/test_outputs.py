"""Outputs are refused before any work, or written whole; what was there is never half lost."""

import os
import shutil
from pathlib import Path

import anndata as ad
import pandas as pd
import pytest
from helpers.fitting import untrained

from pyro_mgvi import MGVIError, SettingsError
from pyro_mgvi.cli.files import read_cells
from pyro_mgvi.cli.outputs import (
    Output,
    check_cells,
    check_outputs,
    write_cells,
    write_table,
    writing,
    zarr_encoding,
)
from pyro_mgvi.support.files.endings import Kind


def check(path, kind=Kind.CELLS, inputs=(), force=False):
    check_outputs([Output("--out", Path(path), kind)], inputs, force)


@pytest.fixture(scope="module")
def written(adata, tmp_path_factory):
    """What takes time to write, once."""
    folder = tmp_path_factory.mktemp("written")
    write_cells(adata, folder / "in.h5ad")
    write_cells(adata, folder / "in.zarr")
    untrained(adata).save(folder / "model")
    return folder


@pytest.fixture
def disk(written, tmp_path):
    """Some of everything that may be in the way."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    for name in ("folder", "folder.h5ad", "folder.csv", "folder.html", "empty.zarr", "other.zarr"):
        (tmp_path / name).mkdir()
    (tmp_path / "other.zarr" / ".zgroup").write_text("{}")
    (tmp_path / "folder" / "precious").write_text("keep")
    (tmp_path / "file").write_text("keep")
    (tmp_path / "file.zarr").write_text("keep")
    (tmp_path / "notes.h5ad").write_text("keep")
    (tmp_path / "empty.h5ad").write_text("")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to(tmp_path / "no" / "genes.csv")
    (tmp_path / "same.h5ad").symlink_to(tmp_path / "in.h5ad")
    return tmp_path


@pytest.mark.slow
def test_what_can_be_written_passes_and_leaves_nothing_behind(disk):
    before = sorted(disk.rglob("*"))
    for name in ("new.h5ad", "new.zarr", "new", "in.h5ad", "in.zarr", "empty.h5ad", "empty.zarr"):
        check(disk / name)
    check(disk / "genes.csv", Kind.TABLE)
    check(disk / "report.html", Kind.PAGE)
    check(disk / "other.model", Kind.MODEL)
    check(disk / "model", Kind.MODEL)
    check(disk / "notes.h5ad", force=True)
    assert sorted(disk.rglob("*")) == before


@pytest.mark.parametrize(
    "name, kind, message",
    [
        ("no/out.h5ad", Kind.CELLS, "the folder .*no does not exist"),
        ("no/out.zarr", Kind.CELLS, "the folder .*no does not exist"),
        ("no/genes.csv", Kind.TABLE, "the folder .*no does not exist"),
        ("link.csv", Kind.TABLE, "does not exist"),
        ("no/model", Kind.MODEL, "the folder .*no does not exist"),
        ("file/out.h5ad", Kind.CELLS, "the folder .*file is a file"),
        ("folder", Kind.CELLS, "it is a folder: name a file in it"),
        ("folder.h5ad", Kind.CELLS, "it is a folder"),
        ("folder", Kind.TABLE, "it is a folder"),
        ("folder.csv", Kind.TABLE, "it is a folder"),
        ("folder.html", Kind.PAGE, "it is a folder"),
        ("pipe.csv", Kind.TABLE, "it is no ordinary file"),
        ("/dev/null", Kind.TABLE, "it is no ordinary file"),
        ("file.zarr", Kind.CELLS, "it is a file, and zarr is a folder"),
        ("other.zarr", Kind.CELLS, "something else than annotated data"),
        ("notes.h5ad", Kind.CELLS, "exists and is no h5ad; choose another name, or pass --force"),
        ("genes.h5ad", Kind.TABLE, "named like something else; use .csv"),
        ("in.zarr", Kind.TABLE, "named like something else; use .csv"),
        ("cells.loom", Kind.CELLS, "named like something else; use .h5ad or .zarr"),
        ("genes.xlsx", Kind.TABLE, "named like something else; use .csv or .tsv"),
        ("genes.parquet", Kind.TABLE, "named like something else; use .csv"),
        ("genes.csv.zst", Kind.TABLE, "use .csv or .tsv, packed if it ends in .gz, .bz2, .xz"),
        ("report.h5ad", Kind.PAGE, "named like something else; use .html"),
        ("genes.csv", Kind.CELLS, "named like something else; use .h5ad or .zarr"),
        ("model.h5ad", Kind.MODEL, "named like something else; use no suffix"),
        ("folder", Kind.MODEL, "exists and is not a saved model"),
        ("file", Kind.MODEL, "exists and is not a saved model"),
        ("n" * 300 + ".h5ad", Kind.CELLS, "too long"),
        ("/proc/out.h5ad", Kind.CELLS, "cannot write /proc/out.h5ad"),
        ("nul\0l.csv", Kind.TABLE, "null"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(disk, name, kind, message):
    before = sorted(disk.rglob("*"))
    with pytest.raises(MGVIError, match=message) as caught:
        check(disk / name, kind)
    assert "\n" not in str(caught.value)
    assert sorted(disk.rglob("*")) == before


def test_a_protected_file_and_a_full_disk(disk, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(SettingsError, match="write-protected"):
            check(disk / "in.h5ad")

    def full(*args, **kwargs):
        raise OSError("disk is full")

    monkeypatch.setattr("pyro_mgvi.cli.outputs.tempfile.TemporaryFile", full)
    with pytest.raises(SettingsError, match="disk is full"):
        check(disk / "new.h5ad")


def test_the_input_is_overwritten_only_by_force(disk):
    for name, source in (("in.h5ad", "in.h5ad"), ("same.h5ad", "in.h5ad"), ("in.zarr", "in.zarr")):
        with pytest.raises(SettingsError, match=r"it is the input; .*pass --force"):
            check(disk / name, inputs=[disk / source])
        check(disk / name, inputs=[disk / source], force=True)
    with pytest.raises(SettingsError, match="it is in the input"):
        check(disk / "in.zarr" / "out.h5ad", inputs=[disk / "in.zarr"], force=True)
    (disk / "in.zarr" / "deep.h5ad").write_text("")
    with pytest.raises(SettingsError, match=r"the input .*deep.h5ad is in this folder"):
        check(disk / "in.zarr", inputs=[disk / "in.zarr" / "deep.h5ad"], force=True)


def test_no_output_replaces_another(disk):
    cells = Output("--out", disk / "out", Kind.CELLS)
    with pytest.raises(SettingsError, match="it is what --out names, too"):
        check_outputs([cells, Output("--model", disk / "out", Kind.MODEL)])
    inside = Output("--out", disk / "model" / "out.h5ad", Kind.CELLS)
    model = Output("--model", disk / "model", Kind.MODEL)
    for outputs in ([inside, model], [model, inside]):
        with pytest.raises(SettingsError, match="it is in the folder that --model replaces"):
            check_outputs(outputs)


@pytest.mark.parametrize("name", ["out.h5ad", "out.zarr"])
@pytest.mark.slow
def test_cells_are_written_whole_or_not_at_all(adata, tmp_path, monkeypatch, name):
    path = tmp_path / name
    small = adata[:5].copy()
    write_cells(small, path)

    def half(self, target, **settings):
        Path(target).mkdir() if name.endswith("zarr") else Path(target).write_text("half of")
        raise OSError("disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ad.AnnData, "write_h5ad", half)
        patch.setattr(ad.AnnData, "write_zarr", half)
        with pytest.raises(SettingsError, match=rf"cannot write .*{name}: disk is full"):
            write_cells(adata, path)
    assert read_cells(path).n_obs == 5 and list(tmp_path.iterdir()) == [path]
    write_cells(adata, path)
    assert (read_cells(path).X != adata.X).nnz == 0 and list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_what_anndata_cannot_write_is_one_line(adata, tmp_path):
    adata = adata.copy()
    adata.uns["mine"] = object()
    for name in ("out.h5ad", "out.zarr"):
        with pytest.raises(SettingsError, match="cannot write") as caught:
            write_cells(adata, tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_table_is_written_as_its_name_says(tmp_path):
    table = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="gene"))
    write_table(table, tmp_path / "t.csv")
    write_table(table, tmp_path / "t.tsv")
    write_table(table, tmp_path / "t.csv.gz")
    for name, separator in (("t.csv", ","), ("t.tsv", "\t"), ("t.csv.gz", ",")):
        found = pd.read_csv(tmp_path / name, sep=separator, index_col="gene")
        pd.testing.assert_frame_equal(found, table)


def test_a_ctrl_c_while_writing_leaves_what_was_there(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("the old one")
    with pytest.raises(KeyboardInterrupt), writing(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "the old one" and list(tmp_path.iterdir()) == [path]


def test_what_a_zarr_folder_holds(disk):
    found = {name: zarr_encoding(disk / name) for name in ("in.zarr", "other.zarr", "folder")}
    assert found == {"in.zarr": "anndata", "other.zarr": "unknown", "folder": None}
    assert zarr_encoding(disk / "in.h5ad") is None


def test_cells_that_cannot_be_written_are_refused_before_training(adata, tmp_path):
    named = adata.copy()
    named.raw = adata
    named.raw.var["_index"] = "x"  # as SeuratDisk leaves it
    with pytest.raises(SettingsError, match=r"cannot be .*'_index' is a reserved.*raw\.var"):
        check_cells(named, tmp_path / "out.h5ad")
    check_cells(adata, tmp_path / "out.h5ad")
    assert not any(tmp_path.iterdir())


def test_cells_are_checked_without_a_word_of_other_libraries(adata, tmp_path):
    """Warnings are errors here: anndata warns of a part of cells with repeated names."""
    repeated = adata[:4].copy()
    repeated.obs_names = ["a", "a", "b", "c"]
    check_cells(repeated, tmp_path / "out.h5ad")


def test_the_last_suffix_of_a_table_says_what_divides_it(tmp_path):
    table = pd.DataFrame({"a": [1], "b": [2]})
    for name, head in {
        "t.TSV": "a\tb",
        "t.tsv.csv": "a,b",
        "t.csv": "a,b",
        "t.tsv": "a\tb",
    }.items():
        write_table(table, tmp_path / name, index=False)
        assert (tmp_path / name).read_text().splitlines()[0] == head
    for packed in (".gz", ".bz2", ".xz", ".BZ2"):
        path = tmp_path / f"t.tsv{packed}"
        check(path, Kind.TABLE)
        write_table(table, path, index=False)
        how = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}[packed.lower()]
        assert list(pd.read_csv(path, sep="\t", compression=how)) == ["a", "b"]
