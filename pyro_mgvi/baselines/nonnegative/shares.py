"""What matrix factorisations are given instead of counts: shares of cells' totals, and genes."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from pyro_mgvi.data.stores.in_memory import Counts
from pyro_mgvi.errors import DataError
from pyro_mgvi.kernels.sparse import is_sparse

ALPHA = 0.99  # rliger's alpha.thresh
EXPRESSED, EXPRESSED_CELLS = 3.5, 0.02  # Kinker et al.: log2(CP100K + 1), in a fraction of cells


def shares(x: Counts) -> np.ndarray:
    """Return counts divided by their cell's total, dense."""
    x_ng = x.toarray() if is_sparse(x) else np.asarray(x)
    return x_ng.astype(float) / np.maximum(x_ng.sum(1, keepdims=True, dtype=float), 1)


def variable_genes(x: Counts, excess: float) -> np.ndarray:
    """Return which genes vary more among the cells of one data set than Poisson counts would.

    Parameters
    ----------
    x
        Counts of the cells of one data set, (n, genes).
    excess
        By how much more, as log10 of the ratio of variances (``var.thresh``).

    Returns
    -------
    Boolean mask over genes.

    Notes
    -----
    ``selectGenes`` of rliger, which LIGER and GMDF use: the variance of shares against
    mean times mean(1 / total), and against the upper confidence limit of the mean.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.poisson(5.0, (200, 20))
    >>> x[:100, 3] *= 4
    >>> np.flatnonzero(variable_genes(x, 0.1)).tolist()
    [3]
    """
    share_ng = shares(x)
    mean_g, variance_g = share_ng.mean(0), share_ng.var(0, ddof=1)
    unit = (1 / np.maximum(np.asarray(x.sum(1), float), 1)).mean()
    limit = norm.isf(ALPHA / len(mean_g) / 2)
    above_mean_g = variance_g / unit > mean_g + limit * np.sqrt(mean_g * unit / len(share_ng))
    chosen: np.ndarray = above_mean_g & (variance_g > mean_g * unit * 10**excess)
    return chosen


def scaled_shares(
    x: Counts, group_n: np.ndarray, excess: float = 0.2, combine: np.ufunc = np.logical_and
) -> tuple[np.ndarray, np.ndarray]:
    """Return shares over their root mean square in each data set, not centred, of chosen genes.

    Parameters
    ----------
    x
        Counts, (n, genes).
    group_n
        Integer code of each cell's data set.
    excess
        As for :func:`variable_genes`.
    combine
        ``np.logical_and`` for genes that vary in all data sets, ``np.logical_or`` for any.

    Returns
    -------
    Values, (n, chosen genes), and which genes were chosen.

    Raises
    ------
    DataError
        If no gene is chosen, or a data set has fewer than 2 cells.
    """
    groups = range(int(group_n.max()) + 1)
    sizes = np.bincount(group_n)
    if sizes.min() < 2:
        raise DataError(f"data set {sizes.argmin()} has fewer than 2 cells: genes cannot vary")
    chosen_g = combine.reduce([variable_genes(x[group_n == g], excess) for g in groups])
    if not chosen_g.any():
        raise DataError(
            f"no gene varies enough (excess {excess:g}, combined by {combine.__name__}): lower the "
            "excess, or choose genes that vary in any data set"
        )
    share_ng = shares(x)[:, chosen_g]
    for g in groups:
        own = share_ng[group_n == g]
        scale_g = np.sqrt((own**2).sum(0) / (len(own) - 1))
        share_ng[group_n == g] = own / np.where(scale_g > 0, scale_g, 1)
    return share_ng, chosen_g


def relative_expression(x: Counts, group_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log2(CP100K + 1) above each gene's mean in the cell's group, zero below it.

    Parameters
    ----------
    x
        Counts, (n, genes).
    group_n
        Integer code of each cell's group.

    Returns
    -------
    Values, (n, chosen genes), and which genes were chosen: those above 3.5 in more than 2 % of
    the cells of some group.

    Raises
    ------
    DataError
        If no gene is chosen.

    Notes
    -----
    Kinker et al. (2020), who choose genes of each cell line apart.
    """
    log_ng = np.log2(1e5 * shares(x) + 1)
    groups = range(int(group_n.max()) + 1)
    often_g = [(log_ng[group_n == g] > EXPRESSED).mean(0) > EXPRESSED_CELLS for g in groups]
    chosen_g = np.any(often_g, 0)
    if not chosen_g.any():
        raise DataError("no gene is expressed in more than 2 % of the cells of a group")
    log_ng = log_ng[:, chosen_g]
    for g in groups:
        log_ng[group_n == g] -= log_ng[group_n == g].mean(0)
    return np.maximum(log_ng, 0), chosen_g
