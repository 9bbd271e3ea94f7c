"""Initial values of a model from the moments of its data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import sparse
from torch import Tensor

from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.data.schema import Schema
from pyro_mgvi.data.stores.in_memory import Counts

PSEUDOCOUNT = 2.0  # shrinks the groups' offsets of rarely seen genes towards none
GATE_SHARE = 0.05  # share of the observed zeros that drop-out starts with
BLOCK = 4096  # cells at a time
EXTREME = 20.0  # times the counts of the median cell of its group and batch


class CountsOfGroups(Protocol):
    """What is needed of :class:`~pyro_mgvi.data.GroupedCounts` here."""

    group_n: np.ndarray
    batch_n: np.ndarray
    schema: Schema

    def __len__(self) -> int:
        """Return the number of cells."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and of genes."""

    def counts(self, cells: np.ndarray) -> Counts:
        """Return the counts of the cells at these positions."""


def initial_values_of_counts(data: CountsOfGroups) -> InitialValues:
    """Estimate initial values from counts in two passes over the cells.

    The inverse dispersion comes from the excess of the squared residuals around
    ``library * share`` over the Poisson variance. Cells with more than twenty times the counts of
    the median cell of their group and batch are left out (but for the prior of the library): sums
    over cells, and of squares above all, would else be those of a few broken cells.
    """
    n, n_genes = data.shape
    n_groups = len(data.schema.groups)
    totals_bg, zeros_g = np.zeros((n_groups, n_genes)), np.zeros(n_genes)
    library_n = np.zeros(n)
    for cells, x in blocks(data):
        library_n[cells] = np.asarray(x.sum(1)).ravel()
        zeros_g += x.shape[0] - np.asarray((x > 0).sum(0)).ravel()
        for group in range(n_groups):
            mine = data.group_n[cells] == group
            totals_bg[group] += np.asarray(x[mine].sum(0)).ravel()
    usual = np.flatnonzero(~extreme_cells(library_n, data.group_n, data.batch_n))
    for cells, x in blocks(data, np.setdiff1d(np.arange(n), usual)):
        zeros_g -= x.shape[0] - np.asarray((x > 0).sum(0)).ravel()
        for group in range(n_groups):
            totals_bg[group] -= np.asarray(x[data.group_n[cells] == group].sum(0)).ravel()
    total_g, n_usual = totals_bg.sum(0), len(usual)
    share_g = (total_g + 0.5) / (total_g.sum() + 0.5 * n_genes)
    expected_bg = totals_bg.sum(1, keepdims=True) * share_g
    offset_bg = np.log((totals_bg + PSEUDOCOUNT) / (expected_bg + PSEUDOCOUNT))
    depth = float(np.median(library_n[usual]))
    squares_g, input_g = np.zeros(n_genes), np.zeros(n_genes)
    for cells, x in blocks(data, usual):
        library = library_n[cells][:, None]
        # sum (x - lp)^2 - lp, expanded so that a sparse x stays sparse
        squares_g += np.asarray(x.multiply(x).sum(0)).ravel()
        squares_g -= 2 * share_g * np.asarray(x.multiply(library).sum(0)).ravel()
        input_g += np.asarray(x.multiply(depth / library).log1p().sum(0)).ravel()
    size, square_size = library_n[usual].sum(), (library_n[usual] ** 2).sum()
    squares_g += share_g**2 * square_size - share_g * size
    theta_g = share_g**2 * square_size / np.maximum(squares_g, 1e-3)
    gate_g = np.clip(GATE_SHARE * zeros_g / n_usual, 1e-4, 0.5)
    log_library = np.log(library_n)
    library_b2 = library_of_batches(log_library, data.batch_n, len(data.schema.batches))
    return InitialValues(
        log_rate_g=tensor(np.log(share_g)),
        offset_bg=tensor(offset_bg),
        log_theta_g=tensor(np.log(np.clip(theta_g, 0.05, 100.0))),
        gate_logits_g=tensor(np.log(gate_g / (1 - gate_g))),
        log_library_b2=tensor(library_b2),
        input_g=tensor(input_g / n_usual),
        depth=tensor(depth),
        n_covariates=data.schema.n_covariates,
        n_group_b=tensor(np.bincount(data.group_n, minlength=n_groups)),
    )


def library_of_batches(
    log_library_n: np.ndarray, batch_n: np.ndarray, n_batches: int
) -> list[list[float]]:
    """Return mean and standard deviation of each batch; of all cells, for one without any."""
    batches = [log_library_n[batch_n == batch] for batch in range(n_batches)]
    batches = [batch if len(batch) else log_library_n for batch in batches]
    return [[batch.mean(), max(batch.std(), 0.1)] for batch in batches]


def extreme_cells(library_n: np.ndarray, group_n: np.ndarray, batch_n: np.ndarray) -> np.ndarray:
    """Return which cells have far more counts than the median cell of their group and batch.

    Examples
    --------
    >>> library_n, same_n = np.array([100.0, 120.0, 90.0, 1e6]), np.zeros(4, int)
    >>> extreme_cells(library_n, same_n, same_n)
    array([False, False, False,  True])
    """
    _, code_n = np.unique(np.column_stack([group_n, batch_n]), axis=0, return_inverse=True)
    code_n = code_n.ravel()  # NumPy 2.0 gives it another shape
    median = np.array([np.median(library_n[code_n == code]) for code in range(code_n.max() + 1)])
    extreme_n: np.ndarray = library_n > EXTREME * median[code_n]
    return extreme_n


def initial_values_of_values(data: CountsOfGroups) -> InitialValues:
    """Estimate initial values from transformed data: means, group shifts and precisions.

    ``log_rate_g`` is then a gene's mean, ``offset_bg`` a group's shift of it, and
    ``log_theta_g`` the log precision within groups; drop-out and library mean nothing.
    """
    n, n_genes = data.shape
    n_groups = len(data.schema.groups)
    total_bg, square_g = np.zeros((n_groups, n_genes)), np.zeros(n_genes)
    for cells, x in blocks(data):
        square_g += np.asarray(x.multiply(x).sum(0)).ravel()
        for group in range(n_groups):
            total_bg[group] += np.asarray(x[data.group_n[cells] == group].sum(0)).ravel()
    size_b1 = np.bincount(data.group_n, minlength=n_groups)[:, None]
    mean_g, mean_bg = total_bg.sum(0) / n, total_bg / np.maximum(size_b1, 1)
    variance_g = (square_g - (size_b1 * mean_bg**2).sum(0)) / n
    blank = InitialValues.blank(
        n_genes, n_groups, len(data.schema.batches), data.schema.n_covariates
    )
    return blank._replace(
        log_rate_g=tensor(mean_g),
        offset_bg=tensor(mean_bg - mean_g),
        log_theta_g=tensor(-np.log(np.maximum(variance_g, 1e-4))),
        input_g=tensor(mean_g),
        n_group_b=tensor(size_b1[:, 0]),
    )


def tensor(values: ArrayLike) -> Tensor:
    """Return values as a tensor of 32-bit numbers."""
    return torch.tensor(np.asarray(values), dtype=torch.float32)


def blocks(
    data: CountsOfGroups, cells: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, sparse.csr_matrix]]:
    """Yield some cells at a time: where they are, and their counts in double precision."""
    cells = np.arange(len(data)) if cells is None else cells
    for start in range(0, len(cells), BLOCK):
        block = cells[start : start + BLOCK]
        yield block, sparse.csr_matrix(data.counts(block), dtype=np.float64)
