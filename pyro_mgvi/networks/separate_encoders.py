"""The default encoder: a network for each copy of each latent, computed together."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, relu

from pyro_mgvi.core.copies import Copy, Latents
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import (
    DimensionStart,
    Encoder,
    EncoderInput,
    HasGroupEntries,
    Moments,
    StartsDimensions,
)
from pyro_mgvi.kernels.dropout import dropout
from pyro_mgvi.networks.heads import library_head, location_and_scale
from pyro_mgvi.networks.layers import DictOf, GroupedLinear, InputLayer
from pyro_mgvi.networks.seed_units import SeedableNetwork


class SeparateEncoders(Encoder, StartsDimensions, HasGroupEntries):
    """One network for each latent copy and one for the library (paper, equation 6).

    Computed as one first-layer product over all of them, then grouped heads. Layer norm within
    each network: no batch statistics, so a single cell, an evaluation or several particles
    need no special care.

    Parameters
    ----------
    latents, initial
        Set by :class:`~pyro_mgvi.model.guide.Guide`.
    hidden
        Width of each network's hidden layer.
    dropout
        Drop-out rate of the hidden layers in training.
    """

    def __init__(
        self,
        latents: Latents,
        initial: InitialValues,
        hidden: int = 128,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.shapes = {latent.name: (latent.n_copies, latent.dim) for latent in latents}
        self.hidden, self.dropout = hidden, dropout
        corrects = initial.modalities is None  # the library; totals of several are as observed
        self.sizes = {name: n_copies for name, (n_copies, _) in self.shapes.items()}
        self.sizes |= {"library": 1} if corrects else {}
        n_networks = sum(self.sizes.values())
        self.first = InputLayer(n_networks, initial.n_inputs, hidden)
        self.gain = nn.Parameter(torch.ones(n_networks, 1, hidden))
        self.shift = nn.Parameter(torch.zeros(n_networks, 1, hidden))
        self.heads = DictOf(
            {name: GroupedLinear(s, hidden, 2 * dim) for name, (s, dim) in self.shapes.items()}
        )
        self.library = library_head(hidden) if corrects else None

    def forward(self, x: EncoderInput) -> Moments:
        """Return location and scale of each posterior, placeholders for cells not in a sample."""
        sizes = [*self.sizes.values()]
        if not x.cells:
            h = self.first(x)  # (networks, n, hidden)
            hidden = [*self.activate(h, self.gain, self.shift).split(sizes)]
        else:
            cells = [x.cells[name].index_sk if name in x.cells else None for name in self.sizes]
            blocks = self.first.blocks(x, sizes, cells)
            parts = zip(blocks, self.gain.split(sizes), self.shift.split(sizes))
            hidden = [self.activate(*part) for part in parts]
        posteriors = {}
        for name, h in zip(self.shapes, hidden):
            posterior = location_and_scale(self.heads[name](h))
            if name in x.cells:
                posterior = x.cells[name].spread_moments(posterior)
            posteriors[name] = posterior
        if self.library is not None:
            loc, scale = location_and_scale(self.library(hidden[-1][0]))
            posteriors["library"] = loc[..., 0], scale[..., 0]
        return posteriors

    def start_dimension(self, copy: Copy, dim: int, start: DimensionStart) -> None:
        """Let a dimension's location start at the score, with two hidden units of its own."""
        names = list(self.shapes)
        before = names[: names.index(copy.latent)]
        network = sum(self.shapes[other][0] for other in before) + copy.index
        head = self.heads[copy.latent]
        SeedableNetwork(
            self.first.weight[network],
            self.first.bias[network, 0],
            self.gain[network, 0],
            self.shift[network, 0],
            head.weight[copy.index],
            head.bias[copy.index, 0],
            head.weight[copy.index].norm(dim=1),
        ).seed(dim, copy.dim + dim, start)

    def group_entries(self, copies: Mapping[str, Tensor], groups: Tensor) -> dict[str, Tensor]:
        """Return which entries are those of some copies: their networks."""
        own = torch.zeros(self.sizes.get("library", 0), dtype=torch.bool)  # its network is the last
        network = torch.cat([*copies.values(), own])
        names = ("first.weight", "first.bias", "gain", "shift")
        entries = {name: network[:, None, None] for name in names}
        for name, copy in copies.items():
            entries[f"heads.{name}.weight"] = copy[:, None, None]
            entries[f"heads.{name}.bias"] = copy[:, None, None]
        return entries

    def activate(self, h: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        """Return what the first layer's output becomes: normalised, rectified, dropped out."""
        h = relu(layer_norm(h, (self.hidden,)) * gain + shift)
        return dropout(h, self.dropout, self.training)
