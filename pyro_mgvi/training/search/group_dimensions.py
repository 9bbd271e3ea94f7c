"""Dimensions of shared latents that only some groups use, handed to these groups' own copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from pyro_mgvi.core.copies import Copy, Latents
from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.model import Posterior
from pyro_mgvi.training.plan import SearchSettings
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search.clusters import clusters, some_of_each
from pyro_mgvi.training.search.modality_reach import modalities_in_use, within
from pyro_mgvi.training.search.residuals import Direction

SURE = 3.0  # standard errors of a difference that is no accident
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
    A group does not use it if its variance is ``settings.dead`` times smaller than the largest, and
    by more than three standard errors; the others must all use it, with at least half of the
    largest.

    Parameters
    ----------
    program, data, settings, seed
        As for :func:`~pyro_mgvi.training.search.find_directions`.
    """
    columns = [
        (copy, dim) for copy in program.families.copies if copy.shared for dim in range(copy.dim)
    ]
    codes = np.unique(data.group_n)
    if len(codes) < 2 or not columns:
        return []
    cells = some_of_each(data.group_n, codes, settings.start_cells, seed)
    part = data.subset(cells)
    z_nk = np.concatenate(
        [_columns(posterior, columns) for _, posterior in program.posteriors(part)]
    )
    used, found = np.flatnonzero(z_nk.std(0) > 1e-6), []
    for k in used:
        handed = _to_fewer_modalities(program, part, *columns[k], z_nk[:, k], settings)
        if handed is not None:
            found.append(handed._replace(direction=handed.direction._replace(cells=cells)))
            continue
        cluster_n = clusters(z_nk[:, np.setdiff1d(used, k)], settings.clusters, seed)
        uses_b = users(z_nk[:, k], cluster_n, part.group_n, settings.dead)
        to = None if uses_b is None else _owned_by(program.families, codes[uses_b])
        if to is not None:
            copy, dim = columns[k]
            own = np.flatnonzero(np.isin(part.group_n, codes[uses_b]))
            direction = _direction(program, part, copy, dim, z_nk[own, k], own)
            found.append(Handed(copy, dim, to, direction._replace(cells=cells[own])))
    return found


def _to_fewer_modalities(
    program: Program,
    part: GroupedCounts,
    copy: Copy,
    dim: int,
    z_n: np.ndarray,
    settings: SearchSettings,
) -> Handed | None:
    """Return what a dimension becomes that only some of its modalities use."""
    if not (narrow := program.families.narrower(copy)):
        return None
    names = modalities_in_use(program, part, copy, dim, float(z_n.std()), settings)
    if names not in narrow:
        return None
    direction = _direction(program, part, copy, dim, z_n, np.arange(len(part)))
    return Handed(copy, dim, narrow[names], within(program, narrow[names], direction))


def _columns(posterior: Posterior, columns: Sequence[tuple[Copy, int]]) -> np.ndarray:
    means = [posterior.mean(copy.latent)[copy.index][:, dim] for copy, dim in columns]
    return torch.stack(means, 1).cpu().numpy()


def users(
    z_n: np.ndarray, cluster_n: np.ndarray, group_n: np.ndarray, dead: float
) -> np.ndarray | None:
    """Return which groups alone use a dimension, in the order of their codes.

    Parameters
    ----------
    z_n
        Posterior means of a dimension.
    cluster_n, group_n
        Cluster of the other dimensions, and group, of each cell.
    dead
        How many times smaller the variance within clusters is in a group that does not use it.

    Returns
    -------
    Boolean by group; None where all groups use it, or the cells do not say.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> group_n = np.repeat([0, 1], 200)
    >>> users(rng.normal(size=400), np.zeros(400, int), group_n, 4.0)
    >>> z_n = rng.normal(size=400) * np.where(group_n == 0, 1.0, 0.1)
    >>> users(z_n, np.zeros(400, int), group_n, 4.0)
    array([ True, False])
    """
    log_b, error_b = _log_variances(z_n, cluster_n, group_n)
    largest = int(log_b.argmax())
    gap_b = log_b[largest] - log_b
    dead_b = gap_b > np.maximum(np.log(dead), SURE * np.hypot(error_b, error_b[largest]))
    uses_b = gap_b < np.log(2)
    return uses_b if dead_b.any() and (dead_b | uses_b).all() else None


def _log_variances(
    z_n: np.ndarray, cluster_n: np.ndarray, group_n: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log variance within clusters of each group, and its standard error.

    Clusters count by the smallest share that they have in any group, so those of one group only
    do not.
    """
    codes, n_clusters = np.unique(group_n), int(cluster_n.max()) + 1
    counts_bc = np.array(
        [np.bincount(cluster_n[group_n == b], minlength=n_clusters) for b in codes]
    )
    share_bc = counts_bc / counts_bc.sum(1, keepdims=True)
    weight_c = np.where((counts_bc > 1).all(0), share_bc.min(0), 0.0)
    if not weight_c.any():
        return np.zeros(len(codes)), np.full(len(codes), np.inf)
    weight_c = weight_c / weight_c.sum()
    logs, errors = [], []
    for b, counts_c in zip(codes, counts_bc):
        variance = squared_error = 0.0
        for c in np.flatnonzero(weight_c):
            centred = z_n[(group_n == b) & (cluster_n == c)]
            square = (centred - centred.mean()) ** 2 * counts_c[c] / (counts_c[c] - 1)
            variance += weight_c[c] * square.mean()
            squared_error += weight_c[c] ** 2 * square.var() / counts_c[c]
        variance = max(variance, 1e-12)
        logs.append(np.log(variance))
        errors.append(squared_error**0.5 / variance)
    return np.array(logs), np.array(errors)


def _owned_by(families: Latents, codes: np.ndarray) -> Copy | None:
    """Return the first copy that just these groups own."""
    for copy in families.copies:
        member_b = families.membership(copy.latent)[copy.index].numpy()
        if np.array_equal(np.flatnonzero(member_b), codes):
            return copy
    return None


def _direction(
    program: Program, part: GroupedCounts, copy: Copy, dim: int, z_n: np.ndarray, own: np.ndarray
) -> Direction:
    """Return what the decoder makes of a dimension in the owners' cells, and their scores."""
    sd, model = max(float(z_n.std()), 1e-9), program.model
    total_g = torch.zeros(part.shape[1], dtype=torch.float32)
    for _, posterior in program.posteriors(part.subset(own)):
        batch, sides = posterior.batch, []
        for step in (STEP, -STEP):
            values = {name: value.clone() for name, value in posterior.means().items()}
            values[copy.latent][copy.index][:, dim] += step * sd
            parts = posterior.decode(values)
            expression = model.expression(parts, batch.group)
            counts = model.data_kind is DataKind.COUNTS
            sides.append(expression.clamp(min=1e-12).log() if counts else expression)
        total_g += ((sides[0] - sides[1]) / (2 * STEP)).sum(0).cpu()
    if model.measured_bg is not None:  # nothing is known of genes that no owner has
        total_g *= model.measured_bg[np.unique(part.group_n[own])].any(0).cpu()
    score_n = torch.from_numpy((z_n - z_n.mean()) / sd).float()
    return Direction(total_g / len(own), score_n, own)
