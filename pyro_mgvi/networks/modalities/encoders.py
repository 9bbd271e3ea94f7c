"""Encoders that see the modalities which their latents reach."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pyro_mgvi.core.copies import Copy, Latents
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import (
    DimensionStart,
    Encoder,
    EncoderInput,
    Moments,
    StartsDimensions,
)
from pyro_mgvi.core.modalities import module_name
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.kernels.modalities import columns_of, hidden
from pyro_mgvi.networks.layers import DictOf
from pyro_mgvi.networks.separate_encoders import SeparateEncoders
from pyro_mgvi.support.values import number


class ModalityEncoders(Encoder, StartsDimensions):
    """An encoder for each set of modalities that some latents reach; it sees these alone.

    Features of a modality that a cell has not got are at their mean, an input of zero: so a latent
    of several modalities has a posterior from any of them. So that it holds what they have in
    common, half of the cells are encoded from one of their modalities alone in training, where
    another latent is there for what that one shows alone: what a latent of several modalities is
    to say, any of them must tell.

    Parameters
    ----------
    latents, initial
        Set by :class:`~pyro_mgvi.model.Guide`.
    encoder
        Class (or ``functools.partial`` of one) of each.
    hide
        Share of the cells of several modalities of which all but one are hidden in training.
    """

    code_g: Tensor

    def __init__(
        self,
        latents: Latents,
        initial: InitialValues,
        encoder: Callable[..., Encoder] = SeparateEncoders,
        hide: float = 0.5,
    ):
        super().__init__()
        modalities = initial.modalities
        if modalities is None:
            raise SettingsError("ModalityEncoders are for data with several modalities")
        self.hide = number("hide of the encoders", hide, least=0.0)
        self.modalities = modalities
        self.register_buffer("code_g", modalities.code_g, persistent=False)
        reach = {
            latent.name: (latents.modalities_of(latent.name), latents.has_narrower(latent.name))
            for latent in latents
        }
        self.names: list[list[str]] = []
        self.seen: list[np.ndarray | None] = []
        self.hides: list[bool] = []
        made = {}
        for names, hides in dict.fromkeys(reach.values()):
            families = [latent for latent in latents if reach[latent.name] == (names, hides)]
            bound = Latents(families, latents.design, latents.having)
            key = "+".join([*names, *(["hidden"] if hides else [])])
            made[module_name(key)] = encoder(bound, initial.of_features(names))
            self.names.append([latent.name for latent in families])
            self.hides.append(hides)
            columns = [np.arange(initial.n_genes)[modalities.columns[name]] for name in names]
            everything = names == modalities.names
            self.seen.append(None if everything else np.concatenate(columns))
        self.parts = DictOf(made)

    def forward(self, x: EncoderInput) -> Moments:
        """Return location and scale of each posterior; totals are observed, and not corrected."""
        moments: Moments = {}
        parts = zip(self.parts.values(), self.names, self.seen, self.hides)
        for part, names, seen, hides in parts:
            cells = {name: sample for name, sample in x.cells.items() if name in names}
            shown = self.partly_hidden(x) if hides and self.training else x
            moments |= part(_seen(shown, seen)._replace(cells=cells))
        moments.pop("library", None)
        return moments

    def partly_hidden(self, x: EncoderInput) -> EncoderInput:
        """Return the input with one modality alone of some cells, drawn at random."""
        if x.has is None or not self.hide:
            return x
        draw_nk = torch.rand_like(x.has, dtype=torch.float32).where(x.has, -1.0)
        keep_nk = torch.zeros_like(x.has).scatter(1, draw_nk.argmax(1, keepdim=True), True)
        alone_n1 = torch.rand_like(keep_nk[:, :1], dtype=torch.float32) < self.hide
        return x._replace(x=hidden(x.x, keep_nk | ~alone_n1, self.code_g))

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
