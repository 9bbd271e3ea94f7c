"""Scores and programs of a non-negative factorisation, and the exact updates of their blocks."""

from __future__ import annotations

import numpy as np

from pyro_mgvi.baselines.nonnegative.nnls import nnls


class Factors:
    r"""Scores S and programs P of all blocks side by side, as the search changes them.

    Blocks are the shared programs and those of each context. Scores of a context hold
    :math:`\sqrt{a_{ij}} H_{ij}`: written so, the design matters only by who takes part. With
    :math:`\Lambda` equal to 1 + lambda_j within context j and 1 elsewhere, the objective is
    :math:`||E||^2 - 2 \langle E P', S \rangle + \langle S'S, \Lambda \circ PP' \rangle`.
    """

    def __init__(self, x_np: np.ndarray, scores_nf: np.ndarray, programs_fp: np.ndarray) -> None:
        self.x_np, self.scores_nf, self.programs_fp = x_np, scores_nf, programs_fp
        self.weight_ff = np.ones((scores_nf.shape[1],) * 2)
        self.total = float((x_np**2).sum())

    def objective(self) -> float:
        """Return the squared error with the penalties."""
        explained = (self.scores_nf * (self.x_np @ self.programs_fp.T)).sum()
        gram_ff = self.scores_nf.T @ self.scores_nf * self.weight_ff
        squares = (gram_ff * (self.programs_fp @ self.programs_fp.T)).sum()
        return float(self.total - 2 * explained + squares)

    def solve_scores(self, cells: np.ndarray, tie_fq: np.ndarray) -> None:
        """Set scores of some cells to the best h of ``h @ tie_fq.T``, where that is not zero."""
        gram_ff = self.programs_fp @ self.programs_fp.T * self.weight_ff
        chosen = tie_fq.any(1)
        fixed_nf = np.where(chosen, 0, self.scores_nf[cells])
        cross_nf = self.x_np[cells] @ self.programs_fp.T - fixed_nf @ gram_ff
        h_qn = nnls(tie_fq.T @ gram_ff @ tie_fq, (cross_nf @ tie_fq).T)
        self.scores_nf[cells] = fixed_nf + h_qn.T @ tie_fq.T

    def solve_programs(self, block: slice) -> None:
        """Set the programs of a block to the best ones."""
        gram_ff = self.scores_nf.T @ self.scores_nf * self.weight_ff
        fixed_fp = self.programs_fp.copy()
        fixed_fp[block] = 0
        cross_bp = self.scores_nf[:, block].T @ self.x_np - gram_ff[block] @ fixed_fp
        self.programs_fp[block] = nnls(gram_ff[block, block], cross_bp)
