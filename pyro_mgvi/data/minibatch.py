"""Minibatches: some cells as tensors, and the orders and splits that they are drawn in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_mgvi.errors import SettingsError


class Minibatch(NamedTuple):
    """Arguments of model and guide for n cells: ``svi.step(*minibatch)``.

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
        these: the loss is scaled to it. Both None for a loss of these cells alone.
    """

    counts: Tensor
    group: Tensor
    batch: Tensor
    covariates: Tensor
    index: Tensor | None = None  # type: ignore[assignment] # in place of the method of tuples
    n_cells: int | None = None

    def to(self, device: torch.device | str) -> Minibatch:
        """Return the minibatch on ``device``."""
        if torch.device(device).type != "cuda":
            return Minibatch._make(x.to(device) if isinstance(x, Tensor) else x for x in self)
        # From pinned memory a copy goes on while the GPU computes.
        return Minibatch._make(
            _pinned(x).to(device, non_blocking=True) if isinstance(x, Tensor) else x for x in self
        )


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
    if size < 2:
        raise SettingsError(f"a minibatch needs at least 2 cells, not {size}")
    n = len(group_n)
    order = np.arange(n)
    if shuffle:
        if seed is None:
            seed = int(torch.randint(2**31, ()))
        generator = np.random.default_rng(seed)
        order = generator.permutation(n)
        if stratified:
            order = interleaved(order, group_n, generator)
    return np.array_split(order, max(1, min(round(n / size), n // 2)))


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
