"""The mathematics: which groups own a latent, its priors, their divergences and the objective."""

from pyro_mgvi.core.copies import Copy, Latents
from pyro_mgvi.core.design import Design
from pyro_mgvi.core.divergence import divergence
from pyro_mgvi.core.elbo import WassersteinTraceELBO
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import (
    DataKind,
    Decoder,
    DecoderInput,
    DimensionStart,
    Encoder,
    EncoderInput,
    HandlesAbsent,
    HasGeneLogProb,
    HasGroupEntries,
    HasGroupOffsets,
    HasLoadings,
    HasPrograms,
    Likelihood,
    StartsDimensions,
)
from pyro_mgvi.core.latents import Latent, modality, pairwise, per, private, shared, subsets
from pyro_mgvi.core.modalities import Modalities
from pyro_mgvi.core.priors import Absent, Dirac, SameAsOwn, owners_prior, proper_priors

__all__ = [
    "Absent",
    "Copy",
    "DataKind",
    "Decoder",
    "DecoderInput",
    "Design",
    "DimensionStart",
    "Dirac",
    "Encoder",
    "EncoderInput",
    "HandlesAbsent",
    "HasGeneLogProb",
    "HasGroupEntries",
    "HasGroupOffsets",
    "HasLoadings",
    "HasPrograms",
    "InitialValues",
    "Latent",
    "Latents",
    "Likelihood",
    "Modalities",
    "SameAsOwn",
    "StartsDimensions",
    "WassersteinTraceELBO",
    "divergence",
    "modality",
    "owners_prior",
    "pairwise",
    "per",
    "private",
    "proper_priors",
    "shared",
    "subsets",
]
