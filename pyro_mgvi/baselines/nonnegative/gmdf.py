"""GMDF: non-negative programs that all data sets share, and programs of each context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pyro_mgvi.baselines.nonnegative.checks import checked_sizes
from pyro_mgvi.baselines.nonnegative.factors import Factors
from pyro_mgvi.errors import DataError, SettingsError

START = 0.1  # all entries start at U(0, START)


class Decomposition(NamedTuple):
    r"""Programs and scores of GMDF, with the values that its objective went through.

    Attributes
    ----------
    shared_kp, context_ckp
        Programs: W, (K, p), and A of each context, (C, J, p).
    shared_nk, context_cnk
        Scores: Hw, (n, K), and H of each context, (C, n, J); NaN for cells that have no part in
        the context.
    root_nc
        :math:`\sqrt{a}` of each cell's data set and each context, (n, C).
    objectives
        Values at the start and after each sweep.
    """

    shared_kp: np.ndarray
    context_ckp: np.ndarray
    shared_nk: np.ndarray
    context_cnk: np.ndarray
    root_nc: np.ndarray
    objectives: tuple[float, ...]

    def scores(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return scores times the length of their program, so that they have one unit.

        Returns
        -------
        Shared scores (n, K), and for each context its own (n, J), NaN for foreign cells.
        """
        z_nk = self.shared_nk * np.linalg.norm(self.shared_kp, axis=1)
        length_ck = np.linalg.norm(self.context_ckp, axis=2)
        parts = zip(self.context_cnk, self.root_nc.T, length_ck)
        return z_nk, [h_nk * root_n[:, None] * length_k for h_nk, root_n, length_k in parts]


@dataclass(frozen=True)
class GMDF:
    r"""Generalised matrix decomposition framework: shared programs and programs of contexts.

    .. math:: \min_{\ge 0} \sum_i ||E_i - H^w_i W - \sum_j \sqrt{a_{ij}} H_{ij} A_j||^2
              + \sum_j \lambda_j \sum_i a_{ij} ||H_{ij} A_j||^2

    Parameters
    ----------
    n_shared, n_context
        Number of shared programs, K, and of each context's, J.
    penalty
        lambda; one number, or one for each context.
    tolerance, max_iter
        Relative change of the objective at which to stop, and most sweeps.

    Raises
    ------
    SettingsError
        If a number is out of range.

    Notes
    -----
    Start, order of blocks, stopping rule and defaults are those of the authors' R program (Jerby
    and colleagues, github.com/livnatje/GMDF). One thing differs: the programs of all contexts are
    solved for jointly. There, each is solved for with the others as they were, so that the
    objective can rise where a data set has several contexts.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, group = rng.random((60, 8)), np.repeat([0, 1], 30)
    >>> found = GMDF(n_shared=2, n_context=1).fit(x, group)
    >>> found.shared_kp.shape, found.context_ckp.shape, found.objectives[0] > found.objectives[-1]
    ((2, 8), (2, 1, 8), True)
    """

    n_shared: int = 5
    n_context: int = 3
    penalty: float | Sequence[float] = 1.0
    tolerance: float = 1e-4
    max_iter: int = 100

    def __post_init__(self) -> None:
        if min(self.n_shared, self.n_context, self.max_iter) < 1:
            raise SettingsError(
                "n_shared, n_context and max_iter must be at least 1, not "
                f"{self.n_shared}, {self.n_context} and {self.max_iter}"
            )
        given = np.asarray(self.penalty, float)
        if not ((given >= 0) & np.isfinite(given)).all() or not self.tolerance >= 0:
            raise SettingsError(
                "penalty and tolerance must be finite and must not be negative: "
                f"{self.penalty}, {self.tolerance}"
            )

    def fit(
        self,
        x_np: np.ndarray,
        group_n: np.ndarray,
        design_dc: np.ndarray | None = None,
        seed: int = 0,
    ) -> Decomposition:
        """Return programs and scores of ``x_np``.

        Parameters
        ----------
        x_np
            Non-negative values, cells x genes, dense; cells of all data sets below each other.
        group_n
            Integer code of each cell's data set, from 0.
        design_dc
            How much of each context there is in each data set, a, (D, C); by default each data
            set is a context of its own. No columns: plain non-negative matrix factorisation.
        seed
            Of the start.

        Raises
        ------
        DataError
            If values are negative or not finite, a data set has no cell, or the design does not
            fit the data sets.
        SettingsError
            If ``penalty`` has not one entry for each context.
        """
        x_np, group_n = np.asarray(x_np, float), np.asarray(group_n)
        root_nc = np.sqrt(checked_design(x_np, group_n, design_dc))[group_n]
        factors = self.start(x_np, root_nc, np.random.default_rng(seed))
        objectives = [factors.objective()]
        for _ in range(self.max_iter):
            for _block in self.sweep(factors, root_nc > 0):
                pass
            objectives.append(factors.objective())
            before, after = objectives[-2:]
            if before - after <= self.tolerance * before:
                break
        return self.decomposition(factors, root_nc, objectives)

    def start(self, x_np: np.ndarray, root_nc: np.ndarray, rng: np.random.Generator) -> Factors:
        """Return random factors of the data."""
        n_contexts = root_nc.shape[1]
        given = np.asarray(self.penalty, float)
        if given.ndim and len(given) != n_contexts:
            raise SettingsError(f"penalty has {len(given)} entries, not {n_contexts}")
        width = self.n_shared + n_contexts * self.n_context
        scores_nf = rng.uniform(0, START, (len(x_np), width))
        scores_nf[:, self.n_shared :] *= np.repeat(root_nc, self.n_context, axis=1)
        factors = Factors(x_np, scores_nf, rng.uniform(0, START, (width, x_np.shape[1])))
        for context, penalty in enumerate(np.broadcast_to(given, n_contexts)):
            factors.weight_ff[self.block(context), self.block(context)] += penalty
        return factors

    def block(self, context: int) -> slice:
        """Return where a context's programs are."""
        first = self.n_shared + context * self.n_context
        return slice(first, first + self.n_context)

    def sweep(self, factors: Factors, takes_part_nc: np.ndarray) -> Iterator[str]:
        """Solve for one block after the other, and yield what was solved for."""
        unit_ff, everyone = np.eye(len(factors.programs_fp)), np.ones(len(takes_part_nc), bool)
        # Scores of different data sets do not meet: each context's are solved for at once.
        for context, cells in enumerate(takes_part_nc.T):
            factors.solve_scores(cells, unit_ff[:, self.block(context)])
            yield f"scores of context {context}"
        yield from self.programs(factors)
        factors.solve_scores(everyone, unit_ff[:, : self.n_shared])
        yield "shared scores"

    def programs(self, factors: Factors) -> Iterator[str]:
        """Solve for the programs of all contexts, then for the shared ones."""
        factors.solve_programs(slice(self.n_shared, None))
        yield "programs of the contexts"
        factors.solve_programs(slice(0, self.n_shared))
        yield "shared programs"

    def decomposition(
        self, factors: Factors, root_nc: np.ndarray, objectives: Sequence[float]
    ) -> Decomposition:
        """Return the factors by block."""
        n, n_contexts = root_nc.shape
        shape = (n_contexts, self.n_context)
        root_cn1 = np.where(root_nc > 0, root_nc, np.nan).T[..., None]
        weighted_nck = factors.scores_nf[:, self.n_shared :].reshape(n, *shape)
        return Decomposition(
            factors.programs_fp[: self.n_shared],
            factors.programs_fp[self.n_shared :].reshape(*shape, factors.x_np.shape[1]),
            factors.scores_nf[:, : self.n_shared],
            weighted_nck.transpose(1, 0, 2) / root_cn1,
            root_nc,
            tuple(objectives),
        )


def checked_design(
    x_np: np.ndarray, group_n: np.ndarray, design_dc: np.ndarray | None
) -> np.ndarray:
    """Return the design, the identity if there is none; refuse what GMDF cannot decompose."""
    n_sets = len(checked_sizes(x_np, group_n))
    design = np.eye(n_sets) if design_dc is None else np.asarray(design_dc, float)
    if design.ndim != 2 or len(design) != n_sets:
        raise DataError(
            f"the design needs a row for each of {n_sets} data sets, not shape {design.shape}"
        )
    if not (np.isfinite(design) & (design >= 0)).all():
        raise DataError("the design must hold finite, non-negative numbers")
    if not design.any(0).all():
        raise DataError(f"no data set takes part in context {design.any(0).argmin()} of the design")
    return design
