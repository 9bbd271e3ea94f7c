"""Cells of each group to look at, and their kinds, within which groups are compared."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np


def some_of_each(group_n: np.ndarray, codes: Iterable[int], most: int, seed: int) -> np.ndarray:
    """Return the positions of at most so many cells of each of some groups, in order.

    Examples
    --------
    >>> some_of_each(np.array([0, 0, 0, 1, 2]), [0, 1], most=2, seed=0)
    array([0, 2, 3])
    """
    rng = np.random.default_rng(seed)
    cells = [rng.permutation(np.flatnonzero(group_n == code))[:most] for code in codes]
    return np.sort(np.concatenate(cells))


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
