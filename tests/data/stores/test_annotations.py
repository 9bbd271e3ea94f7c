"""Labels are read however an AnnData keeps them: lazily, in a file, in another byte order."""

from importlib.metadata import version

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers.cells import G, N, make, read
from packaging.version import Version

from pyro_mgvi.data import checks
from pyro_mgvi.data.modalities import labelled
from pyro_mgvi.data.stores.annotations import in_memory, native


def foreign(kind):
    """Return a number of each cell in the byte order that this machine has not got."""
    return (np.arange(N) % 3).astype(np.dtype(kind).newbyteorder("S"))


def test_what_pandas_can_work_with_is_returned_as_it_is():
    adata = make(age=np.arange(N))
    assert in_memory(adata) is checks.annotated(adata) is labelled(adata) is adata
    assert native(adata.obs) is adata.obs


@pytest.mark.parametrize("kind", ["f8", "f4", "i8", "i4", "u2"])
@pytest.mark.parametrize(
    "keys", [{"group_key": "x"}, {"batch_key": "x"}, {"covariate_keys": ["x"]}, {"sample_key": "x"}]
)
@pytest.mark.filterwarnings("ignore::pyro_mgvi.DataWarning")
def test_columns_of_another_byte_order_are_those_of_this_one(kind, keys):
    adata, same = make(x=foreign(kind)), make(x=foreign(kind).astype(kind))
    data, expected = read(adata, **keys), read(same, **keys)
    assert data.schema == expected.schema and not adata.obs["x"].dtype.isnative
    for name in ("group_n", "batch_n", "covariate_nc", "sample_n"):
        np.testing.assert_array_equal(getattr(data, name), getattr(expected, name))


def test_cells_are_dropped_beside_a_column_of_another_byte_order():
    counts = np.ones((N, G))
    counts[3] = 0
    data = read(make(counts, x=foreign("f8")), drop_empty=True)
    assert len(data) == N - 1


def test_counts_stay_with_the_labels_unless_a_file_holds_them(tmp_path):
    adata = make(x=foreign("f8"))
    adata.layers["raw"], adata.raw, adata.obsm["X_z"] = adata.X, adata.copy(), np.ones((N, 2))
    held = in_memory(adata)
    assert held.X is adata.X and "raw" in held.layers and held.raw.shape == (N, G)
    adata.write_h5ad(tmp_path / "x.h5ad")
    held = in_memory(ad.read_h5ad(tmp_path / "x.h5ad", backed="r"))
    assert held.X is None and held.obs["x"].dtype.isnative and held.obsm["X_z"].shape == (N, 2)


def test_columns_of_one_name_stay_apart():
    table = pd.DataFrame({"x": foreign("f8"), "y": foreign("i4")}).set_axis(["x", "x"], axis=1)
    found = native(table)
    assert [kind.str[1:] for kind in found.dtypes] == ["f8", "i4"]
    assert all(kind.isnative for kind in found.dtypes)


@pytest.mark.filterwarnings("ignore::pyro_mgvi.DataWarning")  # counts that the masks hide
def test_what_is_read_lazily_comes_into_memory(tmp_path):
    pytest.importorskip("dask.array")
    pytest.importorskip("xarray")
    if Version(version("anndata")) < Version("0.12"):
        pytest.skip("anndata reads lazily from 0.12 on")
    adata = make(age=np.arange(N) / 2)
    has = np.arange(G) > 0
    adata.var["in_a"], adata.var["in_b"] = True, has
    adata.varm["has"] = pd.DataFrame({"b": has, "a": np.ones(G)}, adata.var_names)
    adata.uns |= {"uns_a": pd.DataFrame({"x": has[::-1]}, adata.var_names[::-1])}
    adata.uns |= {"uns_b": np.ones(G), "deep": {"names": np.array(["p", "q"])}}
    adata.obsm["X_z"] = np.ones((N, 2))
    adata.write_h5ad(tmp_path / "x.h5ad")
    lazy = ad.experimental.read_lazy(tmp_path / "x.h5ad")
    held = checks.annotated(lazy)
    pd.testing.assert_frame_equal(held.obs[["tissue", "age"]], adata.obs, check_categorical=False)
    assert type(held.obsm["X_z"]) is type(held.uns["deep"]["names"]) is np.ndarray
    assert labelled(lazy).obs["tissue"].tolist() == adata.obs["tissue"].tolist()
    for masks in ({"a": "in_a", "b": "in_b"}, "has"):
        assert read(lazy, feature_masks=masks).schema.absent == {"b": ("gene0",)}
    assert read(lazy, feature_masks="uns").schema.absent == {"a": ("gene0",)}
