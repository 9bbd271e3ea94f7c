"""Of several modalities: which copy reaches no more than what a direction is of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pyro_mgvi.core.copies import Copy, Latents
from pyro_mgvi.core.latents import Latent
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.model.posterior import Posterior
from pyro_mgvi.training.plan import SearchSettings
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search.residuals import Direction

STEP = 0.5  # standard deviations by which a dimension is moved to see what it does


def reached_features(program: Program, copy: Copy) -> Tensor:
    """Return which features of several modalities a copy reaches, boolean."""
    modalities, families = program.model.modalities, program.families
    assert modalities is not None  # asked of several alone
    names = families.modalities_of(copy.latent)
    return modalities.spread(torch.tensor([name in names for name in modalities.names]))


def owners_of_all(families: Latents, copy: Copy, owner_b: np.ndarray) -> np.ndarray:
    """Return the owners that have every modality that a copy reaches; all, if none has.

    Only these tell what several modalities have in common.
    """
    names = families.modalities_of(copy.latent)
    having = [set(families.having[name]) for name in names]
    whole_b = [all(group in each for each in having) for group in families.groups]
    both_b: np.ndarray = owner_b & np.array(whole_b)
    return both_b if both_b.any() else owner_b


def having_any(families: Latents, copy: Copy) -> np.ndarray:
    """Return which groups have a modality that a copy reaches, boolean."""
    has = {group for name in families.modalities_of(copy.latent) for group in families.having[name]}
    return np.array([group in has for group in families.groups])


def everyones(families: Latents, latent: Latent) -> bool:
    """Return whether all groups own a family that have anything of what it reaches.

    Examples
    --------
    >>> from pyro_mgvi.core import modality, private, shared
    >>> having = {"rna": ("a", "b"), "prot": ("b",)}
    >>> families = Latents([shared(1), modality("prot", 1), private(1)], ("a", "b"), having)
    >>> [everyones(families, latent) for latent in families]
    [True, True, False]
    """
    copies = families.copies_of(latent.name)
    has = {group for name in families.modalities_of(latent.name) for group in families.having[name]}
    return all(set(copy.groups) == has for copy in copies)


def covered(families: Latents, copy: Copy) -> bool:
    """Return whether a copy of more modalities is searched for in its place."""
    return any(
        copy in families.narrower(other).values()
        for other in families.copies
        if set(families.modalities_of(other.latent)) > set(families.modalities_of(copy.latent))
    )


def handed_down(
    program: Program, found: Mapping[Copy, list[Direction]], settings: SearchSettings
) -> dict[Copy, list[Direction]]:
    """Give each direction to the copy that reaches no more than the modalities of its features.

    A modality counts if at least ``settings.least_genes`` of its features follow the direction.
    """
    if not program.families.having:
        return dict(found)
    modalities = program.model.modalities
    assert modalities is not None  # there are several
    given: dict[Copy, list[Direction]] = {}
    for copy, directions in found.items():
        for direction in directions:
            n_k = modalities.totals((direction.loading_g != 0).float())
            names = tuple(
                name for name, n in zip(modalities.names, n_k) if n >= settings.least_genes
            )
            to = _narrowest(program.families, copy, names)
            given.setdefault(to, []).append(within(program, to, direction))
    return given


def _narrowest(families: Latents, copy: Copy, names: tuple[str, ...]) -> Copy:
    """Return which of the copies of the same owners reaches least beside some modalities."""
    parts = {families.modalities_of(copy.latent): copy} | families.narrower(copy)
    enough = [part for part in parts if set(names) <= set(part)]
    return parts[min(enough, key=len)]


def within(program: Program, copy: Copy, direction: Direction) -> Direction:
    """Return a direction of the features that a copy reaches."""
    return direction._replace(loading_g=direction.loading_g * reached_features(program, copy))


@torch.no_grad()
def modalities_in_use(
    program: Program,
    data: GroupedCounts,
    copy: Copy,
    dim: int,
    sd: float,
    settings: SearchSettings,
) -> tuple[str, ...]:
    r"""Return the modalities that tell where cells are along a dimension.

    A modality tells :math:`\frac12 \log(1 + I)` nats, with Fisher's information I of its features
    about a place along the dimension, in units of its squared standard deviation over cells. It
    is in use if that is at least a ``settings.dead``-th of the largest; all are if none tells
    ``settings.idle`` nats.

    Parameters
    ----------
    program, data
        A model, and cells that own the copy.
    copy, dim, sd
        The dimension, and the standard deviation of its posterior means.
    settings
        Thresholds.
    """
    modalities = program.model.modalities
    assert modalities is not None  # asked of several alone
    total_k = torch.zeros(len(modalities), dtype=torch.float32)
    for _, posterior in program.posteriors(data):
        total_k += modalities.totals(_information(program, posterior, copy, dim, sd)).cpu()
    nats_k = 0.5 * (total_k / len(data)).log1p()
    reach = program.families.modalities_of(copy.latent)
    return tuple(
        name
        for name, nats in zip(modalities.names, nats_k)
        if name in reach and (nats * settings.dead >= nats_k.max() or nats_k.max() < settings.idle)
    )


def _information(program: Program, posterior: Posterior, copy: Copy, dim: int, sd: float) -> Tensor:
    """Return what each feature tells of a place along a dimension, summed over cells."""
    model, batch = program.model, posterior.batch
    size = model.observed_log_library(batch.counts)
    sides = []
    for step in (STEP, -STEP, 0.0):
        values = {name: value.clone() for name, value in posterior.means().items()}
        values[copy.latent][copy.index][:, dim] += step * sd
        parts = posterior.decode(values)
        sides.append(model.distribution(parts, size, batch.group))
    slope_ng = (sides[0].mean - sides[1].mean) / (2 * STEP)
    return (slope_ng.square() / sides[2].variance.clamp(min=1e-8)).sum(0)
