"""Which dimensions of a latent carry information, and switching off those that do not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.guide import Guide
from pyro_mgvi.model import Model

EVALUATION_SIZE = 1024


@torch.no_grad()
def dimension_kl(guide: Guide, data: GroupedCounts) -> dict[str, np.ndarray]:
    """Return how much each dimension says about the cells that own it.

    Parameters
    ----------
    guide
        A trained guide.
    data
        Cells to average over.

    Returns
    -------
    For each latent, the mean divergence of the posterior from the standard normal prior over
    the cells that own a copy, in nats, (S, d); 0 for dimensions out of use.
    """
    guide.eval()
    device = guide.depth.device
    total = {latent.name: 0.0 for latent in guide.latents}
    owners = dict.fromkeys(total, 0.0)
    for batch in data.minibatches(EVALUATION_SIZE, shuffle=False):
        batch = batch.to(device)
        posteriors = guide.posteriors(batch.counts, batch.covariates)
        for latent in guide.latents:
            loc, scale = posteriors[latent.name]
            kl = 0.5 * (loc**2 + scale**2 - 1) - scale.log()
            shape = (latent.n_subsets, len(batch.group), -1)
            member = guide.member(latent, batch.group).reshape(shape)
            total[latent.name] += (kl.reshape(shape) * member).sum(1).cpu().numpy()
            owners[latent.name] += member.sum(1).cpu().numpy()
    return {
        latent.name: np.where(
            getattr(guide, f"in_use_{latent.name}").cpu().numpy(),
            total[latent.name] / np.maximum(owners[latent.name], 1),
            0.0,
        )
        for latent in guide.latents
    }


def use_all(model: Model, guide: Guide, copies: Mapping[str, Tensor] | None = None) -> None:
    """Put every dimension in use, of every latent or of some copies (S,) of each."""
    for module in (model, guide):
        for latent in module.latents:
            in_use_sd = getattr(module, f"in_use_{latent.name}")
            in_use_sd |= _chosen(copies, latent.name, in_use_sd)


def prune(
    model: Model,
    guide: Guide,
    data: GroupedCounts,
    threshold: float,
    copies: Mapping[str, Tensor] | None = None,
) -> None:
    """Take dimensions out of use that say less than ``threshold`` nats about a cell.

    An idle dimension costs next to nothing, so training leaves traces in it that are too small
    to matter to the decoder, yet large enough for a standardised classifier or k-means to find.
    Out of use, it is exactly zero in every draw, mean and reconstruction. With ``copies``
    (boolean, (S,) for each latent) all other copies stay as they are.
    """
    for name, kl in dimension_kl(guide, data).items():
        for module in (model, guide):
            in_use_sd = getattr(module, f"in_use_{name}")
            useful_sd = torch.as_tensor(kl >= threshold, device=in_use_sd.device)
            in_use_sd &= useful_sd | ~_chosen(copies, name, in_use_sd)


def _chosen(copies: Mapping[str, Tensor] | None, name: str, like: Tensor) -> Tensor:
    chosen_s = torch.ones(len(like), dtype=torch.bool) if copies is None else copies[name]
    return chosen_s.to(like.device).unsqueeze(-1)
