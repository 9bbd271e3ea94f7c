"""Entries of features that a group has not got: they hold nothing, whatever is written there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from pyro_mgvi.data.schema import Schema
from pyro_mgvi.data.stores.in_memory import Counts
from pyro_mgvi.data.stores.on_disk import OnDisk
from pyro_mgvi.errors import DataError, DataWarning, warn
from pyro_mgvi.kernels.sparse import is_sparse

ROWS = 4096  # cells looked at a time


def only_measured(
    x: Counts | OnDisk,
    group_n: np.ndarray,
    measured_bg: np.ndarray | None,
    genes: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> Counts | OnDisk:
    """Return values with zeros where a cell's group has not got the gene, as the same kind.

    What is written there is not looked at: numbers, NaN and negative ones alike are dropped. A
    number other than zero there makes a mask doubtful, though, so one of them is named. The
    caller's array stays as it is.

    Parameters
    ----------
    x
        Cells x genes.
    group_n
        Codes of the cells' groups.
    measured_bg
        Which group has which gene; None where all have all.
    genes, groups
        Their names, for the warning; none without.

    Raises
    ------
    DataError
        If the counts stay in their file.

    Warns
    -----
    DataWarning
        If values other than zero (and than NaN) are dropped.

    Examples
    --------
    >>> only_measured(np.ones((2, 2)), np.array([0, 1]), np.array([[True, False], [True, True]]))
    array([[1., 0.],
           [1., 1.]])
    """
    if measured_bg is None:
        return x
    if isinstance(x, OnDisk):
        raise DataError(
            "feature_masks need the counts in memory, and these stay in their file: load them "
            "first, adata = adata.to_memory()"
        )
    if is_sparse(x):
        kept, dropped = _sparse(x, group_n, measured_bg)
    else:
        kept, dropped = _dense(x, group_n, measured_bg)
    if dropped is not None and len(genes):
        n, group, gene, value = dropped
        warn(
            f"{n} value(s) other than zero are of features that the masks say a group has not got "
            f"(gene {genes[gene]!r} is {value:g} in a cell of group {groups[group]!r}); they are "
            "left out: look at the masks, if this is not as it should be",
            DataWarning,
        )
    return kept


Dropped = tuple[int, int, int, float] | None  # how many, and the first: group, gene, value


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


def common_absent(schema: Schema) -> dict[str, tuple[str, ...]]:
    """Return genes absent from any group as absent from every group."""
    missing = {gene for genes in schema.absent.values() for gene in genes}
    absent = tuple(gene for gene in schema.genes if gene in missing)
    return {group: absent for group in schema.groups} if absent else {}
