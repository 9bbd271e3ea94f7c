"""Starting idle dimensions of a model at directions that it has not got."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.directions import find_directions, searchable
from pyro_mgvi.offsets import recentre_offsets
from pyro_mgvi.relevance import dimension_kl

IDLE = 0.5  # nats: a dimension that says less about a cell may be started anew
CELLS = 2000  # from which an encoder's start is computed


def start_anew(
    model,
    guide,
    data: GroupedCounts,
    copies: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> bool:
    """Give a partly trained model what gradients from its start would not find.

    The groups' offsets become differences within clusters of the shared latents
    (:func:`~pyro_mgvi.offsets.recentre_offsets`), idle dimensions of some groups' latents go out
    of use, and those that :func:`plant_directions` finds a direction for start there.
    :meth:`MGVI.fit <pyro_mgvi.MGVI.fit>` does so after ten epochs; in a training loop of your own,
    call it about there. Parameters change in place: an optimiser goes on with them.

    Parameters
    ----------
    model, guide, data, copies, seed
        As for :func:`~pyro_mgvi.directions.find_directions`. With ``copies`` of a group that joins
        a trained model, the offsets stay.

    Returns
    -------
    Whether the decoder has changed.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=400, n_shared_genes=60, n_program_genes=60)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> start_anew(mgvi.model, mgvi.guide, mgvi.read(adata))
    True
    """
    training = model.training, guide.training
    model.eval(), guide.eval()
    try:
        changed = copies is None and recentre_offsets(model, guide, data, seed)
        silence_idle(model, guide, data, copies)
        return plant_directions(model, guide, data, copies, seed) > 0 or changed
    finally:
        model.train(training[0]), guide.train(training[1])


def plant_directions(
    model,
    guide,
    data: GroupedCounts,
    copies: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> int:
    """Find what the model has not got, and start idle dimensions there.

    Parameters
    ----------
    model, guide, data, copies, seed
        As for :func:`~pyro_mgvi.directions.find_directions`.

    Returns
    -------
    How many dimensions were started; 0 with a decoder or an encoder that cannot.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=400, n_shared_genes=60, n_program_genes=60)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> plant_directions(mgvi.model, mgvi.guide, mgvi.read(adata)) > 0
    True
    """
    if not _can_plant(model, guide):
        return 0
    found = find_directions(model, guide, data, copies, seed)
    information = dimension_kl(guide, data) if found else {}
    n_planted = 0
    for (name, copy), directions in found.items():
        kl_d = information[name][copy]
        for dim, direction in zip(np.argsort(kl_d, kind="stable"), directions):
            if kl_d[dim] > IDLE:
                break
            model.decoder.plant(name, copy, int(dim), direction.loading_g)
            for module in (model, guide):
                getattr(module, f"in_use_{name}")[copy, int(dim)] = True
            chosen = np.random.default_rng(seed).permutation(len(direction.cells))[:CELLS]
            counts = data.rows(direction.cells[chosen]).counts.to(guide.depth.device)
            x_ng = guide.inputs(counts)
            score_n = direction.score_n[chosen].to(x_ng)
            genes = direction.loading_g.nonzero()[:, 0].to(x_ng.device)
            guide.encoder.plant(name, copy, int(dim), x_ng, score_n, genes)
            n_planted += 1
    return n_planted


def silence_idle(
    model, guide, data: GroupedCounts, copies: Mapping[str, Tensor] | None = None
) -> None:
    """Take idle dimensions of some groups' copies out of use, until a search finds what for.

    A dimension that starts at random and has found nothing fits noise of the few cells that own
    it. Left in use are copies that :func:`plant_directions` cannot open again: of groups that are
    too small to be searched, and with a decoder or an encoder that cannot start a dimension.
    """
    if not _can_plant(model, guide):
        return
    for name, kl_sd in dimension_kl(guide, data).items():
        latent = next(x for x in model.latents if x.name == name)
        if latent.covers(model.groups):
            continue
        owners_sb, alone = latent.membership(model.groups).numpy(), copies is not None
        chosen_s = np.array([searchable(owner_b, data, alone) for owner_b in owners_sb])
        if copies is not None:
            chosen_s &= copies[name].cpu().numpy()
        idle_sd = torch.from_numpy((kl_sd <= IDLE) & chosen_s[:, None])
        for module in (model, guide):
            in_use_sd = getattr(module, f"in_use_{name}")
            in_use_sd &= ~idle_sd.to(in_use_sd.device)


def _can_plant(model, guide) -> bool:
    return getattr(model.decoder, "can_plant", False) and hasattr(guide.encoder, "plant")
