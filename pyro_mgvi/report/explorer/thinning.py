"""Fewer cells, of every group."""

from __future__ import annotations

import numpy as np

LEAST = 200  # cells of each group, if it has them and there is room


def thinned(group_n: np.ndarray, most: int) -> np.ndarray:
    """Return positions of at most ``most`` cells, drawn at random within each group, in order.

    Each group keeps its share of the cells, but small groups keep up to 200 (or an equal part of
    ``most``, if that is less): they would vanish otherwise.

    Examples
    --------
    >>> group_n = np.repeat([0, 1], [9_000, 100])
    >>> np.bincount(group_n[thinned(group_n, 1_000)]).tolist()
    [900, 100]
    """
    sizes = np.bincount(group_n)
    if len(group_n) <= most:
        return np.arange(len(group_n))
    kept = np.minimum(sizes, min(LEAST, most // len(sizes)))
    left, room = sizes - kept, most - kept.sum()
    kept = kept + np.minimum(left, left * room // max(left.sum(), 1))
    rng = np.random.default_rng(0)
    chosen = [
        rng.choice(np.flatnonzero(group_n == code), n, replace=False) for code, n in enumerate(kept)
    ]
    return np.sort(np.concatenate(chosen))
