"""The two sides of equation 12: what the decoder says with all latents, and without some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_mgvi.errors import SettingsError

OFFSETS = ("averaged", "own")


@dataclass(frozen=True)
class Contrast:
    """What the second term of the Bayes factor leaves out.

    Attributes
    ----------
    left_out
        Names of the latents that are zero in it.
    averaged
        Average the groups' offsets in it, instead of keeping the cell's own.
    """

    left_out: tuple[str, ...]
    averaged: bool

    @classmethod
    def of(cls, model, latents: Sequence[str] | None, offset: str | None) -> Contrast:
        """Check names and fill in the defaults; see :func:`~pyro_mgvi.genes.rank_genes`."""
        specific = [x.name for x in model.latents if not x.covers(model.groups)]
        if latents is None:
            chosen = specific
        else:
            chosen = [latents] if isinstance(latents, str) else list(latents)
            unknown = sorted(set(chosen) - set(specific))
            if unknown or not chosen:
                raise SettingsError(
                    f"latents {unknown or chosen} cannot be left out: name group-specific "
                    f"latents of the model, {specific}"
                )
        if offset is None:  # some latents only: the mean shift belongs to none of them
            offset = "averaged" if set(chosen) == set(specific) else "own"
        if offset not in OFFSETS:
            raise SettingsError(f"offset must be one of {OFFSETS}, not {offset!r}")
        return cls(tuple(chosen), offset == "averaged")

    def decode(self, model, posteriors: dict, batch) -> tuple[list, list]:
        """Return the decoder's parts with all latents, and without those left out.

        Latents are at their posterior means, and foreign copies at zero on both sides.
        """
        values = {x.name: posteriors[x.name][0] for x in model.latents}
        without = {k: v * (0.0 if k in self.left_out else 1.0) for k, v in values.items()}
        n_groups = len(model.groups)
        weights_ng = None
        if self.averaged:
            weights_ng = torch.full((len(batch.group), n_groups), 1.0 / n_groups)
        return (
            model.decode(values, batch.group, batch.covariates),
            model.decode(without, batch.group, batch.covariates, weights_ng),
        )


def log_library(model, posteriors: dict, counts_ng: Tensor) -> Tensor:
    """Return the log of the posterior mean of the library size, or of the observed one."""
    if model.observed_library:
        return counts_ng.sum(-1).log()
    location, scale = posteriors["library"]
    return location + scale**2 / 2
