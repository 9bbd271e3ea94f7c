"""Files that do not fit together are refused, with what is at fault."""

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from pyro_mgvi import DataError
from pyro_mgvi.cli.arguments import parser
from pyro_mgvi.cli.outputs import write_cells
from pyro_mgvi.cli.several.checks import check_parts
from pyro_mgvi.cli.several.parts import keys_of, opened


def checked(*paths, more=()):
    arguments = parser().parse_args(["fit", *map(str, paths), "--group-key", "group", *more])
    with opened(arguments.inputs) as parts:
        check_parts(parts, arguments)
        return [(part.key, len(part.cells), len(part.genes)) for part in parts]


@pytest.fixture
def pair(adata, tmp_path):
    """Return a function that writes two files, the second as it is changed, and their paths."""

    def written(change=lambda cells: cells):
        paths = tmp_path / "a.h5ad", tmp_path / "b.h5ad"
        first = adata[:60].copy()
        first.obs["note"] = [f"cell {i}" for i in range(60)]
        first.write_h5ad(paths[0])
        change(adata[60:].copy()).write_h5ad(paths[1])
        return paths

    return written


def test_parts_are_named_and_counted(pair):
    assert checked(*pair()) == [("a", 60, 60), ("b", 60, 60)]


def test_files_of_one_name_are_told_by_their_folders():
    assert keys_of([Path("x/a.h5ad"), Path("y/a.h5ad")]) == ["x_a", "y_a"]
    assert keys_of([Path("x/a.h5ad"), Path("x/a.zarr")]) == ["x/a.h5ad", "x/a.zarr"]


def with_x(make):
    def change(cells):
        cells.X = make(cells.X)
        return cells

    return change


def renamed(cells):
    cells.var_names = ["other", "another", *cells.var_names[2:]]
    return cells


def twice(cells):
    cells.var_names = [cells.var_names[1], *cells.var_names[1:]]
    return cells


def with_donors(cells):
    cells.obs["celltype"] = np.arange(cells.n_obs)
    return cells


def with_column(values):
    def change(cells):
        cells.obs["note"] = values
        return cells

    return change


def without_x(cells):
    return ad.AnnData(obs=cells.obs, var=cells.var)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            with_x(lambda x: x.astype(np.float64)),
            "X of .*b.h5ad holds float64 values, that of",
        ),
        (with_x(lambda x: x.toarray()), "X of .*b.h5ad is stored as array, .* as csr_matrix"),
        (with_x(sparse.csc_matrix), "X of .*b.h5ad is stored by genes"),
        (
            renamed,
            r"b.h5ad lacks .* of .*a.h5ad \(2 genes are in the latter alone, 2 in",
        ),
        (lambda cells: cells[:, :50].copy(), r"\(10 genes are in the latter alone, 0 in the"),
        (twice, "gene '.*' is in .*b.h5ad more than once"),
        (without_x, "b.h5ad has no X"),
        (with_donors, r"obs\['celltype'\] is text in .*a.h5ad and numbers in .*b.h5ad"),
    ],
)
def test_files_that_do_not_fit_together(pair, change, message):
    with pytest.raises(DataError, match=message) as caught:
        checked(*pair(change))
    assert "\n" not in str(caught.value)


def test_a_column_that_cannot_be_joined_is_named(pair, monkeypatch):
    """What can depends on the releases of anndata and pandas."""

    def refusing(tables):
        raise TypeError("these two kinds do not go together")

    paths = pair(with_column(pd.Categorical([None] * 59 + ["x"])))
    monkeypatch.setattr("pyro_mgvi.cli.several.checks.concat", refusing)
    with pytest.raises(DataError, match=r"obs\['note'\] is stored as .* store it alike"):
        checked(*paths)


def test_a_file_with_more_genes_says_which(pair, adata):
    paths = pair()
    adata[:60, :50].copy().write_h5ad(paths[0])
    with pytest.raises(DataError, match=r"b.h5ad has .* beside those of .*a.h5ad"):
        checked(*paths)


def test_genes_of_other_names_have_nothing_in_common(pair):
    def other(cells):
        cells.var_names = [f"ENSG{i}" for i in range(60)]
        return cells

    with pytest.raises(DataError, match="no gene is in all files"):
        checked(*pair(other), more=["--common-genes"])


def test_a_file_that_was_not_written_by_anndata_may_lack_a_part(pair):
    paths = pair()
    with h5py.File(paths[1], "r+") as file:
        del file["varm"]
    with pytest.raises(DataError, match=r"b.h5ad lacks 'varm'.*write it again"):
        checked(*paths)


def test_no_file_is_taken_twice_or_missing(pair, tmp_path):
    first, _ = pair()
    with pytest.raises(DataError, match="named twice"):
        checked(first, tmp_path / "." / "a.h5ad")
    with pytest.raises(DataError, match=r"c.h5ad does not exist"):
        checked(first, tmp_path / "c.h5ad")


def test_what_is_no_annotated_data_is_refused(pair, tmp_path):
    first, second = pair()
    second.write_text("no file of counts")
    with pytest.raises(DataError, match=r"b.h5ad cannot be read"):
        checked(first, second)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["data", "indices"])
def test_a_zarr_that_has_lost_a_chunk_is_refused(pair, adata, tmp_path, lost):
    first, _ = pair()
    write_cells(adata[60:].copy(), tmp_path / "b.zarr")
    described = {"zarr.json", ".zarray", ".zattrs"}
    files = (tmp_path / "b.zarr" / "X" / lost).rglob("*")
    next(path for path in files if path.is_file() and path.name not in described).unlink()
    with pytest.raises(DataError, match=rf"b.zarr has lost 1 of 1 chunk\(s\) of X/{lost}"):
        checked(first, tmp_path / "b.zarr")
