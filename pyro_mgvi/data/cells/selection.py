"""Which cells a user means: a mask, a Series, or names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.data.checks import some
from pyro_mgvi.data.grouped_counts import GroupedCounts
from pyro_mgvi.data.names import NamedGroups
from pyro_mgvi.errors import DataError

Cells = np.ndarray | pd.Series | Sequence[object] | str | None


def cell_positions(
    adata: AnnData | GroupedCounts, data: GroupedCounts, cells: Cells, name: str = "cells"
) -> np.ndarray:
    """Return the positions, among the cells of ``data``, of the cells that were asked for.

    Parameters
    ----------
    adata
        What ``data`` were read from: annotated data, or ``data`` themselves.
    data
        The cells that a model uses.
    cells
        A boolean mask over the cells of ``adata``, a boolean Series (aligned by cell name), a
        list of cell names, or None for all.
    name
        What to call it in an error.

    Raises
    ------
    DataError
        If it does not fit the cells.
    """
    if isinstance(adata, GroupedCounts):
        names = None if data.names is None else data.names[data.cells]
        return np.flatnonzero(cell_mask(names, len(data), cells, name))
    values = cell_mask(adata.obs_names, adata.n_obs, cells, name)
    return np.flatnonzero(values[data.cells] if len(data) < len(values) else values)


def cell_mask(names: pd.Index | None, n: int, cells: Cells, name: str = "cells") -> np.ndarray:
    """Return which of ``n`` cells were asked for, boolean.

    Parameters
    ----------
    names
        Names of the cells, if they have any.
    n
        How many there are.
    cells, name
        As of :func:`cell_positions`.

    Raises
    ------
    DataError
        If it does not fit the cells.
    """
    if cells is None:
        return np.ones(n, bool)
    wanted = f"{name} must be a boolean mask over the {n} cells, or a list of cell names, not"
    column = _column(cells, wanted)
    if column.isna().any():
        raise DataError(f"{name} says nothing (NA) of {column.isna().sum()} cell(s): fill it in")
    if names is not None and len(column) and all(isinstance(cell, str) for cell in column):
        unknown = [cell for cell in column if cell not in names]
        if unknown:
            raise DataError(f"{name} holds unknown cell(s): {some(unknown)}")
        values: np.ndarray = names.isin(list(column))
    elif all(isinstance(value, (bool, np.bool_)) for value in column):
        if isinstance(cells, pd.Series) and names is not None and not column.index.equals(names):
            column = _aligned(column, names, name)
        values = column.to_numpy(bool)
    else:
        raise DataError(f"{wanted} {column.dtype} values of shape {column.shape}")
    if values.shape != (n,):
        raise DataError(f"{wanted} {len(values)} values")
    return values


def _column(cells: object, wanted: str) -> pd.Series:
    """Return what was given as one column, with the index of a Series."""
    listed = (list, tuple, np.ndarray, pd.Series, pd.Index, pd.api.extensions.ExtensionArray)
    if not isinstance(cells, listed):
        raise DataError(f"{wanted} a {type(cells).__name__}")
    try:
        return pd.Series(cells)
    except ValueError as error:  # of several columns
        raise DataError(f"{wanted} values of shape {np.shape(cells)}") from error


def _aligned(column: pd.Series, names: pd.Index, name: str) -> pd.Series:
    """Return a mask in the order of the cells."""
    missing = names.difference(column.index)
    if column.index.has_duplicates or len(missing):
        raise DataError(
            f"{name} is a Series whose index does not hold every cell once; missing: "
            f"{some(missing) or 'none'}"
        )
    return column.reindex(names)


def cells_of_group(
    adata: AnnData | GroupedCounts, data: GroupedCounts, named: NamedGroups, cells: Cells = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions of the chosen cells, and of those among them that are of the group(s).

    Raises
    ------
    DataError
        If the mask does not fit the data, or no cell of the group is in it.
    """
    groups, group = data.schema.groups, named.name
    chosen = cell_positions(adata, data, cells)
    own = chosen[named.own(data.group_n[chosen])]
    if len(own):
        return chosen, own
    if not len(chosen):
        raise DataError("the selection holds no cell: choose another")
    found = sorted({groups[other] for other in data.group_n[chosen]})
    raise DataError(
        f"the selection holds no cell of group {group!r}, only {len(chosen)} foreign cell(s) of "
        f"{', '.join(found)}: the latents of {group!r} are zero there, so these cells cannot say "
        f"which genes vary in {group!r}; select cells of {group!r}, too"
    )
