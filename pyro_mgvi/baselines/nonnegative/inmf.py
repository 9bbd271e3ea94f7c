"""LIGER's iNMF: GMDF with one set of scores for shared and private programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pyro_mgvi.baselines.nonnegative.factors import Factors
from pyro_mgvi.baselines.nonnegative.gmdf import GMDF
from pyro_mgvi.errors import DataError, SettingsError


@dataclass(frozen=True)
class INMF(GMDF):
    r"""Integrative non-negative matrix factorisation of LIGER: GMDF whose scores are tied.

    .. math:: \min_{\ge 0} \sum_i ||E_i - H_i (W + V_i)||^2 + \lambda \sum_i ||H_i V_i||^2

    is GMDF's objective with a context for each data set (the design is the identity), as many
    programs in a context as shared ones, the same lambda for all, :math:`A_i = V_i`, and
    :math:`H_{ii} = H^w_i = H_i`. The last is what GMDF gives up: without the tie, its minimum is
    at most that of iNMF. A cell has one set of scores here, so that private scores are the
    shared ones in another unit.

    Parameters
    ----------
    n_shared, n_context, penalty
        As for :class:`GMDF`, with LIGER's defaults; both numbers are the same.
    tolerance, max_iter
        As for :class:`GMDF`.

    Raises
    ------
    SettingsError
        If a number is out of range.

    Notes
    -----
    Welch et al. (2019), "Single-cell multi-omic integration compares and contrasts features of
    brain cell identity"; without its alignment of the scores' quantiles.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, group = rng.random((60, 8)), np.repeat([0, 1], 30)
    >>> found = INMF(2, 2).fit(x, group)
    >>> bool((found.context_cnk[0][:30] == found.shared_nk[:30]).all())
    True
    """

    n_shared: int = 20
    n_context: int = 20
    penalty: float | Sequence[float] = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_shared != self.n_context:
            raise SettingsError(
                "iNMF has one private program for each shared one: n_shared and n_context must "
                f"be equal, not {self.n_shared} and {self.n_context}"
            )

    def start(self, x_np: np.ndarray, root_nc: np.ndarray, rng: np.random.Generator) -> Factors:
        """Return random factors of the data, scores tied."""
        if not ((root_nc == 1).sum(1) == (root_nc > 0).sum(1)).all() or (root_nc.sum(1) != 1).any():
            raise DataError("iNMF needs a design with one 1 in each row, and 0 elsewhere")
        factors = super().start(x_np, root_nc, rng)
        for context, cells in enumerate(root_nc.T > 0):
            factors.scores_nf[cells, self.block(context)] = factors.scores_nf[
                cells, : self.n_shared
            ]
        return factors

    def sweep(self, factors: Factors, takes_part_nc: np.ndarray) -> Iterator[str]:
        """Solve for one block after the other, and yield what was solved for."""
        unit_ff = np.eye(len(factors.programs_fp))
        for context, cells in enumerate(takes_part_nc.T):
            tie_fq = unit_ff[:, : self.n_shared] + unit_ff[:, self.block(context)]
            factors.solve_scores(cells, tie_fq)
            yield f"all scores of context {context}"
        yield from self.programs(factors)
