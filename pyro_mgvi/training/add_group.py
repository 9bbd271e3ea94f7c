"""A trained model learns one more group, and nothing it knew about the others changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import ArrayLike
from torch import Tensor, nn

from pyro_mgvi.core.interfaces import DataKind, HasGroupEntries, HasGroupOffsets
from pyro_mgvi.core.latents import Latent
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.masks import absent_of_new
from pyro_mgvi.data.matching import new_group
from pyro_mgvi.data.moments import PSEUDOCOUNT
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.model.decoding import Decoding
from pyro_mgvi.training.larger.grown import grown
from pyro_mgvi.training.plan import TrainingPlan
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.refit import train

AnyProgram = TypeVar("AnyProgram", bound=Program)
Entries = dict[str, Tensor]


def add_group(
    program: AnyProgram,
    adata: AnnData,
    plan: TrainingPlan,
    accelerator: str = "auto",
    progress: bool = True,
    layer: str | None = None,
    use_raw: bool | None = None,
    feature_mask: str | ArrayLike | None = None,
) -> tuple[AnyProgram, pd.DataFrame]:
    """Return a new model with one more group, learnt from the cells of that group alone.

    Latents that all groups own are the new group's, too; a family of one copy per group
    gets one more copy; other latents stay as they are. All weights of this model are
    copied and frozen. Trained are only the new copy's encoder and the decoder's input
    columns for it, and the new group's row of the offset and of the response to z.

    What the model says about a cell of the other groups stays the same: their latents bit
    for bit, their expression up to the last bits of a sum that has more (zero) terms. Two
    things are new: expression from shared latents only, because it averages the groups'
    offsets, the new one's included; and the new copy of a cell that does not own it
    (``foreign="encode"``), for no other group's cell was there to pull it to zero.

    Parameters
    ----------
    program
        A trained model; it stays as it is.
    adata
        Annotated data, (n, genes): cells of one group that this model does not know, with
        the model's genes (any order), and its batches and covariates if it has any.
    plan, accelerator, progress
        As for :meth:`MGVI.fit <pyro_mgvi.MGVI.fit>`. A further fit of the
        result trains all its weights.
    layer, use_raw
        Where the new cells' counts are, if not where the model's were; as for
        :meth:`Program.read <pyro_mgvi.training.program.Program.read>`.
    feature_mask
        Which genes of ``adata`` the new group has (a column of ``var``, or one value per gene);
        the model's others are absent.

    Returns
    -------
    The new model, and the history of the new group's training.

    Raises
    ------
    DataError
        If there is no new group or more than one, cells of known groups beside it, or
        the genes are others.
    SettingsError
        If several columns make up the groups, if the model is of several modalities, if encoder or
        decoder does not tell which weights belong to a group
        (:class:`~pyro_mgvi.core.HasGroupEntries`), if nothing in the model belongs to a single
        group, or if a training setting is out of range.
    TrainingError
        If a loss is not finite.

    Notes
    -----
    After Lotfollahi et al. (2022), "Mapping single-cell data to reference atlases by
    transfer learning" (scArches), where the new weights are those of new batches.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets import clear_recipe
    >>> adata = clear_recipe(n_cells=120, n_shared_genes=60, n_program_genes=20, groups=3)
    >>> new = (adata.obs["group"] == "group3").to_numpy()
    >>> mgvi = MGVI.from_anndata(adata[~new], group_key="group")
    >>> _ = mgvi.fit(adata[~new], max_epochs=2, progress=False)
    >>> larger = mgvi.add_group(adata[new], max_epochs=2, progress=False)
    >>> sorted(larger.latents(adata))
    ['t_group1', 't_group2', 't_group3', 'z']
    """
    if isinstance(program.schema.group_key, tuple):
        columns = " and ".join(map(str, program.schema.group_key))
        raise SettingsError(
            f"add_group does not support groups of several columns ({columns}), whose levels share "
            "latents and offsets with groups that are there: train a new model on all cells"
        )
    if (several := program.schema.several) is not None:
        raise SettingsError(
            f"add_group does not support several modalities ({' and '.join(several.names)}): train "
            "a new model on all groups, or one of a single modality, as in "
            f"MGVI.from_anndata(mdata[{several.names[0]!r}], ...)"
        )
    _telling(program)
    old = program.schema
    group = new_group(adata, old)
    source = old.source.elsewhere(layer, use_raw)
    schema = replace(old, groups=(*old.groups, group))
    if feature_mask is not None:
        where = adata, source.resolved(adata), schema
        absent = absent_of_new(*where, group, feature_mask, program.model.reference_g)
        schema = replace(schema, absent=absent)
    data = GroupedCounts.for_schema(adata, schema, program.data_kind, source, missing_genes=0)
    latents = [extended(latent, old.groups, group) for latent in program.families]
    larger = grown(program, schema, latents)
    copies = {  # which copies are new
        latent.name: torch.arange(latent.n_copies) >= program.families[latent.name].n_copies
        for latent in larger.families
    }
    new = new_entries(larger, copies)
    if not any(entries.any() for entries in new.values()):
        raise SettingsError(
            f"nothing to train for group {group!r}: the latents have no copy per group, and the "
            "decoder no offset or response of a group; train a new model on all groups"
        )
    copy_weights(program, larger, new)
    start_group(larger, data)
    with only(larger, new):
        history = train(larger, data, plan, accelerator, progress, copies)
    return larger, history


def extended(latent: Latent, groups: Sequence[str], new: str) -> Latent:
    """Return a latent with one more group.

    Subsets of all groups get the new one; a family of one copy per group gets one more copy.

    Examples
    --------
    >>> from pyro_mgvi import private, shared
    >>> for latent in (shared(3), private(2)):
    ...     extended(latent.over(("a", "b")), ("a", "b"), "c").subsets
    (('a', 'b', 'c'),)
    (('a',), ('b',), ('c',))
    """
    bound = latent.over(groups)
    subsets = tuple((*s, new) if set(s) == set(groups) else s for s in bound.owners)
    names = latent.copy_names
    if sorted(bound.owners) == sorted((group,) for group in groups):
        subsets = (*subsets, (new,))
        names = None if names is None else (*names, new)
    return replace(latent, subsets=subsets, copy_names=names)


def _telling(program: Program) -> dict[str, HasGroupEntries]:
    """Return encoder and decoder, by their place; refuse any that knows nothing of groups."""
    found: dict[str, HasGroupEntries] = {}
    places = {"guide.encoder": program.guide.encoder, "model.decoder": program.model.decoder}
    for place, part in places.items():
        if not isinstance(part, HasGroupEntries):
            raise SettingsError(
                f"add_group does not support {type(part).__name__}, which does not tell which of "
                "its weights belong to a group (pyro_mgvi.core.HasGroupEntries): train with "
                "SeparateEncoders and JointDecoder, or train a new model on all groups"
            )
        found[place] = part
    return found


def _parts(program: Program) -> dict[str, nn.Module]:
    return {"model": program.model, "guide": program.guide}


def new_entries(program: Program, copies: Mapping[str, Tensor]) -> Entries:
    """Return which entries of the weights are the last group's, by name and broadcastable.

    ``copies`` says for each latent which of its copies are; weights not named have none.
    """
    groups = torch.arange(len(program.schema.groups)) == len(program.schema.groups) - 1
    entries = {
        f"{part}.active.dims_{name}": c[:, None]
        for name, c in copies.items()
        for part in _parts(program)
    }
    for path, component in _telling(program).items():
        own = component.group_entries(copies, groups)
        entries |= {f"{path}.{name}": each for name, each in own.items()}
    return entries


@torch.no_grad()
def copy_weights(old: Program, larger: Program, new: Entries) -> None:
    """Copy all weights; rows and columns were only inserted, so the others keep their order."""
    sources, targets = _parts(old), _parts(larger)
    n_groups = len(larger.families.groups)
    for part in sources:
        source = sources[part].state_dict()
        for name, target in targets[part].state_dict().items():
            if f"{part}.{name}" == "guide.depth" and len(old.families.groups) < n_groups:
                target.copy_(old.guide.depths_with(larger.guide.measured_bg))
                continue
            if name == "reference_g" and name not in source:  # all genes made up a library so far
                target.fill_(True)
                continue
            entries = new.get(f"{part}.{name}", torch.tensor(False)).expand(target.shape)
            if (~entries).sum() != source[name].numel():
                raise SettingsError(
                    f"add_group does not know what {part}.{name} of your own component holds for "
                    "each group: train a new model on all groups"
                )
            target[~entries] = source[name].flatten()  # a state shares memory with its module


@torch.no_grad()
def start_group(program: Program, data: GroupedCounts) -> None:
    """Start the last group as the mean of the others, with its offset by moments.

    The offset makes up for what the shared latents leave of the group's totals.
    """
    model, decoder = program.model, program.model.decoder
    entries_of = _telling(program)["model.decoder"].group_entries
    n_groups = len(program.schema.groups)
    no_copy = {x.name: torch.zeros(x.n_copies, dtype=torch.bool) for x in program.families}
    rows = torch.arange(n_groups)
    of_others = [entries_of(no_copy, rows == g) for g in range(n_groups - 1)]
    for name, last in entries_of(no_copy, rows == n_groups - 1).items():
        weight = decoder.get_parameter(name)
        if last.any():
            others = [weight[each[name].flatten()] for each in of_others]
            weight[last.flatten()] = torch.stack(others).mean(0)
    if not isinstance(decoder, HasGroupOffsets) or (offset := decoder.group_offsets()) is None:
        return
    shared = Decoding.keeping(program.families, [x.name for x in program.families.shared])
    seen_g, expected_g = np.zeros(data.shape[1]), np.zeros(data.shape[1])
    for cells, posterior in program.posteriors(data):
        parts = shared.parts(posterior, posterior.means())
        expected = model.expression(parts, posterior.batch.group).cpu().double().numpy()
        x = data.counts(cells)
        if program.data_kind is DataKind.COUNTS:
            expected = expected * np.asarray(x.sum(1), float).reshape(-1, 1)
        seen_g += np.asarray(x.sum(0), float).ravel()
        expected_g += expected.sum(0)
    if program.data_kind is DataKind.COUNTS:
        shift_g = np.log((seen_g + PSEUDOCOUNT) / (expected_g + PSEUDOCOUNT))
    else:
        shift_g = (seen_g - expected_g) / len(data)
    changed = offset.detach().clone()
    if model.measured_bg is not None:  # the mean of the groups that have a gene
        has_bg = model.measured_bg[:-1].to(offset)
        changed[-1] = (has_bg * changed[:-1]).sum(0) / has_bg.sum(0).clamp(min=1)
        shift_g = shift_g * model.measured_bg[-1].cpu().numpy()
    changed[-1] += torch.from_numpy(shift_g).to(offset)
    decoder.set_group_offsets(changed)


@contextmanager
def only(program: Program, new: Entries) -> Iterator[None]:
    """Train nothing but these entries.

    The others' gradient is exactly zero, and Adam without weight decay then moves them by
    exactly zero. Parameters without such an entry get no gradient at all.
    """
    hooks, frozen = [], []
    for part, module in _parts(program).items():
        for name, parameter in module.named_parameters():
            entries = new.get(f"{part}.{name}")
            if entries is None or not entries.any():
                frozen.append(parameter.requires_grad_(False))
            else:
                hooks.append(parameter.register_hook(partial(_masked, entries)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for weight in frozen:
            weight.requires_grad_(True)


def _masked(entries: Tensor, gradient: Tensor) -> Tensor:
    return gradient.where(entries.to(gradient.device), 0.0)
