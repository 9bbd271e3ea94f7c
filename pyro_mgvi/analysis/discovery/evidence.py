"""Whether cells of a group vary along a direction of genes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from pyro_mgvi.analysis.efficient_scores import discovery_rates
from pyro_mgvi.training.search.residuals import Residuals

SURELY_ABSENT = 2.0  # times less than the largest variance, or more: the group has not got it


class Evidence(NamedTuple):
    """How far the cells of each group vary along one direction.

    Attributes
    ----------
    variance_b, error_b
        Variance of the program, in squared units of the direction, and its standard error. It may
        be below zero by chance. NaN where a group has none of the genes.
    """

    variance_b: np.ndarray
    error_b: np.ndarray

    @property
    def share_b(self) -> np.ndarray:
        """Variance of each group as a share of the largest."""
        largest = np.nanmax(self.variance_b) if self.known_b.any() else np.nan
        return self.variance_b / max(largest, 1e-12)

    @property
    def known_b(self) -> np.ndarray:
        """Which groups have genes of the direction."""
        known_b: np.ndarray = np.isfinite(self.variance_b)
        return known_b

    def z_varies(self, dead: float) -> np.ndarray:
        """Return normal scores of each group against varying too little.

        The smaller of two: against no variance at all, and against ``dead`` times less than the
        group that varies most. What a fit to the others' program leaves behind in a group is no
        program of its own.
        """
        zero_b = self.variance_b / np.maximum(self.error_b, 1e-12)
        if not self.known_b.any():
            return zero_b
        largest = int(np.nanargmax(self.variance_b))
        return np.fmin(zero_b, self._above(largest, dead)) + 0 * zero_b

    def z_absent(self) -> np.ndarray:
        """Return normal scores of each group against varying half as much as the largest."""
        if not self.known_b.any():
            return np.full(len(self.variance_b), np.nan)
        return -self._above(int(np.nanargmax(self.variance_b)), SURELY_ABSENT)

    @property
    def p_alike(self) -> float:
        """P-value of one variance in all groups (Cochran's Q); NaN if fewer than two are known.

        Products of residuals have long tails, and where few large ones are missing both variance
        and error are small: no error counts as less than half of all are.
        """
        from scipy.stats import chi2  # takes half a second to import

        variance_b, error_b = self.variance_b[self.known_b], self.error_b[self.known_b]
        if len(variance_b) < 2:
            return float("nan")
        weight_b = 1 / np.maximum(error_b, max(np.median(error_b), 1e-12)) ** 2
        mean = (weight_b * variance_b).sum() / weight_b.sum()
        q = float((weight_b * (variance_b - mean) ** 2).sum())
        return float(chi2.sf(q, len(variance_b) - 1))

    def _above(self, largest: int, times: float) -> np.ndarray:
        """Return scores of each variance against a part of the largest; of that one, against 0."""
        gap_b = self.variance_b - self.variance_b[largest] / times
        error_b = np.hypot(self.error_b, self.error_b[largest] / times)
        error_b[largest] = self.error_b[largest] * (1 - 1 / times)  # it is both
        z_b: np.ndarray = gap_b / np.maximum(error_b, 1e-12)
        return z_b


def variance_along(group: Residuals, loading_g: Tensor) -> tuple[float, float]:
    r"""Return the variance of a program in a group, and its standard error.

    Genes that follow a program covary; a gene's own noise does not. With residuals r, of which
    :math:`v_g` is what one unit of the program adds,

    .. math:: \frac{1}{N} \sum_n \Big[ \big(\sum_g v_g r_{ng}\big)^2 - \sum_g v_g^2 r_{ng}^2 \Big]
              \Big/ \Big[ \big(\sum_g v_g^2\big)^2 - \sum_g v_g^4 \Big]

    is the mean product of all pairs of genes in units of the program's variance: zero on average
    where genes are independent given the fit, whatever the noise of each.

    Parameters
    ----------
    group
        Residuals of cells on which the direction was not found.
    loading_g
        The direction, as log expression per unit.

    Returns
    -------
    NaN for both if the group has fewer than two of the genes.

    Examples
    --------
    >>> import torch
    >>> program_n1 = torch.tensor([1.0, -1.0] * 50)[:, None]
    >>> group = Residuals(2 * program_n1.expand(-1, 3), torch.ones(3), np.arange(100))
    >>> variance_along(group, torch.ones(3))  # 2 x program, in units of 1
    (4.0, 0.0)
    """
    v_g = loading_g * group.slope_g
    genes = v_g.nonzero()[:, 0]
    v_g, r_ng = v_g[genes], group.r_ng[:, genes]
    squares_g = v_g.square()
    scale = float(squares_g.sum() ** 2 - squares_g.square().sum())
    if len(genes) < 2 or scale <= 0:
        return float("nan"), float("nan")
    product_n = (r_ng @ v_g).square() - r_ng.square() @ squares_g
    error = float(product_n.std(correction=0)) / len(product_n) ** 0.5
    return float(product_n.mean()) / scale, error / scale


def selective_rates(p_pb: np.ndarray) -> np.ndarray:
    """Return q-values of groups within programs that are there at all.

    A program is there if any group varies along it: Simes' p-value over its groups, and Benjamini
    and Hochberg's procedure over programs. Groups are then called within the programs that are
    selected, at the rate times the share of programs selected (Benjamini and Bogomolov 2014), so
    that the many places where nothing is to be found do not make it easier to find something.

    Parameters
    ----------
    p_pb
        P-values, programs x groups; NaN where there is none.

    Examples
    --------
    >>> selective_rates(np.array([[1e-6, 0.02, 0.9], [0.4, 0.5, 0.9]])).round(3)
    array([[0.  , 0.06, 0.9 ],
           [0.75, 0.75, 0.9 ]])
    """
    if not p_pb.size:
        return np.zeros(p_pb.shape)
    within_pb = np.array([discovery_rates(p_b) for p_b in p_pb])  # the least of a row is Simes'
    known_p = ~np.isnan(within_pb).all(1)
    simes_p = np.full(len(p_pb), np.nan)
    simes_p[known_p] = np.nanmin(within_pb[known_p], axis=1)
    program_p = discovery_rates(simes_p)
    # At a rate q, R of P programs are selected, and a group is called if within <= q R / P.
    q_pb = np.where(np.isnan(p_pb), np.nan, 1.0)
    for level in np.unique(program_p[known_p]):
        selected_p = program_p <= level
        at_level_pb = within_pb[selected_p] * known_p.sum() / selected_p.sum()
        q_pb[selected_p] = np.minimum(q_pb[selected_p], np.maximum(level, at_level_pb))
    return q_pb


def evidence(groups: Sequence[Residuals], loading_g: Tensor) -> Evidence:
    """Return how far the cells of each group vary along a direction.

    Parameters
    ----------
    groups
        Residuals of each group.
    loading_g
        The direction, as log expression per unit.
    """
    variance_b, error_b = np.array([variance_along(group, loading_g) for group in groups]).T
    return Evidence(variance_b, error_b)
