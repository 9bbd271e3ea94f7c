"""Multi-group factor analysis: shared and private linear factors, integrated out exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.distributions import LowRankMultivariateNormal

from pyro_mgvi.baselines.marginal import maximise
from pyro_mgvi.errors import DataError, SettingsError


class MGFA:
    r"""Multi-group factor analysis, the linear counterpart of the model.

    .. math:: x | g \sim N(\mu_g, \Phi\Phi' + \Lambda_g\Lambda_g' + diag(\psi_g))

    After MSFA (De Vito et al. 2019). Loadings and uniquenesses are those of highest posterior
    density, by L-BFGS on the exact marginal likelihood: no factor is ever sampled. Means are the
    groups' own.

    Parameters
    ----------
    n_shared
        Number of shared factors, K.
    n_private
        Number of private factors of each group, J; one number, or one for each group.
    floor
        Least uniqueness, as a share of a variable's variance within groups. Where there are as
        many factors as variables, likelihood alone sends uniquenesses to zero.
    loading_scale
        Standard deviation of the normal prior of every loading; ``inf`` for maximum likelihood.
    max_iter, tolerance
        Of L-BFGS: most iterations, and relative change of the objective at which to stop.

    Attributes
    ----------
    mean_gp, psi_gp, shared_pk, private_pj
        Estimates; ``private_pj`` has one matrix for each group.
    search
        scipy's account of the search.

    Raises
    ------
    SettingsError
        If the number of factors, the floor or the prior's scale is out of range.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, group = rng.normal(size=(60, 5)), np.repeat([0, 1], 30)
    >>> mgfa = MGFA(n_shared=2, n_private=1).fit(x, group)
    >>> z, t = mgfa.scores(x, group)
    >>> z.shape, [own.shape for own in t]
    ((60, 2), [(60, 1), (60, 1)])
    """

    def __init__(
        self,
        n_shared: int = 10,
        n_private: int | Sequence[int] = 10,
        floor: float = 1e-3,
        loading_scale: float = 1.0,
        max_iter: int = 300,
        tolerance: float = 1e-6,
    ):
        if min(n_shared, np.min(n_private)) < 0 or not 0 < floor < 1 or not loading_scale > 0:
            raise SettingsError(
                "MGFA needs numbers of factors from 0, a floor between 0 and 1 and a positive "
                f"loading_scale, not {n_shared}, {n_private}, {floor} and {loading_scale}"
            )
        self.n_shared, self.n_private = n_shared, n_private
        self.floor, self.loading_scale = floor, loading_scale
        self.max_iter, self.tolerance = max_iter, tolerance

    def fit(self, x_np: np.ndarray, group_n: np.ndarray, seed: int = 0) -> MGFA:
        """Estimate everything from ``x_np``, and return self.

        Parameters
        ----------
        x_np
            Values, cells x variables, such as log1p of scaled counts.
        group_n
            Integer code of each cell's group, from 0.
        seed
            Of the start.

        Raises
        ------
        DataError
            If a value is not finite, groups are no integer codes, or one has fewer than 2 cells.
        SettingsError
            If ``n_private`` has not one entry for each group.
        """
        x_np, group_n = np.asarray(x_np, float), np.asarray(group_n)
        if x_np.ndim != 2 or len(x_np) != len(group_n) or not np.isfinite(x_np).all():
            raise DataError("MGFA needs finite values, cells x variables, and a group per cell")
        sizes = np.bincount(_codes(group_n))
        if sizes.min() < 2:
            raise DataError(f"group {sizes.argmin()} has fewer than 2 cells: MGFA needs a variance")
        given = np.asarray(self.n_private)
        if given.ndim and len(given) != len(sizes):
            raise SettingsError(f"n_private has {len(given)} entries, not {len(sizes)}")
        n_private = [int(k) for k in np.broadcast_to(given, len(sizes))]
        self.mean_gp = np.stack([x_np[group_n == g].mean(0) for g in range(len(sizes))])
        centred = [x_np[group_n == g] - mean for g, mean in enumerate(self.mean_gp)]
        variance_p = sum((y**2).sum(0) for y in centred) / len(x_np)
        scale_p = np.sqrt(np.where(variance_p > 0, variance_p, 1.0))
        for y in centred:
            y /= scale_p
        found, self.search = maximise(
            centred,
            self.n_shared,
            n_private,
            self.floor,
            (scale_p / self.loading_scale) ** 2,
            seed,
            maxiter=self.max_iter,
            ftol=self.tolerance,
            gtol=1e-8,
            maxcor=20,
        )
        self.shared_pk = found.shared_pk * scale_p[:, None]
        self.private_pj = [own_pj * scale_p[:, None] for own_pj in found.private_pj]
        self.psi_gp = np.exp(found.log_psi_gp) * scale_p**2
        return self

    def distribution(self, group: int) -> LowRankMultivariateNormal:
        """Return the marginal distribution of the cells of one group."""
        loadings_pf = np.hstack([self.shared_pk, self.private_pj[group]])
        mean_p, factor_pf, diagonal_p = map(
            torch.as_tensor, (self.mean_gp[group], loadings_pf, self.psi_gp[group])
        )
        return LowRankMultivariateNormal(mean_p, factor_pf, diagonal_p)

    def log_likelihood(self, x_np: np.ndarray, group_n: np.ndarray) -> float:
        """Return the mean log-likelihood per cell, in nats.

        Raises
        ------
        DataError
            If a cell is of a group that it has not seen.
        """
        x = torch.as_tensor(np.asarray(x_np, float))
        group_n = _codes(np.asarray(group_n), len(self.mean_gp))
        groups = range(len(self.mean_gp))
        total = sum(self.distribution(g).log_prob(x[group_n == g]).sum() for g in groups)
        return float(total) / len(x)

    def scores(
        self, x_np: np.ndarray, group_n: np.ndarray, draw: int | None = None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the factors' posterior means, (I + W'Psi^-1 W)^-1 W'Psi^-1 (x - mu).

        Parameters
        ----------
        x_np, group_n
            As for :meth:`fit`.
        draw
            Seed of one posterior draw to return instead of the mean.

        Returns
        -------
        Shared scores (n, K), and for each group private ones (n, J), NaN for foreign cells.

        Raises
        ------
        DataError
            If a cell is of a group that it has not seen.
        """
        x_np = np.asarray(x_np, float)
        group_n = _codes(np.asarray(group_n), len(self.mean_gp))
        rng = None if draw is None else np.random.default_rng(draw)
        z_nk, t = np.full((len(x_np), self.n_shared), np.nan), []
        for g, own_pj in enumerate(self.private_pj):
            mine = group_n == g
            loadings_pf = np.hstack([self.shared_pk, own_pj])
            weighted_pf = loadings_pf / self.psi_gp[g][:, None]
            covariance_ff = np.linalg.inv(
                np.eye(loadings_pf.shape[1]) + loadings_pf.T @ weighted_pf
            )
            f_nf = (x_np[mine] - self.mean_gp[g]) @ weighted_pf @ covariance_ff
            if rng is not None:
                f_nf += rng.normal(size=f_nf.shape) @ np.linalg.cholesky(covariance_ff).T
            z_nk[mine] = f_nf[:, : self.n_shared]
            t.append(np.full((len(x_np), own_pj.shape[1]), np.nan))
            t[-1][mine] = f_nf[:, self.n_shared :]
        return z_nk, t


def _codes(group_n: np.ndarray, n_groups: int | None = None) -> np.ndarray:
    """Return codes of groups, if they are such."""
    if not np.issubdtype(group_n.dtype, np.integer) or group_n.min(initial=0) < 0:
        raise DataError("MGFA takes groups as integer codes from 0")
    if n_groups is not None and group_n.max(initial=0) >= n_groups:
        raise DataError(
            f"MGFA was fitted on {n_groups} groups: there is none of code {group_n.max()}"
        )
    return group_n
