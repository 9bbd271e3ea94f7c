"""Latents in two dimensions, coloured by anything that is known of the cells."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_mgvi.errors import DataError
from pyro_mgvi.optional import require
from pyro_mgvi.plots.colours import MISSING, PALETTE, SEQUENTIAL

MARKERS = "o^sDvP*X"  # with more levels than colours, the next marker


def pca(latent_nk: np.ndarray) -> np.ndarray:
    """Return the first two principal components of the dimensions in use, (n, 2).

    A single one is spread out at random along the second axis, so that cells do not hide each
    other; a latent without any is a point.

    Examples
    --------
    >>> xy = pca(np.array([[0.0, 1.0, 0.0], [0.0, 3.0, 0.0]]))  # only the second is in use
    >>> xy[:, 0].tolist(), bool(xy[0, 1] != xy[1, 1])
    ([1.0, 3.0], True)
    """
    in_use = (latent_nk != latent_nk[:1]).any(axis=0)  # the others are exact zeros
    latent_nk = latent_nk[:, in_use] if in_use.any() else np.zeros((len(latent_nk), 2))
    if latent_nk.shape[1] > 2:
        from sklearn.decomposition import PCA  # takes a second to import

        return PCA(2, random_state=0).fit_transform(latent_nk)
    if latent_nk.shape[1] == 1:
        return np.column_stack([latent_nk[:, 0], np.random.default_rng(0).random(len(latent_nk))])
    return latent_nk


def umap(latent_nk: np.ndarray) -> np.ndarray:
    """Return scanpy's UMAP, (n, 2): neighbours are kept, distances between clusters are not.

    Raises
    ------
    SettingsError
        If scanpy is not installed.
    """
    scanpy = require("scanpy", "tutorials")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scanpy's own dependencies
        cells = AnnData(np.asarray(latent_nk, np.float32))
        scanpy.pp.neighbors(cells, n_neighbors=min(15, len(latent_nk) - 1), use_rep="X")
        scanpy.tl.umap(cells, random_state=0)
    return cells.obsm["X_umap"]


AXES = {pca: "PC", umap: "UMAP"}


def scatter(
    ax: Axes,
    latent_nk: np.ndarray,
    labels: Sequence,
    title: str = "",
    layout: Callable[[np.ndarray], np.ndarray] = pca,
) -> Axes:
    """Draw a latent in two dimensions, coloured by label or value.

    Cells whose latent is NaN (foreign copies) are left out; missing labels are grey.

    Parameters
    ----------
    ax
        Axes to draw on.
    latent_nk
        Cells x dims.
    labels
        One per cell. Numbers are drawn on a continuous scale, everything else (categories and
        booleans, too) as categories: a colour each, and a marker, too, beyond eight.
    title
        Title of the panel.
    layout
        Function from (n, dims) to (n, 2), such as :func:`pca` or :func:`umap`.
    """
    known, xy = _place(latent_nk, layout)
    return _draw(ax, xy, _series(labels)[known], title, AXES.get(layout, "dimension"))


def _place(latent_nk: np.ndarray, layout) -> tuple[np.ndarray, np.ndarray]:
    """Return which cells have the latent, and where they are."""
    latent_nk = np.asarray(latent_nk)
    known = np.isfinite(latent_nk).all(1)
    return known, layout(latent_nk[known])


def _series(labels: Sequence | pd.Series) -> pd.Series:
    if isinstance(labels, pd.Series):
        return labels.reset_index(drop=True)
    return pd.Series(labels)


def _draw(ax: Axes, xy: np.ndarray, labels: pd.Series, title: str, axis: str) -> Axes:
    order = np.random.default_rng(0).permutation(len(labels))  # no label hides another
    xy, labels = xy[order], labels.iloc[order]
    size = float(np.clip(6000 / max(len(labels), 1), 3, 20))
    style = {"s": size, "linewidths": 0, "alpha": 0.8}
    present = labels.notna().to_numpy()
    if _continuous(labels):
        value = labels[present].to_numpy(float)
        points = ax.scatter(*xy[present].T, c=value, cmap=SEQUENTIAL, **style)
        ax.figure.colorbar(points, cax=ax.inset_axes([1.04, 0, 0.05, 1]))
    else:
        _categories(ax, xy[present], labels[present].astype(str).to_numpy(), style)
    if not present.all():
        ax.scatter(*xy[~present].T, color=MISSING, zorder=0, **style)
    ax.set(title=title, xticks=[], yticks=[], xlabel=f"{axis} 1", ylabel=f"{axis} 2")
    return ax


def _continuous(labels: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(labels) and not pd.api.types.is_bool_dtype(labels)


def _categories(ax: Axes, xy: np.ndarray, labels: np.ndarray, style: dict) -> None:
    """Draw all cells of one marker at once, so that their order stays random, and a legend."""
    levels = np.unique(labels)
    code = np.searchsorted(levels, labels)
    colours = np.array([PALETTE[i % len(PALETTE)] for i in range(len(levels))])
    markers = [MARKERS[i // len(PALETTE) % len(MARKERS)] for i in range(len(levels))]
    for marker in dict.fromkeys(markers):
        drawn = np.array(markers, dtype=str)[code] == marker
        ax.scatter(*xy[drawn].T, c=colours[code[drawn]], marker=marker, **style)
    for level, colour, marker in zip(levels, colours, markers):
        ax.scatter([], [], s=24, color=colour, marker=marker, label=level)
    ax.legend(
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        frameon=False,
        fontsize=8,
        ncols=1 + len(levels) // 17,
    )


def latents(
    adata: AnnData,
    panels: str | Sequence[tuple[str, str]],
    columns: int = 2,
    layout: Callable[[np.ndarray], np.ndarray] | None = None,
    prefix: str = "X_mgvi_",
) -> np.ndarray:
    """Draw one panel per latent, coloured by a column of ``obs``.

    Parameters
    ----------
    adata
        Annotated data with latents in ``obsm``, from
        :meth:`MGVI.write_latents <pyro_mgvi.MGVI.write_latents>`.
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

    Returns
    -------
    Array of axes; their figure is ``axes[0].figure``.

    Raises
    ------
    DataError
        If a key or column is missing.

    Examples
    --------
    >>> adata = AnnData(np.ones((4, 2)), obs={"type": ["a", "b", "b", "a"], "score": range(4)})
    >>> adata.obsm["X_mgvi_z"] = np.arange(12.0).reshape(4, 3)
    >>> [ax.get_title() for ax in latents(adata, "score", layout=pca)]
    ['z by score']
    """
    if layout is None:
        layout = pca if find_spec("scanpy") is None else umap
    if isinstance(panels, str):
        panels = [(key, panels) for key in adata.obsm if key.startswith(prefix)]
        if not panels:
            raise DataError(f"no latent {prefix}... in obsm: call write_latents first")
    for key, column in panels:
        if key not in adata.obsm:
            raise DataError(f"no {key!r} in obsm, which has {sorted(adata.obsm)}")
        if column not in adata.obs:
            raise DataError(f"no column {column!r} in obs, which has {sorted(adata.obs)}")
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    places = {key: _place(adata.obsm[key], layout) for key in dict.fromkeys(k for k, _ in panels)}
    for ax, (key, column) in zip(axes, panels):
        known, xy = places[key]
        title = f"{key.removeprefix(prefix)} by {column}"
        labels = _series(adata.obs[column])[known]
        _draw(ax, xy, labels, title, AXES.get(layout, "dimension"))
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    return axes[: len(panels)]
