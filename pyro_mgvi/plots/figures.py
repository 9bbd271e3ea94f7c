"""Figures: where they are made, shown and saved, and names that stay as they are."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from pyro_mgvi.errors import SettingsError
from pyro_mgvi.support.files.whole_files import written_whole
from pyro_mgvi.support.values import flag, path_of

# Backends that draw into files only.
FILES = {"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"}


def _pyplot(wanted: bool) -> ModuleType | None:
    """Return pyplot if figures of its are seen: in a notebook, or where a user has windows.

    Elsewhere figures that pyplot keeps would never be closed. It is not imported for a script
    that has not imported it, unless a figure is to be shown.
    """
    ipython = sys.modules.get("IPython")
    in_session = ipython is not None and ipython.get_ipython() is not None
    if not (wanted or in_session or "matplotlib.pyplot" in sys.modules):
        return None
    import matplotlib.pyplot as pyplot

    return None if matplotlib.get_backend().lower() in FILES else pyplot


def new_figure(width: float, height: float, show: bool | None = None) -> Figure:
    """Return a figure of a size in inches: one of pyplot's where these are seen.

    Parameters
    ----------
    width, height
        In inches.
    show
        False keeps the figure out of pyplot, so that nothing shows it by itself.
    """
    pyplot = None if show is False else _pyplot(wanted=bool(show))
    if pyplot is None:
        return Figure(figsize=(width, height), layout="constrained")
    with warnings.catch_warnings():  # a notebook closes its figures at the end of the cell
        warnings.filterwarnings("ignore", "More than .* figures have been opened", RuntimeWarning)
        figure: Figure = pyplot.figure(figsize=(width, height), layout="constrained")
    return figure


def check(show: bool | None, save: str | Path | None) -> None:
    """Refuse what cannot be shown or saved, before anything is computed.

    Raises
    ------
    SettingsError
        If there is no display to show a figure on, or the file cannot be written.
    """
    if show is not None:
        show = flag("show", show)
    if show and _pyplot(wanted=True) is None:
        backend = matplotlib.get_backend()
        raise SettingsError(f"show=True: matplotlib's {backend} has no display; use save=FILE")
    if save is None:
        return
    path = path_of("save", save)
    if not path.parent.is_dir():
        raise SettingsError(f"cannot write {path}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise SettingsError(f"cannot write {path}: it is a folder")
    endings = Figure().canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in endings:
        raise SettingsError(
            f"cannot write {path}: its ending must be one of {', '.join(sorted(endings))}"
        )


def finish(axes: Sequence[Axes] | np.ndarray, show: bool | None, save: str | Path | None) -> None:
    """Leave names as they are; save the axes' figure, whole or not at all, and show it if asked.

    Raises
    ------
    SettingsError
        If the file cannot be written.
    """
    for ax in axes:
        plain_names(ax)
    if save is not None:
        try:
            with written_whole(save) as part:
                axes[0].figure.figure.savefig(part)  # of a figure within a figure, the outer one
        except OSError as error:
            raise SettingsError(f"cannot write {save}: {error}") from error
    if show:
        pyplot = _pyplot(wanted=True)
        if pyplot is not None:
            pyplot.show()


def plain_names(ax: Axes) -> None:
    """Show names as they are: a ``$`` in one starts no formula."""
    texts = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts]
    legend = ax.get_legend()
    if legend is not None:
        texts += legend.get_texts()
    for axis in (ax.xaxis, ax.yaxis):  # numbers may be formulas: 10 to the power of 3
        if isinstance(axis.get_major_locator(), FixedLocator):
            texts += axis.get_ticklabels()
    for text in texts:
        text.set_parse_math(False)


def legend_of(ax: Axes, handles: Sequence[Artist], names: list[str], **style: Any) -> None:
    """Draw a legend of all names: matplotlib leaves out those that begin with "_"."""
    legend = ax.legend(handles, [f"level {i}" for i in range(len(names))], **style)
    for text, name in zip(legend.get_texts(), names):
        text.set_parse_math(False)
        text.set_text(name)


def short(name: str, most: int) -> str:
    """Return a name with its middle left out if it is long: what tells it may be at either end."""
    half = most // 2
    return name if len(name) <= most else f"{name[: most - half]}…{name[-half + 1 :]}"


def axes_grid(figure: Figure, rows: int, columns: int) -> np.ndarray:
    """Return new axes of a figure, in one row of an array."""
    return figure.subplots(rows, columns, squeeze=False).ravel()
