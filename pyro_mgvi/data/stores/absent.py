"""Values without those of genes that a cell's group has not got."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from scipy import sparse

from pyro_mgvi.data.stores.in_memory import Counts
from pyro_mgvi.kernels.sparse import is_sparse

ROWS = 4096  # cells looked at a time

#: How many values other than zero are dropped, and of the first: group, gene and value.
Dropped: TypeAlias = tuple[int, int, int, float] | None


def without_absent(
    x: Counts, group_n: np.ndarray, measured_bg: np.ndarray
) -> tuple[Counts, Dropped]:
    """Return values with zeros where a cell's group has not got the gene, and what was there.

    The same array, if there is nothing to drop.

    Parameters
    ----------
    x
        Cells x genes.
    group_n
        Codes of the cells' groups.
    measured_bg
        Which group has which gene.

    Examples
    --------
    >>> has_bg = np.array([[True, False], [True, True]])
    >>> kept, dropped = without_absent(np.ones((2, 2)), np.array([0, 1]), has_bg)
    >>> kept.tolist(), dropped
    ([[1.0, 0.0], [1.0, 1.0]], (1, 0, 1, 1.0))
    """
    return (_sparse if is_sparse(x) else _dense)(x, group_n, measured_bg)


def _sparse(
    x: sparse.csr_matrix, group_n: np.ndarray, measured_bg: np.ndarray
) -> tuple[sparse.csr_matrix, Dropped]:
    row = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    keep = measured_bg[group_n[row], x.indices]
    if keep.all():
        return x, None
    gone = ~keep & ~np.isnan(x.data) if x.dtype.kind == "f" else ~keep
    gone &= x.data != 0
    dropped = None
    if gone.any():
        at = int(gone.argmax())
        dropped = (int(gone.sum()), int(group_n[row[at]]), int(x.indices[at]), float(x.data[at]))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row[keep], minlength=x.shape[0]))])
    parts = x.data[keep], x.indices[keep], indptr.astype(x.indptr.dtype)
    return sparse.csr_matrix(parts, shape=x.shape), dropped


def _dense(
    x: np.ndarray, group_n: np.ndarray, measured_bg: np.ndarray
) -> tuple[np.ndarray, Dropped]:
    kept, n, first = None, 0, None
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        absent_ng = ~measured_bg[group_n[rows]] & (x[rows] != 0)  # NaN is not zero, either
        if not absent_ng.any():
            continue
        gone_ng = absent_ng & ~np.isnan(x[rows]) if x.dtype.kind == "f" else absent_ng
        if gone_ng.any():
            n += int(gone_ng.sum())
            if first is None:
                cell, gene = (int(at[0]) for at in np.nonzero(gone_ng))
                first = int(group_n[start + cell]), gene, float(x[start + cell, gene])
        kept = x.copy() if kept is None else kept
        kept[rows][absent_ng] = 0
    return (x if kept is None else kept), (None if first is None else (n, *first))
