"""Encoders that see the modalities which their latents reach."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from pyro_mgvi.core.copies import Copy, Latents
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import (
    DimensionStart,
    Encoder,
    EncoderInput,
    Moments,
    StartsDimensions,
)
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.kernels.modalities import columns_of
from pyro_mgvi.networks.layers import DictOf
from pyro_mgvi.networks.separate_encoders import SeparateEncoders


class ModalityEncoders(Encoder, StartsDimensions):
    """An encoder for each set of modalities that some latents reach; it sees these alone.

    Features of a modality that a cell has not got are at their mean, an input of zero: so a latent
    of several modalities has a posterior from any of them.

    Parameters
    ----------
    latents, initial
        Set by :class:`~pyro_mgvi.model.Guide`.
    encoder
        Class (or ``functools.partial`` of one) of each.
    """

    def __init__(
        self,
        latents: Latents,
        initial: InitialValues,
        encoder: Callable[..., Encoder] = SeparateEncoders,
    ):
        super().__init__()
        modalities = initial.modalities
        if modalities is None:
            raise SettingsError("ModalityEncoders are for data with several modalities")
        reach = {latent.name: latents.modalities_of(latent.name) for latent in latents}
        self.names: list[list[str]] = []
        self.seen: list[np.ndarray | None] = []
        made = {}
        for names in dict.fromkeys(reach.values()):
            families = [latent for latent in latents if reach[latent.name] == names]
            bound = Latents(families, latents.design, latents.having)
            made["+".join(names).replace(".", "_")] = encoder(bound, initial.of_features(names))
            self.names.append([latent.name for latent in families])
            columns = [np.arange(initial.n_genes)[modalities.columns[name]] for name in names]
            everything = names == modalities.names
            self.seen.append(None if everything else np.concatenate(columns))
        self.parts = DictOf(made)

    def forward(self, x: EncoderInput) -> Moments:
        """Return location and scale of each posterior; totals are observed, and not corrected."""
        moments: Moments = {}
        for part, names, seen in zip(self.parts.values(), self.names, self.seen):
            cells = {name: sample for name, sample in x.cells.items() if name in names}
            moments |= part(_seen(x, seen)._replace(cells=cells))
        moments.pop("library", None)
        return moments

    def start_dimension(self, copy: Copy, dim: int, start: DimensionStart) -> None:
        """Let a dimension's location start at the score, as far as its encoder sees it."""
        for part, names, seen in zip(self.parts.values(), self.names, self.seen):
            if copy.latent in names and isinstance(part, StartsDimensions):
                loading_g = start.loading_g
                if seen is not None:
                    loading_g = loading_g[torch.from_numpy(seen)]
                of_it = start._replace(loading_g=loading_g, cells=_seen(start.cells, seen))
                part.start_dimension(copy, dim, of_it)


def _seen(x: EncoderInput, seen: np.ndarray | None) -> EncoderInput:
    return x if seen is None else x._replace(x=columns_of(x.x, seen))
