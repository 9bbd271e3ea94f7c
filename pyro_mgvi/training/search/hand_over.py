"""Dimensions of shared latents that only some groups use, handed to these groups' own copy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_mgvi.core.copies import Copy, Latents
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.training.plan import SearchSettings
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search.clusters import clusters
from pyro_mgvi.training.search.residuals import Direction

STEP = 0.5  # standard deviations by which a dimension is moved to see what it does


class Handed(NamedTuple):
    """A dimension of a shared copy, and the copy of the groups that alone use it."""

    copy: Copy
    dim: int
    to: Copy
    direction: Direction


@torch.no_grad()
def dimensions_of_some_groups(
    program: Program, data: GroupedCounts, settings: SearchSettings, seed: int = 0
) -> list[Handed]:
    r"""Return dimensions of shared latents along which the cells of some groups alone vary.

    A large group's own program may be learnt as shared: a small group's cells pay little for a
    dimension that says nothing about them. Within clusters of the *other* shared dimensions, so
    that a type of one group is none, the variance of the posterior means tells who uses it.
    A group does not if its variance is ``settings.dead`` times smaller than the largest, by more
    than three standard errors; the others must all use it, with at least half of the largest.

    Parameters
    ----------
    program, data, settings, seed
        As for :func:`~pyro_mgvi.training.search.find_directions`.
    """
    families, found = program.families, []
    rng = np.random.default_rng(seed)
    cells = [
        np.sort(rng.permutation(np.flatnonzero(data.group_n == code))[: settings.start_cells])
        for code in np.unique(data.group_n)
    ]
    part_cells = np.concatenate(cells)
    columns = [(copy, dim) for copy in families.copies if copy.shared for dim in range(copy.dim)]
    if len(cells) < 2 or not columns:
        return []
    part = data.subset(part_cells)
    means = []
    for _, posterior in program.posteriors(part):
        means.append(
            torch.stack([posterior.mean(c.latent)[c.index][:, d] for c, d in columns], 1).cpu()
        )
    z_nk = torch.cat(means).numpy()
    codes = np.unique(part.group_n)
    used = np.flatnonzero(z_nk.std(0) > 1e-6)
    for k in used:
        others = np.setdiff1d(used, k)
        cluster_n = clusters(z_nk[:, others], settings.clusters, seed)
        log_b, error_b = _log_variances(z_nk[:, k], cluster_n, part.group_n, codes)
        largest = int(log_b.argmax())
        gap_b = log_b[largest] - log_b
        sure_b = gap_b - 3 * np.hypot(error_b, error_b[largest]) > 0
        dead_b = (gap_b > np.log(settings.dead)) & sure_b
        uses_b = gap_b < np.log(2)
        to = _owned_by(families, codes[uses_b])
        if dead_b.any() and (dead_b | uses_b).all() and to is not None:
            copy, dim = columns[k]
            owners = np.isin(part.group_n, codes[uses_b])
            direction = _direction(program, part, copy, dim, z_nk[:, k], owners, part_cells)
            found.append(Handed(copy, dim, to, direction))
    return found


def _log_variances(
    z_n: np.ndarray, cluster_n: np.ndarray, group_n: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log variance within clusters of each group, and its standard error.

    Clusters count by the smallest share that they have in any group.
    """
    n_clusters = int(cluster_n.max()) + 1
    counts_bc = np.array([np.bincount(cluster_n[group_n == b], minlength=n_clusters) for b in codes])
    weight_c = np.where((counts_bc > 1).all(0), (counts_bc / counts_bc.sum(1)[:, None]).min(0), 0)
    if not weight_c.any():
        return np.zeros(len(codes)), np.full(len(codes), np.inf)
    weight_c = weight_c / weight_c.sum()
    logs, errors = [], []
    for b, counts_c in zip(codes, counts_bc):
        variance, error = 0.0, 0.0
        for c in np.flatnonzero(weight_c):
            square = (z_n[(group_n == b) & (cluster_n == c)] - 0.0)
            square = (square - square.mean()) ** 2 * counts_c[c] / (counts_c[c] - 1)
            variance += weight_c[c] * square.mean()
            error += weight_c[c] ** 2 * square.var() / counts_c[c]
        logs.append(np.log(max(variance, 1e-12)))
        errors.append(error**0.5 / max(variance, 1e-12))
    return np.array(logs), np.array(errors)


def _owned_by(families: Latents, codes: np.ndarray) -> Copy | None:
    """Return the first copy that just these groups own."""
    for copy in families.copies:
        member_b = families.membership(copy.latent)[copy.index].numpy()
        if np.array_equal(np.flatnonzero(member_b), codes):
            return copy
    return None


def _direction(
    program: Program,
    part: GroupedCounts,
    copy: Copy,
    dim: int,
    z_n: np.ndarray,
    owner_n: np.ndarray,
    cells: np.ndarray,
) -> Direction:
    """Return what the decoder makes of a dimension in the owners' cells, and their scores."""
    own = np.flatnonzero(owner_n)
    sd = float(z_n[own].std())
    total_g, model = torch.zeros(part.shape[1]), program.model
    for _, posterior in program.posteriors(part.subset(own)):
        batch, logs = posterior.batch, []
        for step in (STEP, -STEP):
            values = {name: value.clone() for name, value in posterior.means().items()}
            values[copy.latent][copy.index][:, dim] += step * sd
            parts = model.decode(values, batch.group, batch.covariates)
            logs.append(model.likelihood.expression(parts).clamp(min=1e-12).log())
        total_g += ((logs[0] - logs[1]) / (2 * STEP)).sum(0).cpu()
    score_n = torch.from_numpy((z_n[own] - z_n[own].mean()) / max(sd, 1e-9)).float()
    return Direction(total_g / len(own), score_n, cells[own])
