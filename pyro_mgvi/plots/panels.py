"""One picture of a latent: of several dimensions, of one, or of none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pyro_mgvi.analysis.metrics import cells_with, in_use
from pyro_mgvi.errors import DataError
from pyro_mgvi.plots.colours import MISSING, OTHER, PALETTE, SEQUENTIAL, Levels, is_number
from pyro_mgvi.plots.figures import legend_of, short
from pyro_mgvi.plots.layouts import Layout, check_layout, placed

COLUMN = 17  # names in a column of a legend
LONGEST = 40  # letters of a name in a picture


@dataclass(frozen=True)
class Place:
    """Where cells are drawn.

    Attributes
    ----------
    known_n
        Which cells have the latent.
    at
        Their places: n x 2; n x 1 if one dimension only is in use; n x 0 if none is.
    axis
        What the axes are called.
    """

    known_n: np.ndarray
    at: np.ndarray
    axis: str = ""

    @classmethod
    def of(cls, latent_nk: np.ndarray, layout: Layout) -> Place:
        """Lay out the cells that have a latent, by as many dimensions as are in use."""
        check_layout(layout)
        latent_nk, known_n = cells_with(latent_nk)
        used = in_use(latent_nk[known_n])
        if used.sum() < 2:
            axis = f"dimension {used.argmax() + 1}" if used.any() else ""
            return cls(known_n, latent_nk[known_n][:, used], axis)
        return cls(known_n, *placed(latent_nk[known_n], layout))


def as_series(labels: Sequence[object] | pd.Series, n_cells: int) -> pd.Series:
    """Return labels by position; refuse other than one per cell."""
    try:
        series = pd.Series(labels).reset_index(drop=True)
    except ValueError as error:
        raise DataError(f"labels must be one per cell: {error}") from error
    if len(series) != n_cells:
        raise DataError(f"{len(series)} labels for {n_cells} cells: pass one per cell")
    return series


@dataclass(frozen=True)
class Panel:
    """A picture of a latent, coloured by label or value.

    Attributes
    ----------
    place
        Where the cells that have the latent are.
    labels
        Of these cells.
    title
        Of the picture.
    levels
        What each label looks like; None if labels are numbers.
    font
        Size of names.
    """

    place: Place
    labels: pd.Series
    title: str = ""
    levels: Levels | None = None
    font: float = 8

    @classmethod
    def of(
        cls,
        place: Place,
        labels: Sequence[object] | pd.Series,
        title: str = "",
        palette: Mapping[str, str] | None = None,
        font: float = 8,
    ) -> Panel:
        """Return the picture of the cells that have the latent.

        A label looks the same in the pictures of all latents: pass those of all cells.
        """
        labels, known_n = as_series(labels, len(place.known_n)), place.known_n
        levels = None if is_number(labels) else Levels.of(labels, palette).among(known_n)
        return cls(place, labels[known_n], title, levels, font)

    @property
    def dims(self) -> int:
        """Return how many dimensions are drawn: 2, 1 or 0."""
        return self.place.at.shape[1]

    def size(self, width: float, height: float) -> tuple[float, float]:
        """Return a size in inches, of at least these, that has room for all names."""
        if self.levels is None or not self.dims:
            return width, height
        names = [short(name, LONGEST) for name in self.levels.names] or [""]
        columns = -(-len(names) // COLUMN) if self.dims == 2 else 1
        letter, line = 0.6 * self.font / 72, 1.6 * self.font / 72
        wide = 3.3 + columns * (0.4 + letter * max(map(len, names)))
        return max(width, wide), max(height, 0.9 + line * -(-(len(names) + 1) // columns))

    def draw(self, ax: Axes) -> Axes:
        """Draw it."""
        draw = (self._empty, self._along, self._plane)[self.dims]
        draw(ax)
        ax.set_title(self.title)
        return ax

    def _empty(self, ax: Axes) -> None:
        """Say that there is nothing: a layout of equal cells would show their order as clusters."""
        n = len(self.labels)
        text = "empty: none of its\ndimensions is in use" if n > 1 else f"{n or 'no'} cell has it"
        ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center")
        ax.set(xticks=[], yticks=[])

    @property
    def _style(self) -> dict[str, Any]:
        size = float(np.clip(6000 / max(len(self.labels), 1), 3, 20))
        return {"s": size, "linewidths": 0, "alpha": 0.8}

    def _numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """Return labels as numbers, and which of them there are."""
        value_n = self.labels.to_numpy(float, na_value=np.nan)
        return value_n, np.isfinite(value_n)

    def _along(self, ax: Axes) -> None:
        """Draw one dimension: against a number, or a row for each level, the highest on top."""
        value_n = self.place.at[:, 0]
        ax.set_xlabel(self.place.axis)
        if self.levels is None:
            label_n, present = self._numbers()
            ax.scatter(value_n[present], label_n[present], color=PALETTE[0], **self._style)
            ax.set_ylabel("" if self.labels.name is None else str(self.labels.name))
            if not present.all():  # at the edge: they have no height
                edge = ax.get_xaxis_transform()
                at = np.full((~present).sum(), 0.02)
                ax.scatter(value_n[~present], at, color=MISSING, transform=edge, **self._style)
            return
        levels = self.levels
        rows = [code for code in range(-1, len(levels.names)) if (levels.code_n == code).any()]
        median = {code: np.median(value_n[levels.code_n == code]) for code in rows}
        last = len(levels.names) - 1 if levels.other else None
        rows.sort(key=lambda code: (code != -1, code != last, median[code]))
        row_of = np.empty(len(levels.names) + 1)  # the last is that of code -1
        row_of[rows] = np.arange(len(rows))
        colours = np.array([*levels.colours, MISSING])
        # Within a row, height means nothing: it only keeps cells from hiding each other.
        height_n = row_of[levels.code_n] + np.random.default_rng(0).uniform(-0.3, 0.3, len(value_n))
        ax.scatter(value_n, height_n, c=colours[levels.code_n], **self._style)
        for row, code in enumerate(rows):
            ax.vlines(median[code], row - 0.4, row + 0.4, color="black", linewidth=1.5)
        names = [short(name, LONGEST) for name in (*levels.names, "missing")]
        ax.set_yticks(range(len(rows)), [names[code] for code in rows], fontsize=self.font)
        ax.set_ylim(-0.6, len(rows) - 0.4)

    def _plane(self, ax: Axes) -> None:
        """Draw two axes, in an order in which no label hides another."""
        order = np.random.default_rng(0).permutation(len(self.labels))
        xy = self.place.at[order]
        if self.levels is None:
            value_n, present = (x[order] for x in self._numbers())
            if present.any():
                x, y = xy[present].T
                points = ax.scatter(x, y, c=value_n[present], cmap=SEQUENTIAL, **self._style)
                ax.figure.colorbar(points, cax=ax.inset_axes((1.04, 0, 0.05, 1)))
        else:
            code_n = self.levels.code_n[order]
            present = code_n >= 0
            self._levels(ax, xy, code_n, self.levels)
        if not present.all():
            ax.scatter(*xy[~present].T, color=MISSING, zorder=0, **self._style)
        axis = self.place.axis
        ax.set(xticks=[], yticks=[], xlabel=f"{axis} 1", ylabel=f"{axis} 2")

    def _levels(self, ax: Axes, xy: np.ndarray, code_n: np.ndarray, levels: Levels) -> None:
        """Draw all cells of one marker at once, so that their order stays random, and a legend."""
        colours, markers = np.array(levels.colours), np.array(levels.markers)
        rest = len(levels.names) - 1 if levels.other else -1
        named = (code_n >= 0) & (code_n != rest)
        for marker in dict.fromkeys(levels.markers):
            drawn = named & (markers[code_n] == marker)
            if drawn.any():
                x, y = xy[drawn].T
                ax.scatter(x, y, c=colours[code_n[drawn]], marker=marker, **self._style)
        if levels.other:
            ax.scatter(*xy[code_n == rest].T, color=OTHER, zorder=0.5, **self._style)
        names, looks = list(levels.names), list(zip(levels.colours, levels.markers))
        if (code_n < 0).any():
            names, looks = [*names, "missing"], [*looks, (MISSING, "o")]
        handles = [ax.scatter([], [], s=24, color=c, marker=m) for c, m in looks]
        legend_of(
            ax,
            handles,
            [short(name, LONGEST) for name in names],
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            frameon=False,
            fontsize=self.font,
            ncols=-(-len(names) // COLUMN),
        )
