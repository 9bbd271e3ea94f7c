"""Colours and markers of labels, told apart with any common colour vision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.colors import is_color_like, to_hex

from pyro_mgvi.data.checks import some
from pyro_mgvi.data.names import known_labels
from pyro_mgvi.errors import SettingsError

# Okabe and Ito's.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
MISSING = "#BBBBBB"
OTHER = "#7F7F7F"
SEQUENTIAL = "viridis"
MARKERS = "o^sDvP*X"  # with more levels than colours, the next marker
MOST = 32  # levels that are told apart in one picture; the rarest of more are "other"


def is_number(labels: pd.Series) -> bool:
    """Return whether labels are numbers; booleans and categories are not."""
    return pd.api.types.is_numeric_dtype(labels) and not pd.api.types.is_bool_dtype(labels)


@dataclass(frozen=True)
class Levels:
    """What each label of some cells is called and looks like.

    Attributes
    ----------
    names
        The levels that are there, in order; the last may stand for all ``other`` ones.
    code_n
        Level of each cell; -1 where its label is missing.
    colours, markers
        Of each level; no two have both in common, unless a palette of the caller's has so many
        levels of one colour.
    other
        How many levels the last one stands for; 0 if each stands for itself.
    """

    names: tuple[str, ...]
    code_n: np.ndarray
    colours: tuple[str, ...]
    markers: tuple[str, ...]
    other: int = 0

    @classmethod
    def of(
        cls, labels: pd.Series, palette: Mapping[str, str] | None = None, most: int = MOST
    ) -> Levels:
        """Return the levels of some labels.

        Parameters
        ----------
        labels
            One per cell. Categories keep their order, others are sorted as text.
        palette
            Colour of each level; used if it has one for every level.
        most
            Levels that are told apart; the rarest of more are "other".

        Examples
        --------
        >>> levels = Levels.of(pd.Series(["b", None, "a"]))
        >>> levels.names, levels.code_n.tolist()
        (('a', 'b'), [1, -1, 0])
        """
        names, code_n = _coded(labels)
        if palette is not None and not isinstance(palette, Mapping):
            raise SettingsError(f"palette must be a colour for each label, not {palette!r}")
        fits = palette is not None and all(name in palette for name in names)
        given = [palette[name] for name in names] if palette is not None and fits else []
        unknown = [colour for colour in given if not is_color_like(colour)]
        if unknown:
            raise SettingsError(f"palette: {some(unknown)} is no colour that matplotlib knows")
        other = len(names) - most if len(names) > most + 1 else 0  # one stands for itself
        if other:
            sizes = np.bincount(code_n[code_n >= 0], minlength=len(names))
            common = np.sort(np.argsort(-sizes, kind="stable")[:most])
            new = np.full(len(names) + 1, most)
            new[common], new[-1] = np.arange(most), -1  # the last is that of a missing label
            names, code_n = [names[i] for i in common], new[code_n]
        colours = [
            palette[name] if palette is not None and fits else PALETTE[i % len(PALETTE)]
            for i, name in enumerate(names)
        ]
        markers = [MARKERS[colours[:i].count(c) % len(MARKERS)] for i, c in enumerate(colours)]
        if other:
            names.append(f"other ({other} levels)")
            colours.append(OTHER)
            markers.append("o")
        return cls(tuple(names), code_n, tuple(colours), tuple(markers), other)

    def among(self, cells: np.ndarray) -> Levels:
        """Return the levels that some cells have; they look as they do among all cells."""
        code_n = self.code_n[cells]
        there = np.unique(code_n[code_n >= 0])
        new = np.full(len(self.names) + 1, -1)
        new[there] = np.arange(len(there))
        rest = self.other if len(self.names) - 1 in there else 0
        names, colours, markers = (
            tuple(x[i] for i in there) for x in (self.names, self.colours, self.markers)
        )
        return Levels(names, new[code_n], colours, markers, rest)


def _coded(labels: pd.Series) -> tuple[list[str], np.ndarray]:
    """Return the levels that are there, and that of each cell; -1 for a missing label."""
    text_n, known_n = known_labels(labels)
    if isinstance(labels.dtype, pd.CategoricalDtype):
        present = set(text_n[known_n])
        names = [name for name in map(str, labels.cat.categories) if name in present]
        names = list(dict.fromkeys(names))
    else:
        names = sorted(set(text_n[known_n]))
    position = {name: code for code, name in enumerate(names)}
    return names, np.array([position.get(text, -1) for text in text_n], int)


def colours_in(adata: AnnData, column: str) -> dict[str, str] | None:
    """Return the colour of each level in ``uns["<column>_colors"]``, as scanpy keeps them.

    None if there are none that fit: too few, not all of them colours, or of no column of ``obs``.

    Parameters
    ----------
    adata
        Annotated data.
    column
        A column of ``obs``.
    """
    if column not in adata.obs:  # of several, whose combinations are groups
        return None
    found, labels = adata.uns.get(f"{column}_colors"), adata.obs[column]
    if is_number(labels) or not isinstance(found, (list, tuple, np.ndarray)):
        return None
    if isinstance(labels.dtype, pd.CategoricalDtype):
        names = [str(level) for level in labels.cat.categories]
    else:
        names, _ = _coded(labels)
    if len(found) < len(names) or not all(map(is_color_like, found)):
        return None
    return {name: to_hex(colour, keep_alpha=True) for name, colour in zip(names, found)}
