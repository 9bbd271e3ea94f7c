"""Separate NMF of each group, and matching of the programs that recur (Kinker et al. 2020)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from pyro_mgvi.baselines.nonnegative.checks import checked_sizes
from pyro_mgvi.baselines.nonnegative.nnls import nnls
from pyro_mgvi.errors import DataError, SettingsError


class Programs(NamedTuple):
    """Programs that recur within their group, and what matches between groups.

    Attributes
    ----------
    weight_qp
        Weights of genes, of length 1, (Q, p).
    group_q
        Code of the group that each was found in.
    match_q
        Code of the set of matching programs that each belongs to.
    top_qt
        Positions of the genes of largest weight, largest first, (Q, t).
    """

    weight_qp: np.ndarray
    group_q: np.ndarray
    match_q: np.ndarray
    top_qt: np.ndarray

    def shared(self) -> np.ndarray:
        """Return mean weights of each set of programs of several groups, (K, p)."""
        sets = [self.weight_qp[self.match_q == m] for m in np.unique(self.match_q[~self.alone()])]
        return np.stack([own.mean(0) for own in sets]) if sets else self.weight_qp[:0]

    def private(self, group: int) -> np.ndarray:
        """Return weights of the programs that this group alone has, (J, p)."""
        return self.weight_qp[self.alone() & (self.group_q == group)]

    def alone(self) -> np.ndarray:
        """Return which programs are of one group only."""
        pairs = set(zip(self.match_q.tolist(), self.group_q.tolist()))
        groups_m = np.bincount([m for m, _ in pairs], minlength=len(self.match_q))
        alone_q: np.ndarray = groups_m[self.match_q] == 1
        return alone_q

    def scores(self, x_np: np.ndarray, group_n: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return how much of each program a cell has: non-negative least squares on all it may.

        Parameters
        ----------
        x_np, group_n
            As for :meth:`SeparateNMF.fit`.

        Returns
        -------
        Shared scores (n, K), and for each group private ones (n, J), NaN for foreign cells. Where
        there are no programs, one column of zeros.
        """
        shared_kp = self.shared()
        z_nk = np.zeros((len(x_np), max(1, len(shared_kp))))
        t = []
        for g in range(int(group_n.max()) + 1):
            own_jp, mine = self.private(g), group_n == g
            d_fp = np.vstack([shared_kp, own_jp])
            score_nf = nnls(d_fp @ d_fp.T, d_fp @ x_np[mine].T).T
            z_nk[mine, : len(shared_kp)] = score_nf[:, : len(shared_kp)]
            t.append(np.full((len(x_np), max(1, len(own_jp))), np.nan))
            t[-1][mine] = score_nf[:, len(shared_kp) :] if len(own_jp) else 0.0
        return z_nk, t


@dataclass(frozen=True)
class SeparateNMF:
    """NMF of each group, and the programs that recur within groups and between them.

    A program is its genes of largest weight. It is kept if most of these recur in the same group,
    in a factorisation of another rank and, of those that do, in one from another start; of
    programs of a group that are alike, the one is kept that is most alike some other group's. What
    is left is put into sets of programs that are alike on average. A set of one group only is
    private, others are shared.

    Parameters
    ----------
    ranks
        Numbers of programs of the factorisations.
    n_starts
        Factorisations of each rank, from random starts.
    n_top
        Genes that stand for a program.
    recur, alike
        Common ones of these, as a share, for a program to recur, and for two to be alike.

    Raises
    ------
    SettingsError
        If there are not at least two ranks and two starts, or a number is out of range.

    Notes
    -----
    Kinker et al. (2020), "Pan-cancer single-cell RNA-seq identifies recurring programs of
    cellular heterogeneity", and their R program: ranks 6 to 9, 50 genes, of which 35 recur, and
    10 are alike. They have one start for each rank (that starts agree is asked for here in
    addition), another algorithm of NMF, no programs of one cell line alone, and a tree of programs
    (average linkage) that they cut by eye: here it is cut where programs cease to be alike.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> group, score = np.repeat([0, 1], 100), rng.gamma(0.3, size=(200, 4))
    >>> score[group == 0, 3] = score[group == 1, 2] = 0  # two programs are of one group alone
    >>> x = score @ np.kron(np.eye(4), np.ones(10)) + 0.1 * rng.random((200, 40))
    >>> programs = SeparateNMF(ranks=(3, 4), n_top=8).fit(x, group)
    >>> len(programs.shared()), len(programs.private(0)), len(programs.private(1))
    (2, 1, 1)
    """

    ranks: tuple[int, ...] = (6, 7, 8, 9)
    n_starts: int = 3
    n_top: int = 50
    recur: float = 0.7
    alike: float = 0.2

    def __post_init__(self) -> None:
        if len(set(self.ranks)) < 2 or min(self.ranks) < 1 or self.n_starts < 2:
            raise SettingsError(
                "programs must recur over ranks and starts: at least two different ranks from 1 "
                f"and two starts are needed, not {self.ranks} and {self.n_starts}"
            )
        if self.n_top < 1 or not 0 < self.alike <= self.recur <= 1:
            raise SettingsError(
                "n_top must be at least 1 and 0 < alike <= recur <= 1, not "
                f"{self.n_top}, {self.alike} and {self.recur}"
            )

    def fit(self, x_np: np.ndarray, group_n: np.ndarray, seed: int = 0) -> Programs:
        """Return the programs of all groups.

        Parameters
        ----------
        x_np
            Non-negative values, cells x genes, such as
            :func:`~pyro_mgvi.baselines.nonnegative.shares.relative_expression`.
        group_n
            Integer code of each cell's group, from 0.
        seed
            Of all starts.

        Raises
        ------
        DataError
            If values are negative or not finite, a group has too few cells, or there are not more
            than ``n_top`` genes.
        """
        x_np, group_n = np.asarray(x_np, float), np.asarray(group_n)
        sizes = checked_sizes(x_np, group_n)
        if sizes.min() < max(self.ranks):
            raise DataError(
                f"group {sizes.argmin()} has {sizes.min()} cells, fewer than programs "
                f"({max(self.ranks)}): leave out the group, or choose smaller ranks"
            )
        if x_np.shape[1] <= self.n_top:
            raise DataError(
                f"{x_np.shape[1]} genes, of which {self.n_top} stand for a program: lower n_top"
            )
        kept = [self.recurring(x_np[group_n == g], seed) for g in range(len(sizes))]
        weight_qp = np.vstack(kept)
        group_q = np.repeat(range(len(sizes)), [len(own) for own in kept])
        chosen = self.distinct(self.common(weight_qp), group_q)
        weight_qp, group_q = weight_qp[chosen], group_q[chosen]
        return Programs(weight_qp, group_q, self.match(weight_qp), self.top(weight_qp))

    def recurring(self, x_np: np.ndarray, seed: int) -> np.ndarray:
        """Return the programs of one group that recur over ranks and starts, of length 1."""
        found, rank_q, start_q = [], [], []
        for rank in self.ranks:
            for start in range(self.n_starts):
                state = np.random.default_rng([seed, rank, start]).integers(2**31)
                nmf = NMF(rank, init="random", random_state=int(state))
                with warnings.catch_warnings():  # what is unfinished does not recur
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    found.append(nmf.fit(x_np).components_)
                rank_q += [rank] * rank
                start_q += [start] * rank
        weight_qp = np.vstack(found)
        live = weight_qp.any(1)
        recurs_qq = self.common(weight_qp) >= self.recur * self.n_top
        for origin_q in (np.array(rank_q), np.array(start_q)):  # ranks, then starts among those
            elsewhere = recurs_qq & live & (origin_q[:, None] != origin_q)
            live = live & elsewhere.any(1)
        weight_qp = weight_qp[live]
        return weight_qp / np.linalg.norm(weight_qp, axis=1, keepdims=True)

    def distinct(self, common_qq: np.ndarray, group_q: np.ndarray) -> list[int]:
        """Return positions of programs such that none is alike another of its group."""
        between_qq = np.where(group_q[:, None] != group_q, common_qq, 0)
        order = np.argsort(-between_qq.max(1, initial=0), kind="stable")
        kept: list[int] = []
        for q in order.tolist():
            same = [other for other in kept if group_q[other] == group_q[q]]
            if (common_qq[q, same] <= self.alike * self.n_top).all():
                kept.append(q)
        return sorted(kept)

    def match(self, weight_qp: np.ndarray) -> np.ndarray:
        """Return codes of sets of programs that are alike on average (average linkage)."""
        if len(weight_qp) < 2:
            return np.zeros(len(weight_qp), int)
        apart_qq = self.n_top - self.common(weight_qp)
        tree = linkage(squareform(apart_qq, checks=False), "average")
        furthest = (1 - self.alike) * self.n_top + 1e-9
        match_q: np.ndarray = fcluster(tree, furthest, "distance") - 1
        return match_q

    def top(self, weight_qp: np.ndarray) -> np.ndarray:
        """Return the positions of each program's genes of largest weight, largest first."""
        return np.argsort(-weight_qp, axis=1, kind="stable")[:, : self.n_top]

    def common(self, weight_qp: np.ndarray) -> np.ndarray:
        """Return how many genes of largest weight each two programs have in common."""
        member_qp = np.zeros(weight_qp.shape)
        np.put_along_axis(member_qp, self.top(weight_qp), 1.0, axis=1)
        member_qp *= weight_qp > 0  # genes that neither has are nothing in common
        return member_qp @ member_qp.T
