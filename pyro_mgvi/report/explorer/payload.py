"""What the explorer draws, as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from pyro_mgvi import plots
from pyro_mgvi.analysis.diagnosis import ACTIVE
from pyro_mgvi.plots.colours import MISSING, Levels, colours_in, is_number
from pyro_mgvi.plots.layouts import Layout
from pyro_mgvi.plots.panels import Place
from pyro_mgvi.report.explorer.genes import expected, observed
from pyro_mgvi.report.explorer.packing import whole, words
from pyro_mgvi.report.explorer.thinning import thinned
from pyro_mgvi.report.rankings import Rankings
from pyro_mgvi.report.result import OwnCells, Result

CELLS = 20_000  # that are drawn; a page of 50,000 stays below 15 MB
GENES = 200  # that are listed
VALUES = 3_000_000  # of their expression: fewer genes of very many cells
LEVELS = 250  # of a column, that are told apart
SYMBOLS = {  # plotly's names of our markers
    "o": "circle", "^": "triangle-up", "s": "square", "D": "diamond", "v": "triangle-down",
    "P": "cross", "*": "star", "X": "x",
}  # fmt: skip


@dataclass(frozen=True)
class Explorer:
    """What the explorer shows.

    Attributes
    ----------
    n_cells, n_all
        How many cells are drawn, and how many there are.
    latents
        Keys of the latents that are drawn.
    genes
        The listed genes.
    compared
        Whether expression with all latents is beside that with the shared ones.
    data
        All of it, for the scripts.
    """

    n_cells: int
    n_all: int
    latents: tuple[str, ...]
    genes: tuple[str, ...]
    compared: bool
    data: dict[str, Any]

    @property
    def predicted(self) -> bool:
        """Whether a listed gene was not measured in some group."""
        return any(self.data["genes"]["notes"]) if self.data["genes"] else False

    @property
    def json(self) -> str:
        """Return the data as JSON that may stand in a script element, whatever the names are."""
        text = json.dumps(self.data, separators=(",", ":"), allow_nan=False)
        for letter in "<>&":
            text = text.replace(letter, f"\\u{ord(letter):04x}")
        return text


def explorer(result: Result, rankings: Rankings, most: int = CELLS) -> Explorer | None:
    """Return what the explorer shows of a fit; None if no latent is in use.

    Parameters
    ----------
    result
        The fit.
    rankings
        Whose first genes are listed.
    most
        Cells that are drawn; of more, some of each group.
    """
    group_n = result.group.cat.codes.to_numpy()
    cells = thinned(group_n, most)
    layout = plots.pca if find_spec("scanpy") is None else plots.umap
    views: list[dict[str, Any]] = []
    dims: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    for own in result.copies():
        used = np.flatnonzero(np.var(own.values, axis=0) > ACTIVE)
        if not len(used):
            continue
        mine = np.flatnonzero(own.own_n[cells])
        mine = rng.permutation(mine)  # they are drawn in this order, in which no group hides others
        values = own.values[np.cumsum(own.own_n)[cells[mine]] - 1]
        for k in used:
            name = f"{own.copy.key}, dimension {k + 1}"
            dims.append({"name": name, "view": len(views), **words(values[:, k])})
        views.append(_view(own, mine, values[:, used], used, layout))
    if not views:
        return None
    names = rankings.listed(min(GENES, VALUES // len(cells)))
    seen = observed(result, cells, names)
    told = expected(result, cells, names)
    data = {
        "n": len(cells),
        "missing": MISSING,
        "views": views,
        "columns": _columns(result, cells),
        "dimensions": dims,
        "genes": seen,
        "expected": told,
    }
    keys = tuple(view["key"] for view in views)
    listed = tuple(names) if seen is not None else ()
    return Explorer(len(cells), len(group_n), keys, listed, told is not None, data)


def _view(
    own: OwnCells, cells: np.ndarray, values_nk: np.ndarray, used: np.ndarray, layout: Layout
) -> dict[str, Any]:
    """Return where the drawn cells that own a copy are: in the plane, or along one dimension.

    Two dimensions in use need no layout.
    """
    place = Place.of(values_nk, layout if len(used) > 2 else plots.pca)
    at_nd = place.at if place.at.size else values_nk[:, :1]  # what is drawn of it does not vary
    dims = at_nd.shape[1]
    axes = [f"{place.axis} 1", f"{place.axis} 2"] if dims == 2 else [f"dimension {used[0] + 1}"]
    return {
        "key": own.copy.key,
        "owners": own.copy.owners,
        "cells": whole(cells, np.uint16),
        "axes": axes,
        "at": [words(at_nd[:, i]) for i in range(dims)],
    }


def _columns(result: Result, cells: np.ndarray) -> list[dict[str, Any]]:
    """Return group, labels and batch of the drawn cells: levels with their looks, or numbers."""
    batch = result.settings.get("batch_key")
    names = (result.settings["group_key"], *result.labels, *([batch] if batch else []))
    columns = []
    for name in dict.fromkeys(names):
        labels = result.column(name)
        if is_number(labels):
            value_n = labels.to_numpy(float, na_value=np.nan)[cells]
            columns.append({"name": str(name), "levels": None, **words(value_n)})
            continue
        levels = Levels.of(labels, colours_in(result.adata, name), LEVELS)
        columns.append(
            {
                "name": str(name),
                "levels": levels.names,
                "colours": [colour[:7] for colour in levels.colours],
                "symbols": [SYMBOLS[marker] for marker in levels.markers],
                "codes": whole(np.where(levels.code_n < 0, 255, levels.code_n)[cells], np.uint8),
            }
        )
    return columns
