"""What a gene's deviance is by chance, given its mean, the libraries and a dispersion."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import gammaln, ndtri

STEP = 0.05
LOG_MEAN = np.arange(-18.0, 18.5, STEP)  # of a gene in a cell: up to the largest count there is
POINTS = 500  # counts at which a distribution is looked at, at most
LEAST_DISPERSION = 1e-4  # below it, counts are Poisson
LOUD, LOUD_GENES = 0.05, 10  # share of the genes that tell the dispersion, and the least number
QUIET = 0.1  # share of these that are taken to have nothing else


@lru_cache(maxsize=512)
def count_moments(dispersion: float) -> np.ndarray:
    r"""Return moments of one count's Poisson deviance, along :data:`LOG_MEAN`.

    The deviance of a count is :math:`d(x) = 2 (x \log(x / \mu) - x + \mu)`.

    Parameters
    ----------
    dispersion
        Of the negative binomial that the count is drawn from, whose variance is
        ``mean + dispersion * mean**2``; 0 for Poisson.

    Returns
    -------
    Mean and variance of the deviance, and its covariance with the count, (3, means).

    Examples
    --------
    >>> large = np.searchsorted(LOG_MEAN, 10.0)  # Poisson counts whose deviance is a chi-square
    >>> mean, variance, _ = count_moments(0.0)[:, large]
    >>> round(float(mean), 3), round(float(variance), 3)
    (1.0, 2.0)
    """
    mean = np.exp(LOG_MEAN)[:, None]
    last = mean + 12 * np.sqrt(mean + dispersion * mean**2)
    step = np.maximum(1.0, last / POINTS)
    x = step * np.arange(POINTS)
    share = np.exp(_log_probability(x, mean, dispersion))
    share[:, :1] *= (1 + 1 / step) / 2  # of the counts that it stands for, none is below zero
    share /= share.sum(1, keepdims=True)
    deviance = 2 * (x * np.log(np.maximum(x, 1) / mean) - x + mean)
    expected = (share * deviance).sum(1, keepdims=True)
    return np.stack(
        [
            expected[:, 0],
            (share * (deviance - expected) ** 2).sum(1),
            (share * deviance * (x - mean)).sum(1),
        ]
    )


def _log_probability(x: np.ndarray, mean: np.ndarray, dispersion: float) -> np.ndarray:
    """Return the log probability of counts, up to a constant of each mean."""
    if dispersion < LEAST_DISPERSION:
        poisson: np.ndarray = x * np.log(mean) - mean - gammaln(x + 1)
        return poisson
    r = 1 / dispersion
    negative_binomial: np.ndarray = (
        gammaln(x + r) - gammaln(r) - gammaln(x + 1) + x * np.log(mean / (r + mean))
    ) + r * np.log(r / (r + mean))
    return negative_binomial


def gene_moments(
    total_g: np.ndarray, library_n: np.ndarray, dispersion: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return mean and variance of the deviance of genes that have nothing but this dispersion.

    The mean of a gene in a cell is library times the gene's share of all counts, which is estimated
    from the same cells. So they are moments given the gene's total: of the deviance, what the total
    tells is taken out (McCullagh 1986, "The conditional distribution of goodness-of-fit statistics
    for discrete data"). Without that, rare genes would have far too large a variance.

    Parameters
    ----------
    total_g
        Counts of each gene, over all cells.
    library_n
        All counts of each cell.
    dispersion
        As for :func:`count_moments`.

    Returns
    -------
    Mean and variance of each gene's deviance.
    """
    log_library = np.log(library_n)
    least, total_g = log_library.min(), np.maximum(total_g, 1)
    cells = np.bincount(np.round((log_library - least) / STEP).astype(int))
    mean, variance, covariance = count_moments(dispersion)
    slope = covariance / (1 + dispersion * np.exp(LOG_MEAN))  # of the mean, by the log share
    bend = np.gradient(slope, STEP) - slope  # how it curves along the share
    at_g = np.log(total_g / library_n.sum()) + least
    mean_g, variance_g, covariance_g, bend_g = (
        np.interp(at_g, LOG_MEAN, _over_cells(each, cells))
        for each in (mean, variance, covariance, bend)
    )
    squared = (library_n**2).sum() / library_n.sum() ** 2
    spread_g = total_g + dispersion * squared * total_g**2  # variance of the total
    mean_g -= spread_g / total_g + 0.5 * bend_g * spread_g / total_g**2
    return mean_g, np.maximum(variance_g - covariance_g**2 / spread_g, 0.0)


def _over_cells(of_count: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return sums over cells, of which so many are each step above the smallest library."""
    padded = np.pad(of_count, (0, len(cells) - 1), mode="edge")
    return np.correlate(padded, cells, mode="valid")


def common_dispersion(
    total_g: np.ndarray, square_g: np.ndarray, product_g: np.ndarray, library_n: np.ndarray
) -> float:
    """Return the dispersion that even quiet genes have.

    It is told by the twentieth of the genes with most counts, where it can be seen: by the lowest
    tenth of their dispersions by moments, but for what makes these low by chance. As in Brennecke
    et al. 2013 ("Accounting for technical noise in single-cell RNA-seq experiments") it is the part
    of the squared coefficient of variation that does not go away with more counts.

    Parameters
    ----------
    total_g, square_g, product_g
        Of each gene the sum over cells of counts, of their squares, and of counts times libraries.
    library_n
        All counts of each cell.
    """
    n_loud = max(LOUD_GENES, int((total_g > 0).sum() * LOUD))
    loud = np.argsort(-total_g, kind="stable")[:n_loud]
    loud = loud[total_g[loud] > 0]
    if not len(loud):
        return 0.0
    total_g, share_g = total_g[loud], total_g[loud] / library_n.sum()
    mean_g, square_mean_g = total_g / len(library_n), share_g**2 * (library_n**2).sum()
    squares_g = square_g[loud] - 2 * share_g * product_g[loud] + square_mean_g
    dispersion_g = np.maximum(squares_g - total_g, 0) / square_mean_g
    variance_g = mean_g + dispersion_g * mean_g**2
    error_g = np.sqrt((2 + 6 * dispersion_g + 1 / variance_g) / len(library_n)) * variance_g
    low = np.quantile(
        (squares_g - total_g) / square_mean_g - ndtri(QUIET) * error_g / mean_g**2, QUIET
    )
    return float(f"{low:.2g}") if low >= LEAST_DISPERSION else 0.0
