"""The one abstraction, a latent as a family of subsets of groups, and the usual families."""

from pyro_mgvi.core.latents.families import (
    by_column,
    modality,
    pairwise,
    per,
    private,
    shared,
    subsets,
)
from pyro_mgvi.core.latents.latent import Latent, Subsets

__all__ = [
    "Latent",
    "Subsets",
    "by_column",
    "modality",
    "pairwise",
    "per",
    "private",
    "shared",
    "subsets",
]
