"""A trained model learns the effects of further samples, and nothing that it knew changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from anndata import AnnData

from pyro_mgvi.core.sample_effects import EffectPosterior
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.checks import some
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.training.add_group import Entries, copy_weights, only
from pyro_mgvi.training.larger.grown import grown
from pyro_mgvi.training.plan import TrainingPlan, chosen_plan
from pyro_mgvi.training.program import Program, check_model
from pyro_mgvi.training.refit import train

AnyProgram = TypeVar("AnyProgram", bound=Program)
LATER = -1  # block of a sample that is compared with no other


def add_samples(
    mgvi: AnyProgram,
    adata: AnnData | GroupedCounts,
    plan: TrainingPlan | None = None,
    *,
    max_epochs: int | None = None,
    accelerator: str = "auto",
    progress: bool = True,
) -> AnyProgram:
    """Return a new model that knows the effects of further samples, learnt from their cells.

    Without it, a sample that a model has not seen is taken to be an average one: its effects are
    zero. All other weights are copied and frozen, so that nothing changes for other samples, and
    latents stay as they are for all. The scale of the effects stays, too: few cells say little, and
    their sample's effects remain near zero.

    Parameters
    ----------
    mgvi
        A trained model with sample effects; it stays as it is.
    adata
        Cells of the model's groups, with samples that it does not know; cells of others are left
        out.
    plan, max_epochs, accelerator, progress
        As for :meth:`MGVI.fit <pyro_mgvi.MGVI.fit>`; by default as the model was trained.

    Raises
    ------
    SettingsError
        If samples have no effects in the model.
    DataError
        If there is no new sample, or the data do not fit the model.
    TrainingError
        If a loss is not finite.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=160, n_shared_genes=60, n_program_genes=20)
    >>> adata.obs["donor"] = [f"d{i % 8}" for i in range(160)]
    >>> new = (adata.obs["donor"] == "d7").to_numpy()
    >>> keys = {"group_key": "group", "sample_key": "donor"}
    >>> mgvi = MGVI.from_anndata(adata[~new], **keys)
    >>> _ = mgvi.fit(adata[~new], max_epochs=2, progress=False)
    >>> larger = mgvi.add_samples(adata[new], max_epochs=2, progress=False)
    >>> mgvi.sample_effects().shape, larger.sample_effects().shape
    ((7, 80), (8, 80))
    """
    check_model(mgvi)
    effects_of_samples(mgvi)
    old = mgvi.schema
    used, data = chosen_plan(plan, max_epochs, mgvi.plan), mgvi.read(adata, missing_genes=0)
    new = sorted(set(data.sample_n.tolist()) - set(old.samples))
    if not new:
        raise DataError(
            f"obs[{old.sample_key!r}] has no new sample: the model knows {some(old.samples, 20)}"
        )
    schema = replace(old, samples=(*old.samples, *new))
    data = data.matching(schema).subset(np.flatnonzero(np.isin(data.sample_n, new)))
    larger = grown(mgvi, schema, mgvi.families)
    entries = _entries_of(larger, schema.samples, new)
    copy_weights(mgvi, larger, entries)
    posterior = effects_of_samples(larger)
    codes = torch.from_numpy(np.isin(schema.samples, new))
    posterior.block_s[codes.to(larger.device)] = LATER
    member_sb = schema.sample_groups(data.sample_code_n, data.group_n)
    if posterior.known_sg is not None and member_sb is not None:
        known_sg = member_sb.float() @ torch.from_numpy(schema.measured_bg).float() > 0
        posterior.known_sg[codes.to(larger.device)] = known_sg[codes].to(larger.device)
    no_copy = {x.name: torch.zeros(x.n_copies, dtype=torch.bool) for x in mgvi.families}
    with only(larger, entries):
        larger.history = train(larger, data, used, accelerator, progress, no_copy)
    larger.plan = used
    return larger


def effects_of_samples(program: Program) -> EffectPosterior:
    """Return the guide's effects of samples, or say that there are none."""
    posterior = program.guide.samples
    if posterior is None:
        raise SettingsError(
            "samples have no effects in this model: build one with sample_key, as in "
            'sample_key="donor"'
        )
    return posterior


def _entries_of(program: Program, samples: Sequence[str], new: Sequence[str]) -> Entries:
    """Return which entries of the weights are of some samples, by name and broadcastable."""
    of_new = torch.from_numpy(np.isin(samples, new))
    names = [name for name, _ in program.guide.named_parameters() if name.startswith("samples.")]
    entries = {f"guide.{name}": of_new.unsqueeze(1) for name in names}
    return entries | {"guide.samples.block_s": of_new, "guide.samples.known_sg": of_new[:, None]}
