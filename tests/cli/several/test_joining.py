"""Several files from the shell: joined as anndata does it, whatever order their genes are in."""

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from pyro_mgvi import DataError, SettingsError
from pyro_mgvi.cli.main import main
from pyro_mgvi.cli.outputs import write_cells
from pyro_mgvi.cli.several import joining
from pyro_mgvi.cli.several.joining import one_file
from pyro_mgvi.data.stores import on_disk


@pytest.fixture
def halves(adata, tmp_path):
    """Two files of the cells: the second has its genes in another order."""
    whole = adata.copy()
    whole.layers["raw"] = whole.X.copy()
    whole.obsm["X_pca"] = np.arange(240.0).reshape(120, 2)
    whole.var["known"] = np.arange(60) % 2 == 0
    paths = tmp_path / "north.h5ad", tmp_path / "south.h5ad"
    whole[::2].copy().write_h5ad(paths[0])
    whole[1::2, ::-1].copy().write_h5ad(paths[1])
    return paths


def fit(*options):
    return main(["fit", *map(str, options), "--epochs", "1", "--quiet"])


def in_memory(paths):
    """Return what anndata makes of the files without their staying on disk."""
    files = [ad.read_h5ad(path) for path in paths]
    return ad.concat(files, label="hospital", keys=["north", "south"], merge="same")


@pytest.mark.slow
@pytest.mark.parametrize("backed", [False, True])
def test_files_are_fitted_as_their_cells_in_one_file_are(halves, tmp_path, monkeypatch, backed):
    monkeypatch.setattr(on_disk, "IN_MEMORY", 0.0)
    before, out = [path.read_bytes() for path in halves], tmp_path / "out.h5ad"
    more = ["--backed"] if backed else []
    options = ["--group-key", "group", "--out"]
    assert fit(*halves, "--file-key", "hospital", *options, out, *more) == 0
    assert [path.read_bytes() for path in halves] == before
    wanted, found = in_memory(halves), ad.read_h5ad(out)
    assert (wanted.X != found.X).nnz == 0 and (wanted.layers["raw"] != found.layers["raw"]).nnz == 0
    pd.testing.assert_frame_equal(found.obs, wanted.obs)
    pd.testing.assert_frame_equal(found.var, wanted.var)
    np.testing.assert_array_equal(found.obsm["X_pca"], wanted.obsm["X_pca"])
    wanted.write_h5ad(tmp_path / "one.h5ad")
    assert fit(tmp_path / "one.h5ad", *options, tmp_path / "alone.h5ad", *more) == 0
    alone = ad.read_h5ad(tmp_path / "alone.h5ad")
    for key in ("X_mgvi_z", "X_mgvi_t_group1"):
        np.testing.assert_array_equal(found.obsm[key], alone.obsm[key])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".mgvi")]


@pytest.mark.slow
def test_the_file_may_be_the_group_and_stand_behind_the_columns(halves, tmp_path):
    out = tmp_path / "out.h5ad"
    options = ["--file-key", "hospital", "--out", out, "--group-key", "hospital"]
    assert fit(*options, *halves) == 0
    split = [halves[0], "--group-key", "hospital", halves[1], "--file-key", "hospital"]
    assert fit(*split, "--out", out) == 0
    found = ad.read_h5ad(out)
    assert found.obs["hospital"].value_counts().to_dict() == {"north": 60, "south": 60}
    assert {"X_mgvi_t_north", "X_mgvi_t_south"} < set(found.obsm)


@pytest.mark.slow
def test_zarr_folders_are_joined_too(halves, tmp_path, capsys):
    paths = tmp_path / "north.zarr", tmp_path / "south.zarr"
    for path, half in zip(paths, halves):
        write_cells(ad.read_h5ad(half), path)
    options = ("--group-key", "group", "--file-key", "hospital", "--out", tmp_path / "out.h5ad")
    assert fit(*paths, *options) == 0
    wanted, found = in_memory(halves), ad.read_h5ad(tmp_path / "out.h5ad")
    assert (wanted.X != found.X).nnz == 0
    pd.testing.assert_series_equal(found.obs["hospital"], wanted.obs["hospital"])
    assert fit(halves[0], paths[1], *options) == 2
    assert "south.zarr is a zarr folder, and " in capsys.readouterr().err


@pytest.mark.slow
def test_dense_counts_are_joined_too(halves, tmp_path):
    for path in halves:
        cells = ad.read_h5ad(path)
        cells.X = cells.X.toarray()
        cells.write_h5ad(path)
    assert fit(*halves, "--group-key", "group", "--out", tmp_path / "out.h5ad") == 0
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(found.X, in_memory(halves).X)


def test_genes_that_not_all_have_are_left_out_if_asked(halves, tmp_path):
    some = ad.read_h5ad(halves[1])[:, 5:].copy()
    some.write_h5ad(halves[1])
    out, options = tmp_path / "out.h5ad", ("--group-key", "group", "--out", tmp_path / "out.h5ad")
    assert fit(*halves, *options) == 2 and not out.exists()
    assert fit(*halves, *options, "--common-genes") == 0
    assert set(ad.read_h5ad(out).var_names) == set(some.var_names)


def test_cells_of_one_name_are_told_apart_if_asked(halves, tmp_path, capsys):
    cells = ad.read_h5ad(halves[1])
    cells.obs_names = ad.read_h5ad(halves[0]).obs_names
    cells.write_h5ad(halves[1])
    out, options = tmp_path / "out.h5ad", ("--group-key", "group", "--out", tmp_path / "out.h5ad")
    assert fit(*halves, *options) == 2 and not out.exists()
    assert "60 name(s) of the latter are taken" in capsys.readouterr().err
    assert fit(*halves, *options, "--rename-cells") == 0
    found = ad.read_h5ad(out).obs_names
    assert found.is_unique and found[0].endswith("-north") and found[-1].endswith("-south")


@pytest.mark.parametrize(
    "options, message",
    [
        (("--use-raw",), "--use-raw is for one file"),
        (("--group-key", "organ"), "obs of .*north.h5ad has no column 'organ'"),
        (("--batch-key", "donor"), "has no column 'donor'"),
        (("--file-key", "celltype"), "has a column 'celltype' already"),
        (("--layer", "counts"), "north.h5ad has no layer 'counts'"),
    ],
)
def test_options_that_the_files_do_not_fit(halves, tmp_path, capsys, options, message):
    before, out = sorted(tmp_path.iterdir()), tmp_path / "out.h5ad"
    assert fit(*halves, "--group-key", "group", *options, "--out", out) == 2
    said = capsys.readouterr().err
    assert pd.Series([said]).str.contains(message).all() and said.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("option", [["--file-key", "x"], ["--common-genes"], ["--rename-cells"]])
def test_options_of_several_files_are_for_several(halves, tmp_path, capsys, option):
    options = ("--group-key", "group", "--out", tmp_path / "out.h5ad", *option)
    assert fit(halves[0], *options) == 2
    assert f"{option[0]} is for several files" in capsys.readouterr().err


def one(namespace, *paths, out=None):
    namespace.inputs, namespace.out = list(paths), out
    return one_file(namespace)


@pytest.fixture
def namespace():
    from pyro_mgvi.cli.arguments import parser

    return parser().parse_args(["fit", "x.h5ad", "--group-key", "group"])


def test_a_single_file_is_left_where_it_is(halves, namespace):
    with one(namespace, halves[0]) as path:
        assert path == halves[0]


def test_a_file_that_ends_too_soon_is_named(halves, namespace):
    whole = halves[1].read_bytes()
    halves[1].write_bytes(whole[: len(whole) // 2])
    with (
        pytest.raises(DataError, match=r"south.h5ad cannot be read: .*truncated"),
        one(namespace, *halves),
    ):
        pass


def test_counts_that_cannot_be_read_are_named(halves, namespace, tmp_path):
    for path in halves:  # with a check sum, which tells what was damaged
        with h5py.File(path, "r+") as file:
            data = file["X/data"][:]
            del file["X/data"]
            file["X"].create_dataset("data", data=data, chunks=True, fletcher32=True)
    with h5py.File(halves[1]) as file:
        at = file["X/data"].id.get_chunk_info(0).byte_offset
    damaged = bytearray(halves[1].read_bytes())
    damaged[at : at + 4] = b"\xff\xff\xff\xff"
    halves[1].write_bytes(damaged)
    out = tmp_path / "out.h5ad"
    with (
        pytest.raises(DataError, match=r"counts of .*south.h5ad cannot be read"),
        one(namespace, *halves, out=out),
    ):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["north.h5ad", "south.h5ad"]


def test_a_disk_that_is_full_leaves_nothing_behind(halves, namespace, tmp_path, monkeypatch):
    def full(files, out, **_):
        out.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("anndata.experimental.concat_on_disk", full)
    with (
        pytest.raises(SettingsError, match=r"cannot be joined: .*No space left on device"),
        one(namespace, *halves, out=tmp_path / "out.h5ad"),
    ):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["north.h5ad", "south.h5ad"]


def test_what_joins_dense_arrays_is_asked_for(halves, namespace, monkeypatch):
    def missing(module, extra):
        raise SettingsError(f"{module} {extra}")

    monkeypatch.setattr(joining, "require", missing)
    with pytest.raises(SettingsError, match=r"dask.array join"), one(namespace, *halves):
        pass
    for path in halves:
        cells = ad.read_h5ad(path)
        del cells.obsm["X_pca"]
        cells.write_h5ad(path)
    with one(namespace, *halves) as path:  # sparse matrices are joined without it
        assert sparse.issparse(ad.read_h5ad(path).X)
