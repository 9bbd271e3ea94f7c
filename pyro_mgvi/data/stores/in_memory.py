"""Counts in memory: CSR, or the caller's dense array."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from scipy import sparse

from pyro_mgvi.kernels.sparse import is_sparse

Counts: TypeAlias = sparse.csr_matrix | np.ndarray


def canonical(x: sparse.spmatrix) -> sparse.csr_matrix:
    """Return CSR with sorted indices, none of them twice and no stored zero; ``x`` stays as it is.

    Each of these is legal and means the same, but sums and sparse products would tell them apart.
    """
    if x.format in ("csr", "csc"):  # a matrix of our own: checks of SciPy write to theirs
        parts = wide(x.data), x.indices, x.indptr
        x = (sparse.csr_matrix if x.format == "csr" else sparse.csc_matrix)(parts, shape=x.shape)
        x.check_format(full_check=True)
    csr = sparse.csr_matrix(x)
    if not csr.has_canonical_format or np.count_nonzero(csr.data) < csr.nnz:
        csr = csr.copy()
        csr.sum_duplicates()
        csr.eliminate_zeros()
    return csr


def wide(values: np.ndarray) -> np.ndarray:
    """Return values in a type whose sums do not overflow."""
    return values.astype(np.float32) if values.dtype == np.float16 else values


def rounded(x: Counts) -> Counts:
    """Return whole counts; of sparse ones, without those that have become zero."""
    if x.dtype.kind != "f":
        return x
    if not is_sparse(x):
        return np.rint(x)
    whole = sparse.csr_matrix((np.rint(x.data), x.indices, x.indptr), shape=x.shape, copy=True)
    whole.eliminate_zeros()
    return whole


def columns(x: Counts, position: np.ndarray | None) -> Counts:
    """Return the columns at these positions, with zeros for those at -1; all for None."""
    if position is None:
        return x
    if (position < 0).any():  # one more column, without a count
        shape = x.shape[0], x.shape[1] + 1
        if is_sparse(x):
            x = sparse.csr_matrix((x.data, x.indices, x.indptr), shape=shape)
        else:
            x = np.concatenate([x, np.zeros((shape[0], 1), x.dtype)], axis=1)
    x = x[:, position]
    if is_sparse(x):
        x.sort_indices()
    return x


def dense(x: Counts) -> np.ndarray:
    """Return counts as a dense array of 32-bit numbers."""
    if is_sparse(x):  # converted first, while zeros are not there yet
        whole: np.ndarray = x.astype(np.float32, copy=False).toarray()
        return whole
    return np.ascontiguousarray(x, dtype=np.float32)
