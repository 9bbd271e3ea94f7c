"""What is written at absent features is dropped, and said once if it looks like counts."""

import numpy as np
import pytest
from helpers.cells import make, read
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from pyro_mgvi import DataError, DataWarning
from pyro_mgvi.data.masks import common_absent, only_measured

MASKS = {"a": [1, 1, 1, 0, 1], "b": [1, 1, 0, 1, 1]}


@given(st.integers(0, 10_000), st.sampled_from([np.int32, np.float32, np.float64]))
@settings(max_examples=30, deadline=None)
def test_sparse_and_dense_values_are_those_of_the_formula(seed, kind):
    rng = np.random.default_rng(seed)
    x, group_n = rng.poisson(0.7, (9, 6)).astype(kind), rng.integers(3, size=9)
    has_bg = rng.random((3, 6)) > 0.4
    truth = x * has_bg[group_n]
    before = x.copy()
    for given_x in (x, sparse.csr_matrix(x)):
        found = only_measured(given_x, group_n, has_bg)
        assert found.dtype == kind
        whole = found.toarray() if sparse.issparse(found) else found
        np.testing.assert_array_equal(whole, truth)
        if sparse.issparse(found):
            assert found.nnz == np.count_nonzero(truth)
            assert found.has_canonical_format
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("csr", [False, True])
def test_nan_at_absent_features_is_no_value_and_elsewhere_an_error(csr):
    adata = make()
    x = adata.X.toarray()
    b = (adata.obs["tissue"] == "b").to_numpy()
    x[b, 2], x[~b, 3] = np.nan, np.nan
    adata.X = sparse.csr_matrix(x) if csr else x
    data = read(adata, feature_masks=MASKS)  # warnings are errors
    assert np.asarray(data.x.sum()) == np.nansum(x)
    with pytest.raises(DataError, match="not finite value nan in cell 'cell0', gene 'gene2'"):
        read(adata)


@pytest.mark.parametrize("csr", [False, True])
def test_counts_at_absent_features_are_named_once_and_dropped(csr):
    adata = make()
    adata.X = adata.X if csr else adata.X.toarray()
    total = adata.X.sum()
    with pytest.warns(DataWarning, match=r"12 value\(s\) .* \(gene 'gene2' is \d in .* 'b'\)") as w:
        data = read(adata, feature_masks=MASKS)
    assert len(w) == 1
    b = (adata.obs["tissue"] == "b").to_numpy()
    assert data.x.sum() == total - adata.X[b, 2].sum() - adata.X[~b, 3].sum()
    assert adata.X.sum() == total  # the caller's stay as they are


def test_a_cell_of_absent_counts_alone_is_empty():
    adata = make(np.ones((12, 5)))
    x = np.zeros((12, 5))
    x[:, :2] = 1
    x[0] = [0, 0, 7, 0, 0]  # of group b, which has no gene2
    adata.X = x
    with pytest.warns(DataWarning), pytest.raises(DataError, match="cell0"):
        read(adata, feature_masks=MASKS)


def test_counts_read_without_masks_are_masked_as_the_model_says():
    adata = make()
    with pytest.warns(DataWarning):
        schema = read(adata, feature_masks=MASKS).schema
    found = read(adata).view(np.arange(3, 9)).matching(schema)
    has_ng = schema.measured_bg[found.group_n]
    np.testing.assert_array_equal(found.x.toarray(), adata.X[3:9].toarray() * has_ng)


def test_counts_without_genes_that_the_model_has_are_refused():
    adata = make()
    with pytest.warns(DataWarning):
        data = read(adata, feature_masks=MASKS)
    with pytest.raises(DataError, match="without genes that the model has of group 'a': gene3"):
        data.matching(read(adata).schema)


def test_genes_of_absent_groups_may_be_missing_from_new_data():
    adata = make()
    with pytest.warns(DataWarning):
        schema = read(adata, feature_masks=MASKS).schema
    a = adata[adata.obs["tissue"] == "a"]
    few = a[:, [0, 1, 2, 4]].copy()
    found = type(read(adata)).for_schema(few, schema, missing_genes=0)
    assert found.shape == (7, 5)
    with pytest.raises(DataError, match="4 genes: they lack 1 of its genes: gene2"):
        type(read(adata)).for_schema(few[:, [0, 1, 3]].copy(), schema, missing_genes=0)


def test_common_genes_are_what_no_group_lacks():
    adata = make()
    with pytest.warns(DataWarning):
        schema = read(adata, feature_masks=MASKS).schema
    assert common_absent(schema) == {"a": ("gene2", "gene3"), "b": ("gene2", "gene3")}
    assert common_absent(read(adata).schema) == {}
