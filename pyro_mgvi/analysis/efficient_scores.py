"""Self-normalised scores free of a nuisance, and the error rates of many of them."""

from __future__ import annotations

import numpy as np
from pyro.distributions import TorchDistribution
from threadpoolctl import threadpool_limits
from torch import Tensor

ROUNDING = 1e-6  # share of a prediction, in single precision, that may be an error of rounding
LEAST_CELLS = 30  # fewer give no normal statistic
CELLS_PER_NUISANCE = 3  # a regression on the shared latents needs some cells per column
THIRD_QUARTILE = 0.6744897501960817  # of the standard normal distribution


def cells_needed(n_columns: int) -> int:
    """Return how many cells a score needs that is freed from a nuisance of so many columns."""
    return max(LEAST_CELLS, CELLS_PER_NUISANCE * n_columns)


def q_values(z_g: np.ndarray) -> np.ndarray:
    """Return q-values (Benjamini & Hochberg) of normal scores of two folds; NaN stays NaN.

    The folds' signs are dependent (the direction learned in one is that of the data of the
    other), hence the doubled one-sided p-value.
    """
    return discovery_rates(p_values(z_g))


def p_values(z_g: np.ndarray) -> np.ndarray:
    """Return the p-values of :func:`q_values`."""
    from scipy.stats import norm  # takes half a second to import

    p_g: np.ndarray = np.minimum(1.0, 2 * norm.sf(z_g))
    return p_g


def discovery_rates(p_g: np.ndarray) -> np.ndarray:
    """Return Benjamini and Hochberg's q-values; NaN stays NaN.

    Examples
    --------
    >>> discovery_rates(np.array([0.01, np.nan, 0.5])).tolist()
    [0.02, nan, 0.5]
    """
    from scipy.stats import false_discovery_control

    q_g, known = np.full(len(p_g), np.nan), ~np.isnan(p_g)
    if known.any():
        q_g[known] = false_discovery_control(p_g[known])
    return q_g


def recentred(z_g: np.ndarray) -> np.ndarray:
    """Centre and scale scores by their bulk, never in favour of a discovery (Efron 2004).

    The scale is that of the lower half, which effects in the predicted direction do not reach.
    """
    centre = float(max(0.0, np.median(z_g)))
    below = np.median(z_g) - z_g[z_g <= np.median(z_g)]
    return (z_g - centre) / max(1.0, float(np.median(below)) / THIRD_QUARTILE)


def mean_and_slope(counts: TorchDistribution, measured_ng: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the mean of each count, and that over its variance; zeros where a gene is absent."""
    mean, slope = counts.mean, counts.mean / counts.variance
    return mean, slope if measured_ng is None else slope.where(measured_ng, 0.0)


def efficient_scores(
    delta_ng: np.ndarray,
    residual_ng: np.ndarray,
    weight_ng: np.ndarray,
    nuisance_nk: np.ndarray,
) -> np.ndarray:
    """Return the self-normalised score along ``delta`` of each gene, free of the nuisance.

    Parameters
    ----------
    delta_ng
        Predicted change of each log mean.
    residual_ng, weight_ng
        Quasi-score of each log mean, (x - m) m / v, and its information, m^2 / v. Cells without
        information on a gene, which have not got it, are left out.
    nuisance_nk
        What both are regressed on, with those weights.

    Returns
    -------
    One score per gene, standard normal if nothing changes; 0 where nothing is predicted, NaN where
    too few cells have the gene.
    """
    with threadpool_limits(1):  # thousands of small products: threads only wait for each other
        return _efficient_scores(delta_ng, residual_ng, weight_ng, nuisance_nk)


def _efficient_scores(
    delta_ng: np.ndarray,
    residual_ng: np.ndarray,
    weight_ng: np.ndarray,
    nuisance_nk: np.ndarray,
) -> np.ndarray:
    z_g = np.zeros(delta_ng.shape[1])
    for gene in range(len(z_g)):
        cells = np.flatnonzero(weight_ng[:, gene])
        if len(cells) < cells_needed(nuisance_nk.shape[1]):
            z_g[gene] = np.nan
            continue
        delta_n, residual_n, weight_n = (
            part_ng[cells, gene] for part_ng in (delta_ng, residual_ng, weight_ng)
        )
        delta, residual = _freed(delta_n, residual_n, weight_n, nuisance_nk[cells])
        product = delta * residual
        norm_ = np.sqrt((product**2).sum())
        z_g[gene] = product.sum() / norm_ if norm_ > 0 else 0.0
    return z_g


def freed_products(
    delta_ng: np.ndarray, residual_ng: np.ndarray, weight_ng: np.ndarray, nuisance_nk: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each cell's score along ``delta``, free of the nuisance, and its information.

    Parameters are those of :func:`efficient_scores`; ``delta`` is taken in units of its standard
    deviation, so that genes can be compared.
    """
    score_ng, information_ng = np.zeros(delta_ng.shape), np.zeros(delta_ng.shape)
    with threadpool_limits(1):
        for gene in range(delta_ng.shape[1]):
            of_gene = delta_ng[:, gene], residual_ng[:, gene], weight_ng[:, gene]
            delta, residual = _freed(*of_gene, nuisance_nk)
            has_n = weight_ng[:, gene] > 0  # the others are predicted to change by 0
            sd = float(delta_ng[has_n, gene].std()) if has_n.any() else 0.0
            if sd > 0:
                score_ng[:, gene], information_ng[:, gene] = (
                    delta * residual / sd,
                    (delta / sd) ** 2,
                )
    return score_ng, information_ng


def _freed(
    delta_n: np.ndarray, residual_n: np.ndarray, weight_n: np.ndarray, nuisance_nk: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return residuals of both, times and by the root of the weights; zeros if only rounding."""
    root = np.sqrt(np.maximum(weight_n.astype(float), 1e-12))
    # Rescaled by the root of the weights, both regressions are plain least squares.
    basis = np.linalg.qr(root[:, None] * nuisance_nk)[0]
    both = np.column_stack([root * delta_n, residual_n / root])
    delta, residual = (both - basis @ (basis.T @ both)).T
    if np.linalg.norm(delta) <= ROUNDING * np.linalg.norm(both[:, 0]):
        return np.zeros_like(delta), residual  # the nuisance says it all: what is left is rounding
    return delta, residual
