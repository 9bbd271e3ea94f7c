"""Counts that stay in their file: rows are read when they are needed, many at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
from anndata import AnnData
from scipy import sparse

from pyro_mgvi.data.stores.absent import without_absent
from pyro_mgvi.data.stores.in_memory import Counts, canonical, columns, rounded, wide
from pyro_mgvi.errors import DataError
from pyro_mgvi.kernels.sparse import is_sparse

IN_MEMORY = 2.0**30  # bytes: counts of a backed file that take less are read as a whole
VALUES = 1 << 22  # that are read at a time, at most
COPIED = 2  # times as many of which may be copied into memory, to go through them often
GAP = 16  # rows between two that are wanted, read with them: a further read takes longer


@dataclass(frozen=True)
class OnDisk:
    """The matrix ``X`` of an h5ad file, cells x genes, CSR or dense.

    Attributes
    ----------
    path
        The file.
    stamp
        Its size and time of change when it was opened.
    shape
        Cells and genes.
    indptr
        Where each row of a sparse matrix begins, and ends; None for a dense one.
    rows
        Which rows of the file these cells are.
    columns
        Which columns these genes are, -1 for none; all by default.
    rounded
        Whether values are rounded as they are read.
    group_n, measured_bg
        Code of each cell's group, and which group has which gene, if not all: what is written at
        others is dropped as it is read.
    """

    path: Path
    stamp: tuple[int, int]
    shape: tuple[int, int]
    indptr: np.ndarray | None
    rows: np.ndarray
    columns: np.ndarray | None = None
    rounded: bool = False
    group_n: np.ndarray | None = None
    measured_bg: np.ndarray | None = None

    @classmethod
    def of(cls, adata: AnnData) -> OnDisk | None:
        """Return the counts of a backed AnnData, or None if they should be read as a whole.

        Raises
        ------
        DataError
            If they are stored by genes (CSC): cells cannot be read from there. If the file is
            no longer where it was.
        """
        if not adata.isbacked or adata.is_view:
            return None
        path = Path(adata.filename).absolute()
        if not path.exists():
            raise DataError(
                f"the file of adata, {adata.filename}, is no longer at {path}: open it from where "
                "it is now, or read it into memory, adata = adata.to_memory()"
            )
        with _open(path) as file:
            x = file.get("X")
            if isinstance(x, h5py.Dataset):
                shape, indptr, size = x.shape, None, 4.0 * np.prod(x.shape)
            elif isinstance(x, h5py.Group) and "indptr" in x:
                shape, size = tuple(x.attrs["shape"]), 8.0 * len(x["data"])
                kind = x.attrs.get("encoding-type")
                if size > IN_MEMORY and kind != "csr_matrix":
                    raise DataError(
                        f"X of {path.name} is stored by genes ({kind}), and cells cannot be read "
                        "from there: write it by cells, adata.X = adata.X.tocsr(), or read it into "
                        "memory (read_h5ad without backed=)"
                    )
                indptr = x["indptr"][:] if size > IN_MEMORY else None
            else:
                return None
        if size <= IN_MEMORY or len(shape) != 2:
            return None
        n_cells, n_genes = map(int, shape)
        return cls(path, _stamp(path), (n_cells, n_genes), indptr, np.arange(n_cells))

    @property
    def nnz(self) -> int:
        """Number of stored values in these cells."""
        if self.indptr is None:
            return len(self.rows) * self.shape[1]
        return int((self.indptr[self.rows + 1] - self.indptr[self.rows]).sum())

    @property
    def per_cell(self) -> float:
        """Stored values of a cell, on average."""
        return max(1.0, self.nnz / max(1, len(self.rows)))

    @property
    def buffer(self) -> int:
        """Cells that may be read at a time."""
        return max(128, int(VALUES / self.per_cell))

    def kept(self, cells: np.ndarray) -> OnDisk:
        """Return some of these cells, still on disk."""
        group_n = None if self.group_n is None else self.group_n[cells]
        shape = len(cells), self.shape[1]
        return replace(self, rows=self.rows[cells], group_n=group_n, shape=shape)

    def only_measured(self, group_n: np.ndarray, measured_bg: np.ndarray) -> OnDisk:
        """Return these values without what is absent from the cells' groups, still on disk.

        What was masked before stays so, by whatever groups.
        """
        if self.group_n is not None and self.measured_bg is not None:
            pair_n = np.stack([self.group_n, group_n])
            (before, after), group_n = np.unique(pair_n, axis=1, return_inverse=True)
            measured_bg = self.measured_bg[before] & measured_bg[after]
        return replace(self, group_n=group_n, measured_bg=measured_bg)

    def with_columns(self, position: np.ndarray | None) -> OnDisk:
        """Return these columns, with zeros for -1, still on disk."""
        if position is None:
            return self
        has_bg, chosen = self.measured_bg, position
        if self.columns is not None:
            chosen = np.where(position < 0, -1, self.columns[position])
        if has_bg is not None:
            has_bg = has_bg[:, position] | (position < 0)
        shape = self.shape[0], len(position)
        return replace(self, columns=chosen, measured_bg=has_bg, shape=shape)

    def blocks(self) -> Iterator[tuple[np.ndarray, Counts]]:
        """Yield positions and counts of all cells in order, a bounded number at a time."""
        for start in range(0, len(self.rows), self.buffer):
            cells = np.arange(start, min(start + self.buffer, len(self.rows)))
            yield cells, self.take(cells)

    def take(self, cells: np.ndarray) -> Counts:
        """Return the counts of the cells at these positions, in memory.

        Raises
        ------
        DataError
            If the file has changed since it was opened, or cannot be read.
        """
        self._check()
        wanted, back = np.unique(self.rows[cells], return_inverse=True)
        try:
            with _open(self.path) as file:
                x = self._read(file["X"], wanted)
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise DataError(
                f"the counts of {self.path} cannot be read ({reason}): the file is damaged or "
                "truncated; restore it, and begin anew"
            ) from error
        x = columns(x, self.columns)
        if self.rounded:
            x = rounded(x)
        x = x if len(back) == len(wanted) and (np.diff(back) > 0).all() else x[back]
        if self.group_n is not None and self.measured_bg is not None:
            x, _ = without_absent(x, self.group_n[cells], self.measured_bg)
        return x

    def _check(self) -> None:
        try:
            same = _stamp(self.path) == self.stamp
        except OSError as error:
            raise DataError(
                f"{self.path} is no longer there ({error.strerror}), and its counts were not read "
                "into memory: leave the file where it is until all is done"
            ) from error
        if not same:
            raise DataError(
                f"{self.path} has changed since it was opened: what was learnt and what would now "
                "be read are of two files; leave it as it is until all is done, and begin anew"
            )

    def _read(self, x: Any, rows: np.ndarray) -> Counts:
        """Return sorted rows of the file."""
        runs = _runs(rows)
        if self.indptr is None:
            parts = [x[run[0] : run[-1] + 1][run - run[0]] for run in runs]
            return wide(np.concatenate([*parts, np.zeros((0, x.shape[1]), x.dtype)]))
        bounds = [(int(run[0]), int(run[-1]) + 1) for run in runs]
        spans = [slice(int(self.indptr[a]), int(self.indptr[b])) for a, b in bounds]
        read = np.concatenate([np.arange(a, b) for a, b in bounds] or [np.zeros(0, int)])
        data, indices = (
            np.concatenate([np.zeros(0, x[name].dtype), *(x[name][span] for span in spans)])
            for name in ("data", "indices")
        )
        indptr = np.append(0, np.cumsum(self.indptr[read + 1] - self.indptr[read]))
        if not len(data) == len(indices) == indptr[-1]:
            raise ValueError("it holds fewer values than it says")
        shape = len(read), int(x.attrs["shape"][1])
        return canonical(
            sparse.csr_matrix((wide(data), indices, indptr), shape=shape)[np.isin(read, rows)]
        )


def entries(x: Counts) -> np.ndarray:
    """Return the values that are stored: of sparse counts, those that are not zero."""
    values: np.ndarray = x.data if is_sparse(x) else np.asarray(x)
    return values


def _runs(rows: np.ndarray) -> list[np.ndarray]:
    """Return sorted rows in parts to read at once: neighbours, or nearly so."""
    return np.split(rows, np.flatnonzero(np.diff(rows) > GAP) + 1) if len(rows) else []


def _open(path: Path) -> h5py.File:
    return h5py.File(path, "r", rdcc_nbytes=1 << 24)


def _stamp(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def taken(x: Counts | OnDisk, rows: np.ndarray) -> Counts:
    """Return some rows in memory, wherever they are."""
    return x.take(rows) if isinstance(x, OnDisk) else x[rows]


Stored: TypeAlias = Counts | OnDisk


def cell_totals(x: Stored) -> np.ndarray:
    """Return the sum of each cell's values."""
    parts = (block for _, block in x.blocks()) if isinstance(x, OnDisk) else (x,)
    return np.concatenate([np.asarray(part.sum(axis=1)).ravel() for part in parts])


def read_ahead(
    x: Counts | OnDisk, rows: np.ndarray | None, orders: Iterable[np.ndarray]
) -> Iterator[tuple[np.ndarray, Counts]]:
    """Yield positions and counts of minibatches: what is on disk is read for many at once.

    Parameters
    ----------
    x, rows
        Counts, and which rows of them the cells are; all by default.
    orders
        Positions of each minibatch's cells.
    """
    if not isinstance(x, OnDisk):
        yield from ((cells, x[cells if rows is None else rows[cells]]) for cells in orders)
        return
    for several in _batched(orders, x.buffer):
        cells, start = np.concatenate(several), 0
        block = x.take(cells if rows is None else rows[cells])
        for part in several:
            yield part, block[start : start + len(part)]
            start += len(part)


def _batched(orders: Iterable[np.ndarray], most: int) -> Iterator[list[np.ndarray]]:
    """Yield as many arrays at a time as have so many entries together, and at least one."""
    several: list[np.ndarray] = []
    for cells in orders:
        if several and sum(map(len, several)) + len(cells) > most:
            yield several
            several = []
        several.append(cells)
    if several:
        yield several


def in_memory(x: Counts | OnDisk) -> Counts:
    """Return all rows in memory."""
    return x.take(np.arange(x.shape[0])) if isinstance(x, OnDisk) else x


def kept(x: Counts | OnDisk, rows: np.ndarray) -> Counts | OnDisk:
    """Return some rows, where they are."""
    return x.kept(rows) if isinstance(x, OnDisk) else x[rows]


def chosen_columns(x: Counts | OnDisk, position: np.ndarray | None) -> Counts | OnDisk:
    """Return the columns at these positions, where they are; zeros for -1, all for None."""
    return x.with_columns(position) if isinstance(x, OnDisk) else columns(x, position)
