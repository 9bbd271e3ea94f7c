"""How much each dimension says, and closing those that say nothing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.training.program import Program


@torch.no_grad()
def dimension_divergence(
    program: Program, data: GroupedCounts, progress: str | None = None
) -> dict[str, Tensor]:
    """Return how much each dimension says about the cells that own it.

    Parameters
    ----------
    program
        A trained program.
    data
        Cells to average over.
    progress
        What a progress bar should be called; none without.

    Returns
    -------
    For each latent, the mean divergence of the posterior from the owners' prior over the cells
    that own a copy, in nats, (S, dim); 0 for closed dimensions.
    """
    families, kind = program.families, torch.float32
    total = {x.name: torch.zeros(x.n_copies, x.dim, dtype=kind) for x in families}
    owners = {x.name: torch.zeros(x.n_copies, 1, dtype=kind) for x in families}
    for _, posterior in program.posteriors(data, progress=progress):
        for latent in families:
            owned_sn1 = posterior.owned(latent.name).unsqueeze(-1)
            total[latent.name] += (posterior.divergence(latent.name) * owned_sn1).sum(1).cpu()
            owners[latent.name] += owned_sn1.sum(1).cpu()
    return {name: total[name] / owners[name].clamp(min=1) for name in total}


def prune(
    program: Program,
    data: GroupedCounts,
    threshold: float,
    copies: Mapping[str, Tensor] | None = None,
    progress: bool = False,
) -> None:
    """Close dimensions that say less than ``threshold`` nats about a cell.

    An idle dimension costs next to nothing, so training leaves traces in it that are too small
    to matter to the decoder, yet large enough for a standardised classifier or k-means to find.
    Closed, it is exactly zero in every mean, draw and reconstruction. With ``copies``
    (boolean, (S,) for each latent) all other copies stay as they are.
    """
    active = program.model.active
    shown = "closing idle dimensions" if progress else None
    for name, divergence_sd in dimension_divergence(program, data, shown).items():
        useless_sd = divergence_sd < threshold
        if copies is not None:
            useless_sd &= copies[name].unsqueeze(-1)
        active.close({name: useless_sd})
