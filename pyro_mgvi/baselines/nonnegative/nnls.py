"""Non-negative least squares of many right-hand sides at once, exact, from cross-products."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import nnls as lawson_hanson

RIDGE = 1e-13  # of the scaled cross-products: solvable if singular, and lost in rounding
ROUNDS = 30  # of exchanges before a column is handed to scipy


def nnls(gram_kk: np.ndarray, cross_km: np.ndarray) -> np.ndarray:
    r"""Return the non-negative minimisers of :math:`x'Gx - 2c'x`, one for each column c.

    With :math:`G = D'D` and :math:`c = D'y` these are the least-squares solutions of
    :math:`Dx = y`. Needed are exact solutions for thousands of columns of a few variables:
    scipy's solver takes one column, and scikit-learn's (coordinate descent within ``NMF``)
    refuses targets with negative values, which residuals have.

    Parameters
    ----------
    gram_kk
        Cross-products G, positive semidefinite, (k, k).
    cross_km
        Right-hand sides, (k, m).

    Returns
    -------
    Solutions, (k, m); zero where a variable's own cross-product is.

    Notes
    -----
    Principal pivoting in blocks (Kim & Park 2011): each round exchanges all variables of wrong
    sign between those that are zero and those that are solved for. A column that still goes
    round in circles is solved by Lawson and Hanson's algorithm (scipy).

    Examples
    --------
    >>> nnls(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[3.0, 3.0], [3.0, 0.0]]))
    array([[1. , 1.5],
           [1. , 0. ]])
    """
    scale_k = np.sqrt(np.diag(gram_kk))
    live = scale_k > 0
    scale_k = scale_k[live]
    gram = gram_kk[np.ix_(live, live)] / np.outer(scale_k, scale_k) + RIDGE * np.eye(live.sum())
    cross_mk = cross_km[live].T / scale_k
    x_mk = np.zeros_like(cross_mk)
    free_mk = np.zeros(cross_mk.shape, bool)
    slack_mk = -cross_mk
    # Rounding is no wrong sign: without a margin, zeros change sides for ever.
    margin_m1 = -1e-12 * np.abs(cross_mk).max(1, keepdims=True, initial=0)
    for _ in range(ROUNDS):
        wrong_mk = np.where(free_mk, x_mk, slack_mk) < margin_m1
        left = np.flatnonzero(wrong_mk.any(1))
        if not len(left):
            break
        free_mk[left] ^= wrong_mk[left]
        free = free_mk[left]
        systems = np.where(free[:, :, None] & free[:, None], gram, np.eye(len(gram)))
        solved = np.linalg.solve(systems, np.where(free, cross_mk[left], 0)[..., None])[..., 0]
        x_mk[left], slack_mk[left] = solved, solved @ gram - cross_mk[left]
    else:
        lower = np.linalg.cholesky(gram)
        for m in left:
            root = solve_triangular(lower, cross_mk[m], lower=True)
            x_mk[m] = lawson_hanson(lower.T, root)[0]
    out_km = np.zeros_like(cross_km)
    out_km[live] = (np.maximum(x_mk, 0) / scale_k).T
    return out_km
