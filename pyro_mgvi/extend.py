"""A trained model learns one more group, and nothing it knew about the others changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pyro_mgvi import checks
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.decoders import JointDecoder
from pyro_mgvi.encoders import SeparateEncoders
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.latents import Latent
from pyro_mgvi.start import PSEUDOCOUNT, Start

EVALUATION_SIZE = 1024


def add_group(mgvi, adata, accelerator: str = "cpu", progress: bool = True, **plan):
    """Return a model that knows one more group; see :meth:`pyro_mgvi.MGVI.add_group`."""
    _refuse_unsupported(mgvi)
    group = new_group(adata, mgvi.schema)
    schema = replace(mgvi.schema, groups=(*mgvi.schema.groups, group))
    data = GroupedCounts.for_model(adata, schema, mgvi.guide.counts_only)
    latents = [extended(latent, mgvi.schema.groups, group) for latent in mgvi.model.latents]
    larger = type(mgvi)(
        schema,
        Start.blank(
            len(schema.genes), len(schema.groups), len(schema.batches), schema.n_covariates
        ),
        latents,
        observed_library=mgvi.model.observed_library,
        own_weight=mgvi.own_weight,
        seed=mgvi.seed,
        **mgvi.components,
    )
    larger.given_weight = dict(mgvi.given_weight)
    copies = {  # which copies are new
        latent.name: torch.arange(latent.n_subsets) >= old.n_subsets
        for latent, old in zip(larger.model.latents, mgvi.model.latents)
    }
    new = new_entries(larger, copies)
    if not any(entries.any() for entries in new.values()):
        raise SettingsError(
            f"nothing to train for group {group!r}: the latents have no copy per group, and the "
            "decoder no offset or response of a group; train a new model on all groups"
        )
    copy_weights(mgvi, larger, new)
    start_group(larger, data)
    with only(larger, new):
        larger._train(data, accelerator, None, progress, plan, copies)
    return larger


def new_group(adata, schema) -> str:
    """Return the one group of ``adata``, which the model does not know.

    Raises
    ------
    DataError
        If there is no new group, more than one, or cells of known groups beside it.
    """
    key = schema.group_key
    checks.keys(adata, key, schema.batch_key, schema.covariate_keys)
    sizes = checks.labels(adata, key).value_counts()
    new = sorted(level for level in sizes.index if level not in schema.groups)
    known = sorted(set(sizes.index) - set(new))
    if not new:
        raise DataError(
            f"obs[{key!r}] has no new group: the model knows {checks.some(known, 20)}; "
            "pass the cells of one group that it does not know"
        )
    if len(new) > 1:
        raise DataError(
            f"obs[{key!r}] has {len(new)} new groups: {checks.some(new, 20)}; add them one by one"
        )
    if known:
        raise DataError(
            f"obs[{key!r}] has cells of known group(s) beside the new one: "
            f"{checks.some(known, 20)}; pass adata[adata.obs[{key!r}] == {new[0]!r}]"
        )
    if sizes[new[0]] < 2:
        raise DataError(f"the new group {new[0]!r} in obs[{key!r}] has 1 cell: it needs 2 or more")
    return new[0]


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
    subsets = tuple((*s, new) if set(s) == set(groups) else s for s in latent.subsets)
    if sorted(latent.subsets) == sorted((group,) for group in groups):
        subsets = (*subsets, (new,))
    return replace(latent, subsets=subsets)


def _refuse_unsupported(mgvi) -> None:
    parts = (mgvi.guide.encoder, SeparateEncoders), (mgvi.model.decoder, JointDecoder)
    for part, supported in parts:
        if not isinstance(part, supported):
            raise SettingsError(
                f"add_group does not support {type(part).__name__}: train with "
                f"{supported.__name__}, or train a new model on all groups"
            )


def new_entries(mgvi, copies: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return which entries of the weights are the last group's, by name and broadcastable.

    ``copies`` says for each latent which of its copies are; weights not named have none.
    """
    decoder = mgvi.model.decoder
    network = torch.cat([*copies.values(), torch.tensor([False])])  # the library's is the last
    names = ("first.weight", "first.bias", "gain", "shift")
    entries = {f"guide.encoder.{name}": network[:, None, None] for name in names}
    for name, copy in copies.items():
        entries[f"guide.encoder.heads.{name}.weight"] = copy[:, None, None]
        entries[f"guide.encoder.heads.{name}.bias"] = copy[:, None, None]
        entries[f"guide.in_use_{name}"] = entries[f"model.in_use_{name}"] = copy[:, None]
    dims = [copies[latent.name].repeat_interleave(latent.dim) for latent in mgvi.model.latents]
    column = torch.cat([*dims, torch.zeros(mgvi.schema.n_covariates, dtype=torch.bool)])
    heads = [f"heads.{i}" for i in range(len(decoder.heads))]
    for reader in heads if decoder.trunk is None else ["trunk"]:
        entries[f"model.decoder.{reader}.weight"] = column
    if decoder.linear is not None:
        entries["model.decoder.linear"] = column[:, None]
    n_groups = len(mgvi.schema.groups)
    group = torch.arange(n_groups) == n_groups - 1
    if decoder.offset is not None:
        entries["model.decoder.offset"] = group[:, None]
    if decoder.response is not None:  # a block of rows for each group
        n_shared = len(decoder.response) // n_groups
        entries["model.decoder.response"] = group.repeat_interleave(n_shared)[:, None]
    return entries


def copy_weights(old, larger, new: dict[str, Tensor]) -> None:
    """Copy all weights; rows and columns were only inserted, so the others keep their order."""
    for part in ("model", "guide"):
        source = getattr(old, part).state_dict()
        for name, target in getattr(larger, part).state_dict().items():
            entries = new.get(f"{part}.{name}", torch.tensor(False)).expand(target.shape)
            if (~entries).sum() != source[name].numel():
                raise SettingsError(
                    f"add_group does not know what {part}.{name} of your own component holds for "
                    "each group: train a new model on all groups"
                )
            target[~entries] = source[name].flatten()  # a state shares memory with its module


@torch.no_grad()
def start_group(mgvi, data: GroupedCounts) -> None:
    """Start the last group as the mean of the others, with its offset by moments.

    The offset makes up for what the shared latents leave of the group's totals.
    """
    decoder = mgvi.model.decoder
    if decoder.response is not None:
        rows = decoder.response.unflatten(0, (len(mgvi.schema.groups), -1))
        rows[-1] = rows[:-1].mean(0)
    if decoder.offset is None:
        return
    decoder.offset[-1] = decoder.offset[:-1].mean(0)
    names = [latent.name for latent in mgvi.model.latents if latent.covers(mgvi.schema.groups)]
    seen_g, expected_g = np.zeros(len(mgvi.schema.genes)), np.zeros(len(mgvi.schema.genes))
    for start in range(0, len(data), EVALUATION_SIZE):
        block = data.subset(np.arange(start, min(start + EVALUATION_SIZE, len(data))))
        expected = mgvi.normalized_expression(block, latents=names).to_numpy(float)
        if mgvi.guide.counts_only:
            expected = expected * np.asarray(block.x.sum(1), float).reshape(-1, 1)
        seen_g += np.asarray(block.x.sum(0), float).ravel()
        expected_g += expected.sum(0)
    if mgvi.guide.counts_only:
        shift_g = np.log((seen_g + PSEUDOCOUNT) / (expected_g + PSEUDOCOUNT))
    else:
        shift_g = (seen_g - expected_g) / len(data)
    decoder.offset[-1] += torch.as_tensor(shift_g, dtype=decoder.offset.dtype)


@contextmanager
def only(mgvi, new: dict[str, Tensor]) -> Iterator[None]:
    """Train nothing but these entries.

    The others' gradient is exactly zero, and Adam without weight decay then moves them by
    exactly zero. Parameters without such an entry get no gradient at all.
    """
    hooks, frozen = [], []
    for part in ("model", "guide"):
        for name, parameter in getattr(mgvi, part).named_parameters():
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
        for parameter in frozen:
            parameter.requires_grad_(True)


def _masked(entries: Tensor, gradient: Tensor) -> Tensor:
    return gradient.where(entries.to(gradient.device), 0.0)
