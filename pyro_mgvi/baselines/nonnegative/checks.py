"""What every non-negative factorisation asks of its data."""

from __future__ import annotations

import numpy as np

from pyro_mgvi.errors import DataError


def checked_sizes(x_np: np.ndarray, group_n: np.ndarray) -> np.ndarray:
    """Return the number of cells of each data set.

    Raises
    ------
    DataError
        If values are negative or not finite, or a data set has no cell.

    Examples
    --------
    >>> checked_sizes(np.ones((3, 2)), np.array([0, 1, 1]))
    array([1, 2])
    """
    if x_np.ndim != 2 or x_np.shape[:1] != group_n.shape or not np.isfinite(x_np).all():
        raise DataError(
            "non-negative factorisation needs finite values, cells x genes, and a data set for "
            f"each cell, not shapes {x_np.shape} and {group_n.shape}"
        )
    if not np.issubdtype(group_n.dtype, np.integer) or group_n.min(initial=0) < 0:
        raise DataError("data sets are integer codes from 0")
    if (x_np < 0).any():
        cell, gene = np.argwhere(x_np < 0)[0]
        raise DataError(
            f"non-negative factorisation: cell {cell} has {x_np[cell, gene]:g} for gene {gene}; "
            "give values that are not centred"
        )
    sizes = np.bincount(group_n)
    if not len(sizes) or not sizes.all():
        raise DataError(
            f"data set {sizes.argmin() if len(sizes) else 0} has no cell: number data sets from 0, "
            "without gaps"
        )
    return sizes
