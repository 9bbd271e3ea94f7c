"""Re-estimate group offsets, and restart idle dimensions at directions found in the residuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from pyro_mgvi.core.copies import Copy
from pyro_mgvi.core.interfaces import DimensionStart, EncoderInput, StartsDimensions
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.kernels.sparse import to_dense
from pyro_mgvi.model.component_checks import cannot_start
from pyro_mgvi.training.plan import SearchSettings
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search.directions import find_directions, searchable
from pyro_mgvi.training.search.echoes import close_echoes
from pyro_mgvi.training.search.group_dimensions import dimensions_of_some_groups
from pyro_mgvi.training.search.group_offsets import recentre_offsets
from pyro_mgvi.training.search.modality_reach import everyones
from pyro_mgvi.training.search.pruning import dimension_divergence
from pyro_mgvi.training.search.residuals import Direction, searched_groups

Chosen = Mapping[str, Tensor] | None
Known = Mapping[tuple[str, ...], Sequence[Direction]]


def restart_idle(
    program: Program,
    data: GroupedCounts,
    settings: SearchSettings | None = None,
    copies: Chosen = None,
    seed: int = 0,
    known: Known = MappingProxyType({}),
) -> bool:
    """Give a partly trained model what gradients from its start would not find.

    The groups' offsets become differences within clusters of the shared latents
    (:func:`~pyro_mgvi.training.search.group_offsets.recentre_offsets`), idle dimensions of some
    groups' latents are closed, and those that :func:`plant_directions` finds a direction for
    start there. :meth:`MGVI.fit <pyro_mgvi.MGVI.fit>` does so after ten epochs; in a training
    loop of your own, call it about there. Parameters change in place: an optimiser goes on with
    them.

    Parameters
    ----------
    program, data, settings, copies, seed
        As for :func:`~pyro_mgvi.training.search.find_directions`. With ``copies`` of a group that
        joins a trained model, the offsets stay.
    known
        Directions of copies of some groups that are known already, by these groups.

    Returns
    -------
    Whether the decoder has changed.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=400, n_shared_genes=60, n_program_genes=60)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> restart_idle(mgvi, mgvi.read(adata))
    True
    """
    settings = SearchSettings() if settings is None else settings
    with program.at_rest():
        changed = copies is None and recentre_offsets(program, data, settings, seed)
        close_idle(program, data, settings, copies)
        return plant_directions(program, data, settings, copies, seed, known) > 0 or changed


def hand_over(
    program: Program, data: GroupedCounts, settings: SearchSettings, seed: int = 0
) -> int:
    """Start dimensions of shared latents that some groups alone use in these groups' own copy.

    Parameters
    ----------
    program, data, settings, seed
        As for :func:`~pyro_mgvi.training.search.find_directions`.

    Returns
    -------
    How many dimensions were handed over, or closed as echoes.
    """
    if not can_start(program):
        return 0
    n_closed = close_echoes(program, data, settings, seed)
    found = dimensions_of_some_groups(program, data, settings, seed)
    information = dimension_divergence(program, data) if found else {}
    n_handed = 0
    for handed in found:
        kl_d = information[handed.to.latent][handed.to.index]
        dim = int(kl_d.argmin())
        if kl_d[dim] > settings.idle:
            continue
        kl_d[dim] = torch.inf
        _plant(program, data, handed.to, dim, handed.direction, settings, seed)
        closed_sd = torch.zeros_like(information[handed.copy.latent], dtype=torch.bool)
        closed_sd[handed.copy.index, handed.dim] = True
        program.model.active.close({handed.copy.latent: closed_sd})
        n_handed += 1
    return n_handed + n_closed


def plant_directions(
    program: Program,
    data: GroupedCounts,
    settings: SearchSettings | None = None,
    copies: Chosen = None,
    seed: int = 0,
    known: Known = MappingProxyType({}),
) -> int:
    """Find what the model has not got, and start idle dimensions there.

    Parameters
    ----------
    program, data, settings, copies, seed
        As for :func:`~pyro_mgvi.training.search.find_directions`.
    known
        As for :func:`restart_idle`: they come first, in dimensions that are not idle, too, and none
        is found that shares most of its genes with one of them.

    Returns
    -------
    How many dimensions were started; 0 with a decoder or an encoder that cannot.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=400, n_shared_genes=60, n_program_genes=60)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> plant_directions(mgvi, mgvi.read(adata)) > 0
    True
    """
    settings = SearchSettings() if settings is None else settings
    if not can_start(program):
        return 0
    found = find_directions(program, data, settings, copies, seed)
    for copy in program.families.copies:
        if first := known.get(copy.groups):
            others = [each for each in found.get(copy, []) if not _among(each, first, settings)]
            found[copy] = [*first, *others]
    return _plant_all(program, data, found, settings, seed, known)


def search_shared(
    program: Program, data: GroupedCounts, settings: SearchSettings, seed: int = 0
) -> bool:
    """Do as :func:`restart_idle` for the latents of all groups alone; others stay as they are.

    Parameters
    ----------
    program, data, settings, seed
        As there.
    """
    with program.at_rest():
        changed = recentre_offsets(program, data, settings, seed)
        found = find_directions(program, data, settings, None, seed)
        shared = {copy: directions for copy, directions in found.items() if copy.shared}
        return _plant_all(program, data, shared, settings, seed) > 0 or changed


def start_at(
    program: Program,
    data: GroupedCounts,
    found: Mapping[Copy, Sequence[Direction]],
    seed: int = 0,
) -> None:
    """Start an untrained program's dimensions at directions that are known.

    Latents of all groups keep their further dimensions, to be learnt; others have none but these.

    Parameters
    ----------
    program, data, seed
        As for :func:`~pyro_mgvi.training.search.find_directions`.
    found
        Directions of each copy, the first for its first dimension.
    """
    active = program.model.active
    with program.at_rest():
        for copy in program.families.copies:
            if not copy.shared:
                active.of(copy).fill_(False)
            for dim, direction in enumerate(found.get(copy, ())):
                _plant(program, data, copy, dim, direction, SearchSettings(), seed)


def _plant_all(
    program: Program,
    data: GroupedCounts,
    found: Mapping[Copy, Sequence[Direction]],
    settings: SearchSettings,
    seed: int,
    known: Known = MappingProxyType({}),
) -> int:
    """Start idle dimensions at directions, and at known ones others, too; return how many."""
    information = dimension_divergence(program, data) if found else {}
    n_planted = 0
    for copy, directions in found.items():
        kl_d = information[copy.latent][copy.index].numpy()
        n_known = len(known.get(copy.groups, ()))
        for i, (dim, direction) in enumerate(zip(np.argsort(kl_d, kind="stable"), directions)):
            if kl_d[dim] > settings.idle and i >= n_known:
                break
            _plant(program, data, copy, int(dim), direction, settings, seed)
            n_planted += 1
    return n_planted


def _plant(
    program: Program,
    data: GroupedCounts,
    copy: Copy,
    dim: int,
    direction: Direction,
    settings: SearchSettings,
    seed: int,
) -> None:
    chosen = np.random.default_rng(seed).permutation(len(direction.cells))[: settings.start_cells]
    batch = data.rows(direction.cells[chosen]).to(program.device)
    x_ng = to_dense(program.guide.input(batch.counts, group=batch.group))
    score_n = direction.score_n[chosen].to(x_ng)
    start = DimensionStart(direction.loading_g, EncoderInput(x_ng, batch.covariates), score_n)
    program.model.active.open(copy, dim)
    for component in _starters(program):
        component.start_dimension(copy, dim, start)


def _among(direction: Direction, others: Sequence[Direction], settings: SearchSettings) -> bool:
    """Return whether a direction shares most of its genes with one of some others."""
    genes_g = direction.loading_g != 0
    shares = [(genes_g & (other.loading_g != 0)).sum() / genes_g.sum() for other in others]
    return any(share > settings.same_genes for share in shares)


def close_idle(
    program: Program, data: GroupedCounts, settings: SearchSettings, copies: Chosen = None
) -> None:
    """Close idle dimensions of some groups' copies, until a search finds what for.

    A dimension that starts at random and has found nothing fits noise of the few cells that own
    it. Groups of fewer than ``settings.least_cells`` cells keep none: what they would hold cannot
    be told from noise. With a decoder or an encoder that cannot start a dimension all stay open,
    and so do copies of groups that are large enough, but have no others to be compared with.
    """
    if not can_start(program):
        return
    families, divergence = program.families, dimension_divergence(program, data)
    sizes_b = np.bincount(data.group_n, minlength=len(families.groups))
    sizes_b = sizes_b * searched_groups(families.design, sizes_b, settings.least_cells)
    for latent in families.specific:
        if everyones(families, latent):
            continue  # no cell that could own it is foreign to it
        owners_sb = families.membership(latent.name).numpy()
        searched_s = np.array(
            [
                searchable(owner_b, data, families, settings, copies is not None)
                for owner_b in owners_sb
            ]
        )
        small_s = owners_sb @ sizes_b < settings.least_cells
        small_s &= bool(sizes_b.any()) and copies is None
        if copies is not None:
            searched_s &= copies[latent.name].cpu().numpy()
        idle_sd = divergence[latent.name] <= settings.idle
        closed_sd = idle_sd & torch.from_numpy(searched_s)[:, None]
        program.model.active.close({latent.name: closed_sd | torch.from_numpy(small_s)[:, None]})


def can_start(program: Program) -> bool:
    """Return whether both decoder and encoder can start a dimension at a direction."""
    return not cannot_start(program.model, program.guide)


def _starters(program: Program) -> list[StartsDimensions]:
    """Return decoder and encoder, or the one of them that can start a dimension."""
    parts = (program.model.decoder, program.guide.encoder)
    return [part for part in parts if isinstance(part, StartsDimensions)]
