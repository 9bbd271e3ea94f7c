"""Pictures of latents, coloured by anything that is known of the cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes

from pyro_mgvi.data.checks import annotated
from pyro_mgvi.data.checks import column as obs_column
from pyro_mgvi.data.modalities import labelled
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.plots.colours import colours_in
from pyro_mgvi.plots.figures import axes_grid, check, finish, new_figure
from pyro_mgvi.plots.layouts import Layout, pca, umap
from pyro_mgvi.plots.panels import Panel, Place
from pyro_mgvi.support.values import whole_number


def scatter(
    ax: Axes,
    latent_nk: np.ndarray,
    labels: Sequence | pd.Series,
    title: str = "",
    layout: Layout = pca,
    palette: Mapping[str, str] | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw a latent, coloured by label or value.

    Cells whose latent is NaN (foreign copies) are left out; missing labels are grey. A latent
    with one dimension in use is drawn along it: a row for each label, the highest median on top,
    or against the value. One without any is said to be empty. Dimensions are in use where cells
    differ.

    Parameters
    ----------
    ax
        Axes to draw on.
    latent_nk
        Cells x dims.
    labels
        One per cell. Numbers are drawn on a continuous scale, everything else (categories and
        booleans, too) as categories: a colour each, and a marker, too, beyond eight. Beyond 32,
        the rarest are drawn as "other".
    title
        Title of the panel.
    layout
        Function from (n, dims) to (n, 2), such as :func:`pca` or :func:`umap`, for latents with
        several dimensions in use.
    palette
        Colour of each label; used if it has one for every label.
    show
        True shows the figure of ``ax``.
    save
        File to write it to, whose ending says the format.

    Raises
    ------
    DataError
        If there is not one label per cell, or the latent is not finite.
    SettingsError
        If it cannot be shown or saved.
    """
    check(show, save)
    Panel.of(Place.of(latent_nk, layout), labels, title, palette).draw(ax)
    finish([ax], show, save)
    return ax


def latents(
    adata: AnnData,
    panels: str | Sequence[tuple[str, str]],
    columns: int = 2,
    layout: Layout | None = None,
    prefix: str = "X_mgvi_",
    show: bool | None = None,
    save: str | Path | None = None,
) -> np.ndarray:
    """Draw one panel per latent, coloured by a column of ``obs``.

    A panel is as :func:`scatter` draws it. Colours are those of ``uns["<column>_colors"]``, where
    scanpy keeps them, if they fit.

    Parameters
    ----------
    adata
        Annotated data with latents in ``obsm``, from
        :meth:`MGVI.write_latents <pyro_mgvi.MGVI.write_latents>`; or a MuData.
    panels
        A column of ``obs``, for one panel per latent; or pairs of a key of ``obsm`` and a
        column, such as ``("X_mgvi_z", "celltype")``. Columns may be continuous.
    columns
        Panels in a row.
    layout
        Function from (n, dims) to (n, 2); by default :func:`umap` where scanpy is installed,
        else :func:`pca`.
    prefix
        Start of the latents' keys.
    show
        By default a notebook shows the figure, and a script that uses pyplot at its
        ``pyplot.show()``. True shows it at once, False never.
    save
        File to write the figure to, whose ending says the format.

    Returns
    -------
    Array of axes; their figure is ``axes[0].figure``.

    Raises
    ------
    DataError
        If a key or column is missing, or a latent is not finite.
    SettingsError
        If the figure cannot be shown or saved.

    Examples
    --------
    >>> adata = AnnData(np.ones((4, 2)), obs={"type": ["a", "b", "b", "a"], "score": range(4)})
    >>> adata.obsm["X_mgvi_z"] = np.arange(12.0).reshape(4, 3)
    >>> [ax.get_title() for ax in latents(adata, "score", layout=pca)]
    ['z by score']
    """
    check(show, save)
    adata = annotated(labelled(adata, _asked(panels)))
    columns = whole_number("columns", columns, least=1)
    if not isinstance(prefix, str):
        raise SettingsError(f"prefix must be a text, not {prefix!r}")
    if layout is None:
        layout = pca if find_spec("scanpy") is None else umap
    pairs = _pairs(adata, panels, prefix)
    places = {
        key: Place.of(adata.obsm[key], layout) for key in dict.fromkeys(key for key, _ in pairs)
    }
    drawn = [
        Panel.of(
            places[key],
            adata.obs[column],
            f"{key.removeprefix(prefix)} by {column}",
            colours_in(adata, column),
        )
        for key, column in pairs
    ]
    columns = min(columns, len(drawn))
    rows = -(-len(drawn) // columns)
    sizes = np.array([panel.size(4.6, 3.4) for panel in drawn])
    width, height = sizes.max(0)
    figure = new_figure(width * columns, height * rows, show)
    axes = axes_grid(figure, rows, columns)
    for ax, panel in zip(axes, drawn):
        panel.draw(ax)
    for ax in axes[len(drawn) :]:
        ax.set_axis_off()
    finish(axes, show, save)
    return axes[: len(drawn)]


def _asked(panels: object) -> list[object]:
    """Return the columns that panels ask for, as far as these are panels."""
    if isinstance(panels, str):
        return [panels]
    pairs = panels if isinstance(panels, (list, tuple)) else ()
    return [pair[-1] for pair in pairs if isinstance(pair, (tuple, list)) and pair]


def _pairs(
    adata: AnnData, panels: str | Sequence[tuple[str, str]], prefix: str
) -> list[tuple[str, str]]:
    """Return keys of latents and columns to draw, all of which there are."""
    if isinstance(panels, str):
        column = panels
        pairs = [(key, column) for key in adata.obsm if key.startswith(prefix)]
        if not pairs:
            raise DataError(f"no latent {prefix}... in obsm: call write_latents first")
    else:
        pairs = list(panels) if isinstance(panels, Iterable) else [panels]
    if not pairs:
        raise DataError("panels is empty: pass a column, or pairs of a latent and a column")
    for pair in pairs:
        texts = isinstance(pair, (tuple, list)) and all(isinstance(part, str) for part in pair)
        if not texts or len(pair) != 2:
            raise DataError(
                f"panels must be a column, or pairs of a latent and a column, not {pair!r}"
            )
        key, column = pair
        if key not in adata.obsm:
            raise DataError(f"no {key!r} in obsm, which has {sorted(adata.obsm)}")
        obs_column(adata, column, "panels")
    return pairs
