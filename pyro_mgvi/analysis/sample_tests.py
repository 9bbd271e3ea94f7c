"""Tests of many genes across few samples: moderated t statistics of sums within samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyro_mgvi.analysis.efficient_scores import ROUNDING
from pyro_mgvi.data.columns.samples import SAMPLES

ALIKE = 100  # genes of similar information, whose variances are shrunk towards each other
TAILS = (0.95, 0.99)  # where the genes' variances must not spread wider than their prior


@dataclass(frozen=True)
class Units:
    """Sums of scores over the cells of a sample (in a group): what varies independently.

    Attributes
    ----------
    score_ug
        Sum of each gene's scores, units x genes.
    information_ug
        Sum of their information, of the same shape: score / information is an effect. 0 (or NaN)
        where the unit says nothing of a gene.
    design_uk
        What the effects are regressed on; the last column is tested: 1 for units of the group. The
        others are 1 for the units of a level.
    """

    score_ug: np.ndarray
    information_ug: np.ndarray
    design_uk: np.ndarray

    def of(self, there_u: np.ndarray, genes: np.ndarray) -> Units:
        """Return some units and genes, in the levels that are left."""
        design_uk = self.design_uk[there_u]
        kept_k = design_uk.any(0)
        kept_k[-1] = True
        part = np.ix_(there_u, genes)
        return Units(self.score_ug[part], self.information_ug[part], design_uk[:, kept_k])


def testable(design_uk: np.ndarray) -> bool:
    """Return whether the last column can be told from the others, with enough units to judge by.

    Examples
    --------
    >>> own_u = np.repeat([0.0, 1.0], 3)
    >>> testable(np.column_stack([np.ones(6), own_u])), testable(np.column_stack([own_u, own_u]))
    (True, False)
    """
    own_u, (n, n_columns) = design_uk[:, -1] != 0, design_uk.shape
    sides = [own_u.sum(), (~own_u).sum()][:n_columns]  # a column alone has one side
    estimable = bool(np.linalg.matrix_rank(design_uk) == n_columns) if n > n_columns else False
    return estimable and bool(min(sides) >= SAMPLES)


def sample_scores(units: Units) -> np.ndarray:
    r"""Return a normal score of the last column of the design for each gene, across units.

    A gene is tested across the units that have information on it, as if these were all, beside the
    genes that have information in all of these, too: genes of a modality that a sample lacks are
    tested without this sample, and learn how samples differ from the other modalities.

    The effect :math:`y_u = U_u / I_u` of a unit varies by :math:`\tau^2 + \phi / I_u`: between
    samples, and from cell to cell. One ratio of the two (the median over genes, by moments) weighs
    the units of each gene. The residual variance of a gene, of few degrees of freedom, is shrunk
    towards that of genes of similar information, by as much as the spread of all genes says (Smyth
    2004), and no more than their upper tail allows: the more is known of a gene, the more its own
    variance between samples counts. The moderated t
    statistic is turned into the normal score of the same tail.

    Returns
    -------
    Standard normal scores if the tested coefficient is zero, (genes,); NaN for genes that are known
    in too few units, or in units that do not tell the coefficient from the others.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> effect_ug = rng.normal(0.0, 0.5, (6, 400))
    >>> design_uk = np.column_stack([np.ones(6), np.repeat([0.0, 1.0], 3)])
    >>> z_g = sample_scores(Units(100 * effect_ug, np.full((6, 400), 100.0), design_uk))
    >>> bool(abs(z_g.std() - 1) < 0.1)
    True
    """
    z_g = np.full(units.score_ug.shape[1], np.nan)
    known_ug = np.nan_to_num(units.information_ug)
    informed_ug = known_ug > ROUNDING * known_ug.max(0)
    patterns_pu, pattern_g = np.unique(informed_ug.T, axis=0, return_inverse=True)
    for pattern, there_u in enumerate(patterns_pu):
        beside = np.flatnonzero(informed_ug[there_u].all(0))
        part = units.of(there_u, beside)
        if testable(part.design_uk):
            mine_g = pattern_g.ravel()[beside] == pattern
            z_g[beside[mine_g]] = _moderated_scores(part)[mine_g]
    return z_g


def _moderated_scores(units: Units) -> np.ndarray:
    """Return the scores of genes that have information in all units."""
    from scipy.stats import norm, t  # takes half a second to import

    information_ug, df = units.information_ug, np.subtract(*units.design_uk.shape)
    effect_ug = units.score_ug / information_ug
    ratio = _between_to_within(effect_ug, information_ug, units.design_uk)
    weight_ug = information_ug / (1.0 + ratio * information_ug)
    coefficient_g, unscaled_g, variance_g = _regressed(effect_ug, weight_ug, units.design_uk)
    order = np.argsort(information_ug.sum(0), kind="stable")
    alike = np.array_split(order, max(1, len(order) // ALIKE))
    moderated_g, prior = squeezed(variance_g, df, alike)
    df_g = min(df + prior, df * len(order))  # no more than all of them have
    t_g = coefficient_g / np.sqrt(np.maximum(moderated_g * unscaled_g, np.finfo(float).tiny))
    tail_g = norm.isf(np.maximum(t.sf(np.abs(t_g), df_g), np.finfo(float).tiny))
    z_g: np.ndarray = np.sign(t_g) * tail_g
    return z_g


def _regressed(
    effect_ug: np.ndarray, weight_ug: np.ndarray, design_uk: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each gene's last coefficient, its variance in units of the residual's, and that."""
    root_gu = np.sqrt(weight_ug.T)
    basis_guk = root_gu[:, :, None] * design_uk
    # The last column, freed from the others: its product with the effects is the coefficient.
    others, tested_gu = basis_guk[:, :, :-1], basis_guk[:, :, -1]
    y_gu = root_gu * effect_ug.T
    if others.shape[2]:
        q = np.linalg.qr(others)[0]

        def freed(x_gu: np.ndarray) -> np.ndarray:
            return x_gu - np.einsum("guk,gk->gu", q, np.einsum("guk,gu->gk", q, x_gu))

        tested_gu, y_gu = freed(tested_gu), freed(y_gu)
    square_g = (tested_gu**2).sum(1)
    coefficient_g = (tested_gu * y_gu).sum(1) / square_g
    residual_gu = y_gu - coefficient_g[:, None] * tested_gu
    df = len(design_uk) - design_uk.shape[1]
    return coefficient_g, 1.0 / square_g, (residual_gu**2).sum(1) / df


def _between_to_within(
    effect_ug: np.ndarray, information_ug: np.ndarray, design_uk: np.ndarray
) -> float:
    """Return the median over genes of the variance between samples, per unit of that of cells.

    Scores are those of quasi-likelihoods: the variance of a cell's effect is 1 / information.
    """
    q = np.linalg.qr(design_uk)[0]
    residual_ug = effect_ug - q @ (q.T @ effect_ug)
    left_u = 1.0 - (q**2).sum(1)  # share of a unit's variance that is in its residual
    expected_g = (left_u[:, None] / information_ug).sum(0)
    found_g = ((residual_ug**2).sum(0) - expected_g) / left_u.sum()
    return max(0.0, float(np.median(found_g)))


def squeezed(
    variance_g: np.ndarray,
    df: int,
    alike: Sequence[np.ndarray] | None = None,
    tails: Sequence[float] = TAILS,
) -> tuple[np.ndarray, float]:
    """Return variances shrunk towards common values, and how many degrees these count for.

    Moments of the log variances, as in limma (Smyth 2004, section 6.2), over all genes: of a
    hundred they are too uncertain. Where some genes vary far more between samples than others,
    moments miss it, and a test of few samples calls such genes: so the prior is at least as wide
    as the upper tail.

    Parameters
    ----------
    variance_g, df
        Variances, and the degrees of freedom of each.
    alike
        Positions of genes that have a common value; all by default.
    tails
        Shares of variances below which the prior must not be narrower than they are.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found, prior = squeezed(rng.chisquare(4, 1000) / 4, 4)  # all true variances are 1
    >>> bool(prior > 50), bool(np.abs(found - 1).max() < 0.3)
    (True, True)
    """
    from scipy.special import digamma, polygamma

    alike = [np.arange(len(variance_g))] if alike is None else alike
    varies_g = variance_g > ROUNDING * np.median(variance_g)
    classes = [positions[varies_g[positions]] for positions in alike]
    classes = [positions for positions in classes if len(positions)]
    n = sum(map(len, classes))
    if n < len(classes) + 1:
        return variance_g, 0.0
    log_g = np.log(np.where(varies_g, variance_g, 1.0)) - digamma(df / 2) + np.log(df / 2)
    squares = sum(((log_g[c] - log_g[c].mean()) ** 2).sum() for c in classes)
    excess = float(squares / (n - len(classes)) - polygamma(1, df / 2))
    ratio_g = np.concatenate([variance_g[c] / np.median(variance_g[c]) for c in classes])
    prior = min([_of_excess(excess), *(_of_tail(ratio_g, df, share) for share in tails)])
    found_g = variance_g.astype(float)
    for positions in alike:
        kept_g = positions[varies_g[positions]]
        mean = log_g[kept_g if len(kept_g) else varies_g].mean()
        if np.isinf(prior):
            found_g[positions] = np.exp(mean)
            continue
        common = np.exp(mean + digamma(prior / 2) - np.log(prior / 2))
        found_g[positions] = (prior * common + df * variance_g[positions]) / (prior + df)
    return found_g, prior


def _of_excess(excess: float) -> float:
    """Return the degrees of a prior whose log variances vary so much."""
    from scipy.optimize import brentq
    from scipy.special import polygamma

    if excess <= polygamma(1, 1e6):
        return np.inf
    return 2 * float(brentq(lambda half: polygamma(1, half) - excess, 1e-8, 1e6))


def _of_tail(ratio_g: np.ndarray, df: int, share: float) -> float:
    """Return the degrees of a prior under which so large a share of variances is below theirs.

    ``ratio_g`` are variances by their median.
    """
    from scipy.optimize import brentq
    from scipy.stats import f

    def wider(log_prior: float) -> float:
        prior = np.exp(log_prior)
        return float(np.log(f.ppf(share, df, prior) / f.ppf(0.5, df, prior)) - np.log(seen))

    seen, ends = np.quantile(ratio_g, share), (np.log(0.5), np.log(1e6))
    if wider(ends[1]) >= 0:  # as if all true variances were the same
        return np.inf
    return 0.5 if wider(ends[0]) <= 0 else float(np.exp(brentq(wider, *ends)))
