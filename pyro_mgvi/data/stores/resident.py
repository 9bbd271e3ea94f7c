"""Counts that stay on a device: minibatches are gathered there, and nothing is waited for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from pyro_mgvi.data.grouped_counts import GroupedCounts
from pyro_mgvi.data.minibatch import Minibatch
from pyro_mgvi.data.stores.in_memory import Counts
from pyro_mgvi.kernels.sparse import is_sparse

SHARE = 0.5  # of a device's free memory that counts may take: a step needs some, too
ELSEWHERE = 4e9  # bytes that they may take where nobody says what is free


class Resident:
    """The counts of some cells on a device, mostly zero ones sparse, in as few bytes as they need.

    Parameters
    ----------
    data
        The cells.
    device
        Where to keep them.

    Examples
    --------
    >>> import anndata as ad
    >>> adata = ad.AnnData(np.arange(12.0).reshape(4, 3), obs={"tissue": ["a", "a", "b", "b"]})
    >>> data = GroupedCounts.from_anndata(adata, "tissue")
    >>> batch = Resident(data, torch.device("cpu")).rows(torch.tensor([3, 0]))
    >>> batch.counts, batch.group
    (tensor([[ 9., 10., 11.],
            [ 0.,  1.,  2.]]), tensor([1, 0]))
    """

    def __init__(self, data: GroupedCounts, device: torch.device):
        self.device, self.n_cells, self.n_genes = device, *data.shape
        self._counts: _Sparse | _Dense
        x = data.x
        self._counts = _Sparse(x, device) if is_sparse(x) else _Dense(x, device)
        labels = data.group_n, data.batch_n, data.covariate_nc
        self._labels = tuple(torch.from_numpy(part).to(device) for part in labels)
        code_n = data.sample_code_n
        self._sample = None if code_n is None else torch.from_numpy(code_n).to(device)

    def rows(
        self, cells: Tensor, index: Tensor | None = None, n_cells: int | None = None
    ) -> Minibatch:
        """Return the cells at these positions, on the device as the positions are."""
        group, batch, covariates = (part.index_select(0, cells) for part in self._labels)
        sample = None if self._sample is None else self._sample.index_select(0, cells)
        labels = group, batch, covariates, index, n_cells, sample
        return Minibatch(self._counts.rows(cells), *labels)

    def minibatches(self, orders: Iterable[np.ndarray], scaled: bool) -> Iterator[Minibatch]:
        """Yield the cells of each array of positions; ``scaled`` as for a shuffled epoch.

        The positions of all go to the device at once.
        """
        parts = list(orders)
        order = torch.from_numpy(np.concatenate(parts)).to(self.device)
        for cells in order.split([len(part) for part in parts]):
            yield self.rows(cells, *((cells, self.n_cells) if scaled else (None, None)))


class _Sparse:
    """CSR on a device: gathered as dense rows without asking how many values these have."""

    def __init__(self, x: sparse.csr_matrix, device: torch.device):
        lengths = np.diff(x.indptr)
        self.start, self.length = (
            torch.from_numpy(part.astype(np.int64)).to(device) for part in (x.indptr[:-1], lengths)
        )
        column, value = (x.indices, x.data) if x.nnz else (np.zeros(1, np.int32), np.zeros(1))
        self.column = torch.from_numpy(column.astype(_smallest(x.shape[1]))).to(device)
        self.value = torch.from_numpy(compact(value)).to(device)
        self.offset = torch.arange(int(lengths.max(initial=1)), device=device)
        self.n_genes = x.shape[1]

    def rows(self, cells: Tensor) -> Tensor:
        start, length = (x.index_select(0, cells)[:, None] for x in (self.start, self.length))
        # Beyond its end a row repeats its last value, which is then written there once more.
        at = start + torch.minimum(self.offset, (length - 1).clamp(min=0))
        at = at.clamp(max=len(self.value) - 1).flatten()
        value = self.value.index_select(0, at).view(len(cells), -1).float() * (length > 0)
        column = self.column.index_select(0, at).view(len(cells), -1).long()
        return value.new_zeros(len(cells), self.n_genes).scatter_(1, column, value)


class _Dense:
    """A table on a device, in the smallest type that holds it."""

    def __init__(self, x: Counts, device: torch.device):
        self.value = torch.from_numpy(compact(np.asarray(x))).to(device)

    def rows(self, cells: Tensor) -> Tensor:
        return self.value.index_select(0, cells).float()


def compact(values: np.ndarray) -> np.ndarray:
    """Return values in 16 bits if these hold them exactly, else as float32.

    Examples
    --------
    >>> compact(np.array([0.0, 300.0])).dtype, compact(np.array([0.5])).dtype
    (dtype('int16'), dtype('float32'))
    """
    short = values.astype(np.int16) if _within(values) else None
    if short is not None and np.array_equal(short, values):
        return short
    return values.astype(np.float32, copy=False)


def _within(values: np.ndarray) -> bool:
    limits = np.iinfo(np.int16)
    return bool(values.min(initial=0) >= limits.min and values.max(initial=0) <= limits.max)


def _smallest(n: int) -> type[np.signedinteger]:
    return np.int16 if n <= np.iinfo(np.int16).max else np.int32


def fits(data: GroupedCounts, device: torch.device) -> bool:
    """Return whether the counts of these cells may stay on a device."""
    if data.buffer is not None:  # on disk
        return False
    x = data.x
    n_bytes = 8.0 * x.nnz if is_sparse(x) else 4.0 * np.prod(x.shape)
    if device.type != "cuda":
        return bool(n_bytes <= ELSEWHERE)
    free, _ = torch.cuda.mem_get_info(device)
    return bool(n_bytes <= SHARE * free)
