"""Kinds of cells, as latents tell them apart: what groups are compared within."""

from __future__ import annotations

import warnings

import numpy as np


def clusters(x_nk: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """Return the cluster of each cell by k-means; one for all cells without latents."""
    from sklearn.cluster import KMeans  # takes a second to import
    from sklearn.exceptions import ConvergenceWarning

    if not x_nk.size:
        return np.zeros(len(x_nk), dtype=int)
    kmeans = KMeans(min(n_clusters, len(x_nk)), n_init=3, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer clusters are as good
        found: np.ndarray = kmeans.fit_predict(x_nk)
        return found
