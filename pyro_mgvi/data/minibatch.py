"""Minibatches: some cells as tensors, and the orders and splits that they are drawn in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from pyro_mgvi.data.stores.in_memory import Counts
from pyro_mgvi.errors import SettingsError

BLOCK = 64  # neighbouring cells that an order for reading keeps together


class Minibatch(tuple[Any, ...]):
    """Arguments of model and guide for n cells: ``svi.step(*minibatch)``.

    A named tuple of six, or of seven where samples have effects: a program of one's own without
    samples takes six arguments.

    Attributes
    ----------
    counts
        (n, genes), dense or sparse CSR.
    group, batch
        Integer codes, (n,).
    covariates
        (n, covariates).
    index, n_cells
        Positions of the cells among those that the minibatch stands for, (n,), and the number of
        these: the loss is scaled to it. Both None for a loss of these cells alone. A part of a
        minibatch may stand for a fraction of a cell.
    sample
        Codes of the cells' samples, (n,), -1 for one that the model does not know; None where
        samples have no effects.

    Examples
    --------
    >>> codes = torch.zeros(2, dtype=torch.long)
    >>> batch = Minibatch(torch.ones(2, 3), codes, codes, torch.zeros(2, 0))
    >>> len(batch), batch.sample, len(batch._replace(sample=codes))
    (6, None, 7)
    """

    __slots__ = ()
    _fields = ("counts", "group", "batch", "covariates", "index", "n_cells", "sample")

    counts: Tensor = property(itemgetter(0))  # type: ignore[assignment] # as a named tuple has them
    group: Tensor = property(itemgetter(1))  # type: ignore[assignment]
    batch: Tensor = property(itemgetter(2))  # type: ignore[assignment]
    covariates: Tensor = property(itemgetter(3))  # type: ignore[assignment]
    index: Tensor | None = property(itemgetter(4))  # type: ignore[assignment]
    n_cells: float | None = property(itemgetter(5))  # type: ignore[assignment]

    def __new__(
        cls,
        counts: Tensor,
        group: Tensor,
        batch: Tensor,
        covariates: Tensor,
        index: Tensor | None = None,
        n_cells: float | None = None,
        sample: Tensor | None = None,
    ) -> Self:
        """Return six parts, or seven."""
        parts = counts, group, batch, covariates, index, n_cells
        return super().__new__(cls, parts if sample is None else (*parts, sample))

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)

    @property
    def sample(self) -> Tensor | None:
        """Codes of the cells' samples."""
        return self[6] if len(self) > 6 else None

    @classmethod
    def _make(cls, parts: Iterable[Any]) -> Self:
        return cls(*parts)

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self))

    def _replace(self, **parts: Any) -> Self:
        return type(self)(**self._asdict() | parts)

    def to(self, device: torch.device | str) -> Minibatch:
        """Return the minibatch on ``device``."""
        if torch.device(device).type != "cuda":
            return Minibatch._make(x.to(device) if isinstance(x, Tensor) else x for x in self)
        # From pinned memory a copy goes on while the GPU computes.
        return Minibatch._make(
            _pinned(x).to(device, non_blocking=True) if isinstance(x, Tensor) else x for x in self
        )


class Minibatched(ABC):
    """Cells that come in minibatches, in any order.

    Attributes
    ----------
    group_n
        Group of each cell.
    """

    group_n: np.ndarray

    @property
    @abstractmethod
    def buffer(self) -> int | None:
        """Cells to read at a time, of counts that stay in their file; None in memory."""

    @abstractmethod
    def read(self, orders: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, Counts]]:
        """Yield the positions and counts of minibatches."""

    @abstractmethod
    def tensors(
        self,
        x: Counts,
        cells: np.ndarray,
        index: Tensor | None,
        n_cells: int | None,
        keep_sparse: bool,
    ) -> Minibatch:
        """Return the cells at these positions as tensors, with their counts ``x``."""

    def minibatches(
        self,
        size: int = 128,
        seed: int | np.random.Generator | None = None,
        stratified: bool = False,
        shuffle: bool = True,
        keep_sparse: bool = False,
    ) -> Iterator[Minibatch]:
        """Yield every cell once, in minibatches of about ``size`` cells, drawn afresh.

        Parameters
        ----------
        size
            Cells per minibatch. Sizes are evened out: there is no small last one.
        seed
            Of the order, or a generator; by default drawn from torch's global generator.
        stratified
            Spread each group evenly over the minibatches; otherwise permute all cells.
        shuffle
            False for the order of the data, without ``index`` (nothing is scaled).
        keep_sparse
            Give the counts as sparse tensors: same results, faster if :attr:`mostly_zero`.

        Raises
        ------
        SettingsError
            If ``size`` is below 2 (batch statistics need two cells).
        """
        return self.batches_of(self.orders(size, seed, stratified, shuffle), keep_sparse, shuffle)

    def batches_of(
        self, orders: Iterable[np.ndarray], keep_sparse: bool = False, scaled: bool = True
    ) -> Iterator[Minibatch]:
        """Yield the cells at each of these arrays of positions; ``scaled`` with their index."""
        for cells, x in self.read(orders):
            index = torch.from_numpy(cells) if scaled else None
            n_cells = len(self.group_n) if scaled else None
            yield self.tensors(x, cells, index, n_cells, keep_sparse)

    def orders(
        self,
        size: int,
        seed: int | np.random.Generator | None = None,
        stratified: bool = False,
        shuffle: bool = True,
    ) -> list[np.ndarray]:
        """Return the positions of each minibatch's cells; see :meth:`minibatches`."""
        if not shuffle or self.buffer is None:
            return orders(self.group_n, size, seed, stratified, shuffle)
        return near_orders(self.group_n, size, seed, self.buffer, stratified)


def _pinned(x: Tensor) -> Tensor:
    return x.pin_memory() if x.device.type == "cpu" and x.layout == torch.strided else x


def interleaved(
    order: np.ndarray, group_n: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Reorder a permutation so that any stretch of it holds each group in its share."""
    position = np.empty(len(order))
    for group in np.unique(group_n):
        mine = group_n[order] == group
        position[mine] = (np.arange(mine.sum()) + generator.random()) / mine.sum()
    return order[np.argsort(position, kind="stable")]


def orders(
    group_n: np.ndarray,
    size: int,
    seed: int | np.random.Generator | None = None,
    stratified: bool = False,
    shuffle: bool = True,
) -> list[np.ndarray]:
    """Return the positions of the cells of each minibatch, as `GroupedCounts.minibatches` says."""
    _check_size(size)
    order = np.arange(len(group_n))
    if shuffle:
        generator = _generator(seed)
        order = generator.permutation(len(group_n))
        if stratified:
            order = interleaved(order, group_n, generator)
    return _evened_out(order, size)


def _check_size(size: int) -> None:
    if size < 2:
        raise SettingsError(f"a minibatch needs at least 2 cells, not {size}")


def _generator(seed: int | np.random.Generator | None) -> np.random.Generator:
    return np.random.default_rng(int(torch.randint(2**31, ())) if seed is None else seed)


def _evened_out(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Return an order in minibatches of about so many cells, none of them small."""
    n = len(order)
    return np.array_split(order, max(1, min(round(n / size), n // 2)))


def near_orders(
    group_n: np.ndarray,
    size: int,
    seed: int | np.random.Generator | None,
    buffer: int,
    stratified: bool = False,
) -> list[np.ndarray]:
    """Return the positions of each minibatch's cells, so that few reads of neighbours give many.

    Blocks of neighbouring cells of one group are shuffled, with each group spread evenly; as many
    as fit in the buffer are shuffled cell by cell. So any stretch holds each group in its share,
    however the file is sorted, and each cell is seen once.

    Parameters
    ----------
    group_n
        Group of each cell, in the order of the file.
    size
        Cells per minibatch.
    seed
        Of the order.
    buffer
        Cells that are read at a time.
    stratified
        Spread each group evenly over the cells of a buffer, too.

    Examples
    --------
    >>> orders = near_orders(np.repeat([0, 1], 500), 100, seed=0, buffer=400)
    >>> len(orders), np.array_equal(np.sort(np.concatenate(orders)), np.arange(1000))
    (10, True)
    """
    _check_size(size)
    generator = _generator(seed)
    blocks: list[np.ndarray] = []
    for group in np.unique(group_n):
        mine = np.flatnonzero(group_n == group)
        blocks += np.array_split(mine, max(1, round(len(mine) / BLOCK)))
    of_block = np.array([group_n[block[0]] for block in blocks])
    order = interleaved(generator.permutation(len(blocks)), of_block, generator)
    cells = np.concatenate([blocks[i] for i in order])
    for start in range(0, len(cells), buffer):
        part = generator.permutation(cells[start : start + buffer])
        if stratified:
            part = part[interleaved(np.arange(len(part)), group_n[part], generator)]
        cells[start : start + buffer] = part
    return _evened_out(cells, size)


def stratified_split(
    group_n: np.ndarray, n_groups: int, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions of training and held-out cells; see :meth:`GroupedCounts.split`."""
    if not 0 <= fraction <= 0.9:
        raise SettingsError(f"validation fraction must be within 0 and 0.9, not {fraction}")
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(group_n), bool)
    for group in range(n_groups):
        cells = generator.permutation(np.flatnonzero(group_n == group))
        n_out = min(round(fraction * len(cells)), max(0, len(cells) - 2))
        held_out[cells[: n_out if len(cells) >= 4 else 0]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
