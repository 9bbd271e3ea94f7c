"""Layouts: from the dimensions of a latent to places in the plane."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from anndata import AnnData

from pyro_mgvi.analysis.metrics import in_use
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.support.optional import require

FEW = 4  # cells below which UMAP has no neighbours to keep
Layout = Callable[[np.ndarray], np.ndarray]


def _known(latent_nk: np.ndarray) -> np.ndarray:
    latent_nk = np.asarray(latent_nk)
    if not np.isfinite(latent_nk).all():
        raise DataError(
            "the latent is not finite for all cells (NaN where they do not own it): lay out the "
            "cells that own it"
        )
    return latent_nk


def pca(latent_nk: np.ndarray) -> np.ndarray:
    """Return the first two principal components of a latent, (n, 2).

    The second is 0 where only one dimension is in use, and both where none is.

    Raises
    ------
    DataError
        If a value is not finite.

    Examples
    --------
    >>> pca(np.array([[0.0, 1.0, 0.0], [0.0, 3.0, 0.0]])).tolist()  # only the second is in use
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    latent_nk = _known(latent_nk)
    used_nk = latent_nk[:, in_use(latent_nk)]
    if used_nk.shape[1] > 1:
        from sklearn.decomposition import PCA  # takes a second to import

        return PCA(2, random_state=0).fit_transform(used_nk)
    xy = np.zeros((len(latent_nk), 2))
    xy[:, : used_nk.shape[1]] = used_nk - used_nk.mean(axis=0)
    return xy


def umap(latent_nk: np.ndarray) -> np.ndarray:
    """Return scanpy's UMAP, (n, 2): neighbours are kept, distances between clusters are not.

    Raises
    ------
    SettingsError
        If scanpy is not installed.
    DataError
        If a value is not finite, or no dimension of the latent is in use: the neighbours of
        equal cells are those beside them in the file, and would be drawn as clusters. Or if
        there are fewer than four cells.
    """
    latent_nk = _known(latent_nk)
    if not in_use(latent_nk).any():
        raise DataError(
            "no dimension of the latent is in use (the cells are all the same): there is nothing "
            "to lay out"
        )
    if len(latent_nk) < FEW:
        raise DataError(f"UMAP needs {FEW} cells, not {len(latent_nk)}: use layout=plots.pca")
    scanpy = require("scanpy", "tutorials")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scanpy's own dependencies
        cells = AnnData(np.asarray(latent_nk, np.float32))
        # Exact neighbours: scanpy's approximate ones, of many cells, fail with pynndescent 0.7.
        exact = {"transformer": "sklearn", "use_rep": "X"}
        scanpy.pp.neighbors(cells, n_neighbors=min(15, len(latent_nk) - 1), **exact)
        scanpy.tl.umap(cells, random_state=0)
    return cells.obsm["X_umap"]


def check_layout(layout: object) -> None:
    """Refuse a layout that is no function, such as its name.

    Raises
    ------
    SettingsError
        Saying what to pass.
    """
    if not callable(layout):
        raise SettingsError(f"layout must be a function, such as plots.pca, not {layout!r}")


def placed(latent_nk: np.ndarray, layout: Layout) -> tuple[np.ndarray, str]:
    """Return places of cells that have a latent of several dimensions, and what the axes are."""
    if layout is umap and len(latent_nk) < FEW:
        layout = pca
    xy = np.asarray(layout(latent_nk))
    if xy.shape != (len(latent_nk), 2):
        raise DataError(f"layout returned shape {xy.shape}, not {(len(latent_nk), 2)}")
    names: dict[Layout, str] = {pca: "PC", umap: "UMAP"}
    return xy, names.get(layout, "dimension")
