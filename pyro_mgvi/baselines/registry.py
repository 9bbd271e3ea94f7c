"""The methods of the paper's benchmark by name, each a configuration and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pyro_mgvi.baselines.methods import (
    Decomposed,
    Deep,
    Linear,
    Method,
    ScviTools,
    Separate,
    TwoStage,
)
from pyro_mgvi.baselines.nonnegative import GMDF, INMF, SeparateNMF
from pyro_mgvi.core.latents import Latent, Subsets, private, shared
from pyro_mgvi.core.priors import Absent, Dirac, ForeignPrior, SameAsOwn
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.networks.additive_decoder import AdditiveDecoder
from pyro_mgvi.presets import PAPER
from pyro_mgvi.training import TrainingPlan

CPVAE = {**PAPER.settings, "decoder": AdditiveDecoder}
# The paper's training, with as many epochs, and steps as large, as our defaults.
PLAN = replace(PAPER.plan, max_epochs=None, learning_rate=TrainingPlan().learning_rate)


def every_but_the_first(groups: Sequence[str]) -> Subsets:
    """Return one subset: the groups whose variation contrastiveVI calls salient."""
    return (tuple(groups[1:]),)


def _groups_latents(foreign: ForeignPrior) -> dict[str, tuple[Latent, ...]]:
    return {"latents": (shared(10), private(10, foreign=foreign))}


SCVI = Deep({**PAPER.settings, "latents": (shared(10),)}, PLAN)

METHODS: dict[str, Method] = {
    "MGVI (defaults)": Deep(),
    "MGVI": Deep({**PAPER.settings, **_groups_latents(Dirac())}, PLAN),
    "MGVI Davison": Deep({**PAPER.settings, **_groups_latents(SameAsOwn())}, PLAN),
    "MGVI no reg.": Deep({**PAPER.settings, **_groups_latents(Absent())}, PLAN),
    "CPVAE Wass.": Deep({**CPVAE, **_groups_latents(Dirac())}, PLAN),
    "CPVAE Davison": Deep({**CPVAE, **_groups_latents(SameAsOwn())}, PLAN),
    "CPVAE no reg.": Deep({**CPVAE, **_groups_latents(Absent())}, PLAN),
    # Davison et al.'s own objective has no divergence of the copies that a cell owns.
    "CPVAE original": Deep(
        {**CPVAE, **_groups_latents(SameAsOwn()), "own_weight": {"z": 1.0, "t": 0.0}}, PLAN
    ),
    "MGFA": Linear(),
    "GMDF": Decomposed(),
    "GMDF 10+10": Decomposed(GMDF(10, 10)),
    # LIGER's own choice of genes, and as many programs as the others have dimensions.
    "iNMF": Decomposed(INMF(10, 10), excess=0.1, combine=np.logical_or),
    "Separate NMF": Separate(),
    # Chosen on simulated cells, where few genes carry all programs: not as published.
    "Separate NMF, top 10": Separate(SeparateNMF(n_top=10)),
    "scVI": SCVI,
    "scVI + MGFA": TwoStage(SCVI),
    "scVI + MGFA 5+5": TwoStage(SCVI, {"n_shared": 5, "n_private": 5}),
    "contrastiveVI": Deep(
        {**PAPER.settings, "latents": (shared(10), Latent("t", every_but_the_first, 10))}, PLAN
    ),
}
# Not in the paper's figures: its own schedule (hours), and a check of our scVI.
MORE: dict[str, Method] = {
    "MGVI 500 epochs": Deep({**PAPER.settings, **_groups_latents(Dirac())}, PAPER.plan),
    "scVI (scvi-tools)": ScviTools(),
}


def method(name: str) -> Method:
    """Return a method by its name.

    Raises
    ------
    SettingsError
        If there is none of this name; the message lists them all.

    Examples
    --------
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> from pyro_mgvi import GroupedCounts
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> latents = method("MGFA").fit(GroupedCounts.from_anndata(adata, "group"), seed=0)
    >>> latents["z"].shape, sorted(latents["t"])
    ((120, 10), ['group1', 'group2'])
    """
    known = METHODS | MORE
    if name not in known:
        raise SettingsError(f"unknown method {name!r}; known: {', '.join(known)}")
    return known[name]
