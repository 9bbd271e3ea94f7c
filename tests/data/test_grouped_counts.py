"""Counts are read as they are, in every form of storage, and looked at without a copy."""

from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.cells import G, N, make, read
from packaging.version import Version
from scipy import sparse

from pyro_mgvi import DataError, GroupedCounts


def assert_same(a, b):
    """Expect two minibatches to be equal in every field."""
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


SPARSE_ARRAY = pytest.param(
    sparse.csr_array,
    marks=pytest.mark.skipif(
        Version(version("anndata")) < Version("0.11"), reason="X of anndata 0.10 is no sparse array"
    ),
)


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, SPARSE_ARRAY, np.array])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16, np.float32, np.float64])
def test_every_storage_form_gives_the_same_minibatches(form, dtype):
    adata = make()
    expected = adata.X.toarray()
    adata.X = form(expected.astype(dtype))
    before = adata.copy()
    data = read(adata)
    batches = list(data.minibatches(4, shuffle=False))
    np.testing.assert_array_equal(np.vstack([b.counts for b in batches]), expected)
    assert all(b.counts.dtype.is_floating_point for b in batches)
    assert data.schema.groups == ("a", "b") and list(data.group_n) == [1] * 5 + [0] * 7
    assert type(adata.X) is type(before.X)
    pd.testing.assert_frame_equal(adata.obs, before.obs)


def test_groups_keep_the_order_of_a_categorical():
    adata = make()
    adata.obs["tissue"] = pd.Categorical(adata.obs["tissue"], categories=["b", "unused", "a"])
    assert read(adata).schema.groups == ("b", "a")


def test_a_large_dataset_is_never_made_dense():
    wide = sparse.csr_matrix(([1.0], ([0], [7])), shape=(N, 10**9))
    data = read(make())
    data = GroupedCounts(  # 96 GB if it were dense
        wide, data.group_n, data.batch_n, data.covariate_nc, data.schema, data.cells
    )
    assert sparse.issparse(data.subset(np.arange(5)).x)
    assert data.unpacked() is data


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.float64])
def test_unpacked_counts_give_the_same_minibatches(dtype, monkeypatch):
    adata = make()
    adata.X = adata.X.astype(dtype)
    data = read(adata)
    part = data.view(np.arange(2, 9))
    for packed in (data, part):
        dense = packed.unpacked()
        assert isinstance(dense.x, np.ndarray) and sparse.issparse(packed.x)
        for got, expected in zip(dense.minibatches(4, seed=0), packed.minibatches(4, seed=0)):
            assert_same(got, expected)
    assert dense.unpacked() is dense  # dense already
    monkeypatch.setattr("pyro_mgvi.data.stores.zeros.DENSITY", 1.1)
    assert data.unpacked() is data  # mostly zero
    monkeypatch.undo()
    monkeypatch.setattr("pyro_mgvi.data.grouped_counts.UNPACKED", 4 * N * G - 1)
    assert data.unpacked() is data and part.unpacked() is not part


def test_batch_and_covariates_become_columns():
    adata = make(donor=["d1", "d2"] * 6, age=np.arange(N), sex=["f"] * 4 + ["m"] * 8)
    data = read(adata, batch_key="donor", covariate_keys=["age", "sex"])
    assert data.schema.n_covariates == data.covariate_nc.shape[1] == 5
    np.testing.assert_array_equal(data.covariate_nc[:, :2].argmax(1), data.batch_n)
    np.testing.assert_allclose(data.covariate_nc[:, 4].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(data.covariate_nc[:, 4].std(), 1, rtol=1e-5)
    assert data.initial_values().log_library_b2.shape == (2, 2)


def test_empty_cells_are_dropped_on_request():
    data = read(make(np.eye(N, G)[np.arange(N) % 8]), drop_empty=True)
    assert len(data) == 9 and list(data.cells) == [0, 1, 2, 3, 4, 8, 9, 10, 11]


def test_new_data_of_a_model_are_reordered_or_refused():
    adata = make()
    schema = read(adata).schema
    shuffled = GroupedCounts.for_schema(adata[:, ::-1], schema)
    np.testing.assert_array_equal(shuffled.x.toarray(), adata.X.toarray())
    one_group = GroupedCounts.for_schema(adata[:3], schema)
    assert set(one_group.group_n) == {1}
    with pytest.raises(DataError, match="lack 2 of its genes: gene3, gene4"):
        GroupedCounts.for_schema(adata[:, :3], schema)
    adata.obs["tissue"] = ["b"] * 5 + ["lung"] * 7
    with pytest.raises(DataError, match=r"unknown to the model: lung; it knows: a, b"):
        GroupedCounts.for_schema(adata, schema)


@pytest.mark.parametrize("dense", [False, True])
def test_a_view_gives_what_a_subset_gives_without_a_copy(adata, dense):
    adata = adata.copy()
    adata.X = adata.X.toarray() if dense else sparse.csr_matrix(adata.X)
    data = GroupedCounts.from_anndata(adata, "group")
    cells = np.random.default_rng(0).permutation(len(data))[:70]
    view, subset = data.view(cells), data.subset(cells)
    assert len(view) == len(subset) == 70
    part = np.arange(5, 40)
    for ours, theirs in (
        (view, subset),
        (view.subset(part), subset.subset(part)),
        (view.view(part), subset.subset(part)),
    ):
        np.testing.assert_array_equal(ours.cells, theirs.cells)
        plans = [each.minibatches(16, seed=3, stratified=True) for each in (ours, theirs)]
        for a, b in zip(*plans, strict=True):
            assert_same(a, b)
    before = subset.x.copy()
    values = data.x if dense else data.x.data
    values *= 3  # in place: a view sees it, a copy does not
    assert abs(view.x - 3 * before).sum() == abs(subset.x - before).sum() == 0
