"""Counts are the same in every legal form, and found where they are."""

from importlib.metadata import version

import anndata as ad
import numpy as np
import pytest
from helpers.cells import G, N, make, read
from packaging.version import Version
from scipy import sparse

from pyro_mgvi import DataError, Gaussian, GroupedCounts, SettingsError
from pyro_mgvi.core import DataKind
from pyro_mgvi.data.stores.in_memory import canonical


def twice(x):
    """Return CSR in which each count of 2 or more is stored as 1 and the rest, in two entries."""
    x = sparse.csr_matrix(x)
    parts = np.stack([np.where(x.data > 1, 1, x.data), np.where(x.data > 1, x.data - 1, 0)])
    return sparse.csr_matrix((parts.T.ravel(), x.indices.repeat(2), 2 * x.indptr), shape=x.shape)


def unsorted(x):
    x = sparse.csr_matrix(x)
    order = np.lexsort((-x.indices, np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))))
    return sparse.csr_matrix((x.data[order], x.indices[order], x.indptr), shape=x.shape)


def with_zeros(x):
    x = sparse.csr_matrix(x)
    everywhere = sparse.csr_matrix(np.ones(x.shape))
    everywhere.data = x.toarray().ravel()
    return everywhere


def coo_twice(x):
    csr = sparse.csr_matrix(x)
    row = np.repeat(np.arange(csr.shape[0]), np.diff(csr.indptr))
    half = np.minimum(csr.data, 1)
    parts = np.concatenate([half, csr.data - half])
    return sparse.coo_matrix((parts, (np.tile(row, 2), np.tile(csr.indices, 2))), shape=csr.shape)


FORMS = {
    "duplicates": twice,
    "unsorted": unsorted,
    "zeros": with_zeros,
    "csc duplicates": lambda x: sparse.csc_matrix(twice(x.T).T),
    "csc of rows": lambda x: twice(sparse.csr_matrix(x).T).T,
    "array duplicates": lambda x: sparse.csr_array(twice(x)),
    "csc array": lambda x: sparse.csc_array(sparse.csr_matrix(x)),
    "coo": coo_twice,
    "coo array": lambda x: sparse.coo_array(coo_twice(x)),
    "int64 indices": lambda x: _wide(twice(x)),
}


def _wide(x):
    x.indices, x.indptr = x.indices.astype(np.int64), x.indptr.astype(np.int64)
    return x


@pytest.mark.parametrize("form", FORMS)
def test_every_legal_form_is_read_as_the_canonical_one(form):
    adata = make(np.random.default_rng(0).poisson(0.4, (N, G)) + np.eye(G)[np.arange(N) % G])
    expected = read(adata).x
    given = FORMS[form](adata.X)
    before = given.copy()
    if isinstance(given, sparse.sparray) and Version(version("anndata")) < Version("0.11"):
        pytest.skip("not every anndata 0.10 takes sparse arrays")
    if given.format == "coo":  # not every anndata takes it
        stored = canonical(given)
    else:
        adata.layers["form"] = given
        stored = read(adata, layer="form").x
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(stored, part), getattr(expected, part), part)
    assert stored.has_canonical_format and stored.nnz == expected.nnz
    assert given.nnz == before.nnz and type(given) is type(before)
    for part in ("data", "row", "col") if given.format == "coo" else ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(given, part), getattr(before, part), part)


def test_canonical_counts_are_not_copied():
    adata = make()
    assert np.shares_memory(read(adata).x.data, adata.X.data)


@pytest.mark.parametrize("part, value", [("indices", G + 3), ("indices", -1), ("indptr", -2)])
def test_a_damaged_matrix_is_refused(part, value):
    adata = make()
    getattr(adata.X, part)[3] = value
    with pytest.raises(DataError, match=r"adata.X cannot be read"):
        read(adata)


@pytest.mark.parametrize("form", ["dense", "sparse", "sparse array"])
def test_dask_arrays_are_computed(form):
    da = pytest.importorskip("dask.array")
    adata = make()
    expected = adata.X.toarray()
    x = da.from_array(expected, chunks=(5, -1))
    if form != "dense":
        x = x.map_blocks(sparse.csr_matrix if form == "sparse" else sparse.csr_array)
    adata.X = x
    data = read(adata)
    got = data.x if form == "dense" else data.x.toarray()
    np.testing.assert_array_equal(got, expected)
    assert type(adata.X) is da.Array


def test_lazy_data_are_read(tmp_path):
    pytest.importorskip("dask.array")
    pytest.importorskip("xarray")
    if Version(version("anndata")) < Version("0.12"):
        pytest.skip("anndata reads lazily from 0.12 on")
    from anndata.experimental import read_lazy

    adata = make(donor=["d1", "d2"] * 6)
    adata.write_h5ad(tmp_path / "x.h5ad")
    lazy = read_lazy(tmp_path / "x.h5ad")
    data = read(lazy, batch_key="donor")
    np.testing.assert_array_equal(data.x.toarray(), adata.X.toarray())
    np.testing.assert_array_equal(data.batch_n, [0, 1] * 6)


@pytest.mark.parametrize("dense", [False, True])
def test_backed_data_are_read_or_refused_in_one_line(tmp_path, dense):
    adata = make()
    adata.X = adata.X.toarray() if dense else adata.X
    adata.write_h5ad(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    schema = read(adata).schema
    whole = adata.to_df().to_numpy()
    for cells in (slice(None), slice(2, 9), [1, 3, 8], np.arange(N) % 3 == 0, [8, 3, 1]):
        try:
            x = GroupedCounts.for_schema(backed[cells], schema).x
        except DataError as error:
            assert "load the whole file" in str(error) and "\n" not in str(error)
        else:
            np.testing.assert_array_equal(x if dense else x.toarray(), whole[cells])
    try:
        x = GroupedCounts.for_schema(backed[:, ::-1], schema).x
    except DataError as error:
        assert "load the whole file" in str(error) and "\n" not in str(error)
    else:
        np.testing.assert_array_equal(x if dense else x.toarray(), whole)


@pytest.mark.parametrize(
    "counts, message",
    [
        (np.full((N, G), "1", object), "holds object values.*astype"),
        (np.full((N, G), 1j), "holds complex128 values"),
        (np.ma.masked_array(np.ones((N, G)), np.eye(N, G)), "masked"),
    ],
)
def test_what_is_no_number_is_refused(counts, message):
    adata = make()
    adata.layers["odd"] = counts
    with pytest.raises(DataError, match=message):
        read(adata, layer="odd")


@pytest.mark.parametrize("value", [1e9, 1e15, 2.0**40])
@pytest.mark.parametrize("dense", [False, True])
def test_a_count_that_is_too_large_is_named(value, dense):
    counts = np.ones((N, G))
    counts[3, 2] = value
    adata = make(counts)
    adata.X = counts if dense else adata.X
    with pytest.raises(DataError, match=r"too large value.*cell3.*gene2.*no count is above 1e"):
        read(adata)


def log_normalised(x):
    return np.log1p(1e4 * x / x.sum(1, keepdims=True))


def after_normalising():
    """Return cells whose counts are in a layer and in raw, and whose X is log-normalised."""
    adata = make(np.random.default_rng(0).poisson(1.0, (N, G)) + np.eye(N, G)[np.arange(N) % G])
    adata.layers["counts"] = adata.X.copy()
    adata.raw = adata.copy()
    adata.X = log_normalised(adata.X.toarray())
    adata.layers["scaled"] = adata.X - adata.X.mean(0)
    return adata


def test_the_place_that_holds_counts_is_named():
    adata = after_normalising()
    with pytest.raises(DataError, match=r"layers\['counts'\] and adata.raw: pass layer='counts'"):
        read(adata)
    with pytest.raises(DataError, match=r"'scaled'.*pass layer='counts'"):
        read(adata, layer="scaled")
    adata.layers["deep"] = adata.layers.pop("counts")
    schema = read(adata, layer="deep").schema
    adata.layers["deep"] = adata.X
    with pytest.raises(DataError, match=r"pass mgvi.read\(adata, use_raw=True\) in place of adata"):
        GroupedCounts.for_schema(adata, schema)
    adata = make()
    adata.layers["log"] = log_normalised(adata.X.toarray())
    with pytest.raises(DataError, match=r"seem to be in adata.X: pass layer='X'"):
        read(adata, layer="log")
    assert read(adata, layer="X").schema == read(adata).schema
    adata.layers["counts"] = adata.X
    adata.X = None
    with pytest.raises(DataError, match=r"adata.X is empty.*pass layer='counts'"):
        read(adata)


def test_raw_counts_are_read_with_their_own_genes():
    adata = after_normalising()
    some = adata[:, ["gene3", "gene1"]].copy()
    data = read(some, use_raw=True)
    assert data.schema.genes == tuple(adata.raw.var_names) and data.schema.use_raw
    np.testing.assert_array_equal(data.x.toarray(), adata.layers["counts"].toarray())
    again = GroupedCounts.for_schema(some[::-1], data.schema)
    np.testing.assert_array_equal(again.x.toarray(), data.x.toarray()[::-1])
    with pytest.raises(DataError, match="choose one"):
        read(some, use_raw=True, layer="counts")
    with pytest.raises(DataError, match=r"adata.raw is empty"):
        read(make(), use_raw=True)


def corrected(x, seed=0):
    """Return counts less an ambient share of their own, as SoupX and DecontX leave them."""
    share = np.random.default_rng(seed).uniform(0.05, 0.3, x.shape)
    return x * (1 - share)


@pytest.mark.parametrize("dense", [False, True])
def test_corrected_counts_are_rounded_if_that_is_asked_for(dense):
    x = corrected(np.random.default_rng(0).poisson(3.0, (N, 40)) + 1.0)
    adata = make(x)
    adata.X = x if dense else adata.X
    with pytest.raises(DataError, match=r"ambient RNA.*with round_counts=True;"):
        read(adata)
    data = read(adata, round_counts=True)
    np.testing.assert_array_equal(data.x if dense else data.x.toarray(), np.rint(x))
    assert data.schema.round_counts
    np.testing.assert_array_equal(adata.to_df(), x)
    again = GroupedCounts.for_schema(adata, data.schema)
    np.testing.assert_array_equal(again.x if dense else again.x.toarray(), np.rint(x))


def test_shared_out_counts_are_offered_to_be_rounded():
    x = np.random.default_rng(0).poisson(2.0, (N, 40)).astype(float)
    x[:, ::5] += 0.5  # reads of two genes
    with pytest.raises(DataError, match="round_counts=True"):
        read(make(x))
    assert read(make(x), round_counts=True).x.dtype.kind == "f"


@pytest.mark.parametrize("how", ["log", "log2", "cpm", "subset"])
def test_normalised_values_are_not_offered_to_be_rounded(how):
    x = np.random.default_rng(0).poisson(1.0, (N, 60)) + np.eye(N, 60)
    share = 1e4 * x / (x.sum(1, keepdims=True) + 0.123)
    made = {"log": np.log1p(share), "log2": np.log2(1 + share), "cpm": share}
    adata = make(made["cpm" if how == "subset" else how][:, : 30 if how == "subset" else 60])
    with pytest.raises(DataError, match="normalised data cannot be used") as refused:
        read(adata)
    assert "round_counts" not in str(refused.value)
    with pytest.raises(DataError, match="looks normalised"):
        read(adata, round_counts=True)


@pytest.mark.parametrize("name", ["drop_empty", "use_raw", "round_counts"])
def test_switches_are_true_or_false(name):
    with pytest.raises(SettingsError, match=f"{name} must be True or False, not 'no'"):
        read(make(), **{name: "no"})


def test_transformed_data_are_taken_from_any_source():
    assert Gaussian.data_kind is DataKind.VALUES
    adata = after_normalising()
    data = read(adata, layer="scaled", data_kind=DataKind.VALUES)
    np.testing.assert_array_equal(data.x, adata.layers["scaled"])
    with pytest.raises(DataError, match="round_counts=True is for likelihoods of counts"):
        read(adata, layer="scaled", data_kind=DataKind.VALUES, round_counts=True)
