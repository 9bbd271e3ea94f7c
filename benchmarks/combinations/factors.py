"""The factors of a model, its data and its training, and the levels of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro.distributions as dist

import pyro_mgvi
from benchmarks.combinations import outside
from benchmarks.combinations.pairs import Configuration, Pair, covering
from pyro_mgvi import (
    Absent,
    DataKind,
    Dirac,
    Latent,
    SameAsOwn,
    SearchSettings,
    TrainingPlan,
    pairwise,
    private,
    shared,
    subsets,
)

FIRST, SECOND, THIRD = "B cell", "CD4/T", "NK"  # a slash and a blank are legal in names

LIKELIHOODS = {
    "ZINB": pyro_mgvi.ZINB,
    "NB": pyro_mgvi.NB,
    "Poisson": pyro_mgvi.Poisson,
    "Gaussian": pyro_mgvi.Gaussian,
    "outside: Poisson-lognormal": outside.PoissonLogNormal,
}
DECODERS = {
    "JointDecoder": partial(pyro_mgvi.JointDecoder, hidden=12),
    "LogLinearDecoder": pyro_mgvi.LogLinearDecoder,
    "AdditiveDecoder": partial(pyro_mgvi.AdditiveDecoder, hidden=12),
    "BasisDecoder": partial(pyro_mgvi.BasisDecoder, hidden=12, n_programs=5),
    "outside: deep": partial(outside.Deep, hidden=12),
    "outside: from scratch": outside.Plain,
}
ENCODERS = {
    "SeparateEncoders": partial(pyro_mgvi.SeparateEncoders, hidden=8),
    "SharedTrunk": partial(pyro_mgvi.SharedTrunk, hidden=12),
    "outside: residual": outside.Residual,
}
Families = Callable[[Any, Any], tuple[Latent, ...]]
LATENTS: dict[str, Families] = {  # of the foreign cells' prior, and of the owners'
    "z, t": lambda foreign, own: (shared(3, prior=own), private(2, "t", foreign, own)),
    "z": lambda foreign, own: (Latent("z", lambda groups: (groups,), 3, foreign, own),),
    "t": lambda foreign, own: (private(2, "t", foreign, own),),
    "z, t, pairs": lambda foreign, own: (
        shared(2, prior=own),
        private(2, "t", foreign, own),
        pairwise(2, "pair", foreign, own),
    ),
    "z, named subsets": lambda foreign, own: (
        shared(2, prior=own),
        subsets("part", {"one": [FIRST, THIRD], "other": [SECOND]}, 2, foreign, own),
    ),
    "z, t, one group": lambda foreign, own: (
        shared(2, prior=own),
        private(2, "t", foreign, own),
        subsets("only", [[SECOND]], 2, foreign, own),
    ),
}
FOREIGN = {
    "Dirac": Dirac(),
    "same as own": SameAsOwn(),
    "absent": Absent(),
    "no foreign cells": Dirac(),
}
OWN = {"normal": None, "Laplace": dist.Laplace(0.0, 1.0), "Student's t": dist.StudentT(4.0, 0, 1)}
SAMPLES = {"all": None, "4": 4}
LIBRARIES = {"latent": False, "observed": True}
PLANS = {
    "plain": TrainingPlan(
        max_epochs=2, batch_size=48, search=None, prune_below=0.0, validation_fraction=0.0
    ),
    "search": TrainingPlan(
        max_epochs=2,
        batch_size=48,
        prune_below=0.02,
        search=SearchSettings(epoch=1, idle=0.1, least_cells=10, clusters=2),
        stratified=True,
    ),
    "nothing found": TrainingPlan(max_epochs=1, batch_size=48, prune_below=1e3),
}
#: Genes that each group has not got, where genes are those of some; columns of ``var`` say so.
ABSENT = {FIRST: range(28, 32), SECOND: range(0), THIRD: (2, 9), "new": range(4, 7)}
MASKS = {group: f"in_{code}" for code, group in enumerate(ABSENT)}
MASKED = {group: MASKS[group] for group in (FIRST, SECOND, THIRD)}
LABELS: dict[str, dict[str, Any]] = {
    "groups": {},
    "batch": {"batch_key": "donor"},
    "samples": {"sample_key": "animal"},
    "batch, covariates": {"batch_key": "donor", "covariate_keys": ["age", "sex"]},
}

FACTORS: dict[str, dict[str, Any]] = {
    "likelihood": LIKELIHOODS,
    "decoder": DECODERS,
    "encoder": ENCODERS,
    "latents": LATENTS,
    "foreign prior": FOREIGN,
    "own prior": OWN,
    "foreign cells": SAMPLES,
    "library": LIBRARIES,
    "training": PLANS,
    "labels": LABELS,
    "matrix": {"dense": None, "CSR": None, "backed": None},
    "place": {"X": {}, "layer": {"layer": "counts"}, "raw": {"use_raw": True}},
    "counts": {"mostly zero": 0.12, "mostly not": 8.0},  # means of a gene
    "empty cells": {"none": {}, "left out": {"drop_empty": True}},
    "genes": {"of all groups": {}, "of some": {"feature_masks": MASKED}},
}


def pair(**levels: str) -> Pair:
    """Return a pair of levels; a blank in the name of a factor is written ``_``."""
    return frozenset((factor.replace("_", " "), level) for factor, level in levels.items())


#: Pairs of which there is no model, and what the error says.
NO_MODEL = {
    pair(latents="z", foreign_prior="same as own"): "no cell is foreign to it",
    pair(latents="z", foreign_prior="absent"): "no cell is foreign to it",
    pair(latents="t", decoder="AdditiveDecoder"): "needs a latent that all groups own",
    pair(
        genes="of some", likelihood="outside: Poisson-lognormal"
    ): "does not handle genes that a group has not got",
}


#: Pairs that say the same as others.
NOT_MEANT = {pair(latents="z", foreign_prior="Dirac")} | {
    pair(latents=name, foreign_prior="no foreign cells") for name in LATENTS if name != "z"
}


def configurations() -> list[Configuration]:
    """Return configurations that hold every other pair."""
    return covering(
        {name: list(levels) for name, levels in FACTORS.items()}, {*NO_MODEL, *NOT_MEANT}
    )


def settings(chosen: Configuration) -> dict[str, Any]:
    """Return the arguments of ``MGVI.from_anndata`` for a configuration."""
    level = {factor: FACTORS[factor][name] for factor, name in chosen.items()}
    return {
        "group_key": "region",
        **level["labels"],
        **level["place"],
        **level["empty cells"],
        **level["genes"],
        "latents": level["latents"](level["foreign prior"], level["own prior"]),
        "encoder": level["encoder"],
        "decoder": level["decoder"],
        "likelihood": level["likelihood"],
        "observed_library": level["library"],
        "foreign_sample": level["foreign cells"],
    }


def of_counts(chosen: Configuration) -> bool:
    """Return whether the likelihood is one of counts."""
    return LIKELIHOODS[chosen["likelihood"]].data_kind is DataKind.COUNTS
