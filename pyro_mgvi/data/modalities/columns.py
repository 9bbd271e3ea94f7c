"""Columns of the cells of a MuData, which lie with its modalities or with the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pyro_mgvi.data.checks import some
from pyro_mgvi.errors import DataError


def rows_of(names: pd.Index, modality: str, cells: pd.Index) -> np.ndarray:
    """Return where the cells of a modality are among those of the MuData."""
    if cells.has_duplicates:
        raise DataError(
            f"mdata has different cells of one name: {some(cells[cells.duplicated()].unique())}; "
            "rename them, alike in all modalities"
        )
    own = pd.Index([str(name) for name in names], dtype=object)
    row: np.ndarray = cells.get_indexer(own)
    if (row < 0).any():
        raise DataError(
            f"modality {modality!r} has cells that mdata does not know: {some(own[row < 0])}; call "
            "mdata.update() after changing a modality"
        )
    return row


def column_of(mdata: Any, names: Sequence[str], key: str, cells: pd.Index) -> pd.Series:
    """Return a column of ``obs``, of the MuData or put together from its modalities."""
    if key in mdata.obs:
        return _once(mdata.obs, key, "mdata").set_axis(cells)
    asked, of = key, next((name for name in names if str(key).startswith(f"{name}:")), None)
    if of is not None:  # "rna:type"
        key, names = str(key).removeprefix(f"{of}:"), [of]
    found = {name: mdata.mod[name].obs for name in names if key in mdata.mod[name].obs}
    if not found:
        pulled = tuple(f"{name}:" for name in names)  # copies of the modalities' columns
        own = {column for column in map(str, mdata.obs) if not column.startswith(pulled)}
        known = sorted(own.union(*(map(str, mdata.mod[name].obs) for name in names)))
        raise DataError(
            f"{asked!r} is a column neither of mdata.obs nor of the modalities' obs; they have: "
            f"{some(known, 20) or 'no column'}"
        )
    whole, known_n = np.full(len(cells), np.nan, object), np.zeros(len(cells), bool)
    for name, obs in found.items():
        at = rows_of(obs.index, name, cells)
        mine_n = _once(obs, key, f"mdata[{name!r}]").to_numpy(object)
        has = ~pd.isna(mine_n)
        at, mine_n = at[has], mine_n[has]
        other = np.flatnonzero(known_n[at] & (whole[at] != mine_n))
        if len(other):
            cell = at[other[0]]
            raise DataError(
                f"cell {cells[cell]!r} has {key} {whole[cell]!r} in one modality and "
                f"{mine_n[other[0]]!r} in {name!r}: are these different cells of one name? Correct "
                "the column, or rename the cells"
            )
        whole[at], known_n[at] = mine_n, True
    column: pd.Series = pd.Series(whole, cells).infer_objects()
    return column


def _once(obs: pd.DataFrame, key: str, whose: str) -> pd.Series:
    """Return a column, and refuse a name that is there twice."""
    if list(obs.columns).count(key) > 1:
        raise DataError(f"{whose}.obs has several columns {key!r}: rename them")
    column: pd.Series = obs[key]
    return column
