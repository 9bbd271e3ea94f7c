"""Encoders with one network for all copies, and a linear head for each."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from pyro_mgvi.core.copies import Copy, Latents
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import (
    DimensionStart,
    Encoder,
    EncoderInput,
    Moments,
    StartsDimensions,
)
from pyro_mgvi.kernels.dropout import dropout
from pyro_mgvi.networks.heads import library_head, location_and_scale
from pyro_mgvi.networks.layers import DictOf, InputLayer
from pyro_mgvi.networks.seed_units import RAW_SCALE, SeedableNetwork, ridge


class TrunkEncoder(Encoder, StartsDimensions):
    """Heads on the features of one network: a subclass says what the features are.

    Parameters
    ----------
    latents
        Set by :class:`~pyro_mgvi.model.Guide`.
    n_features
        Width of the features.

    Examples
    --------
    >>> class Residual(TrunkEncoder):
    ...     def __init__(self, latents, initial, width=64):
    ...         super().__init__(latents, width)
    ...         self.first = nn.Linear(initial.n_inputs, width)
    ...         self.second = nn.Linear(width, width)
    ...
    ...     def features(self, x):
    ...         h = self.first(x.dense())
    ...         return h + self.second(relu(h))
    """

    def __init__(self, latents: Latents, n_features: int):
        super().__init__()
        self.shapes = {latent.name: (latent.n_copies, latent.dim) for latent in latents}
        self.heads = DictOf(
            {name: nn.Linear(n_features, 2 * s * dim) for name, (s, dim) in self.shapes.items()}
        )
        self.library = library_head(n_features)

    @abstractmethod
    def features(self, x: EncoderInput) -> Tensor:
        """Return what the heads read of each cell, (n, features)."""

    def forward(self, x: EncoderInput) -> Moments:
        """Return location and scale of each posterior, placeholders for cells not in a sample."""
        h = self.features(x)
        posteriors = {}
        for name, (n_copies, dim) in self.shapes.items():
            head, sample = self.heads[name], x.cells.get(name)
            if sample is None:
                raw = head(h).unflatten(-1, (n_copies, 2 * dim)).transpose(0, 1)
                posteriors[name] = location_and_scale(raw)
            else:
                bias, weight = (w.unflatten(0, (n_copies, -1)) for w in (head.bias, head.weight))
                raw = torch.baddbmm(bias.unsqueeze(1), h[sample.index_sk], weight.mT)
                posteriors[name] = sample.spread_moments(location_and_scale(raw))
        loc, scale = location_and_scale(self.library(h))
        posteriors["library"] = loc[..., 0], scale[..., 0]
        return posteriors

    @torch.no_grad()
    def start_dimension(self, copy: Copy, dim: int, start: DimensionStart) -> None:
        """Let a dimension's location start at what the features tell of the score."""
        weight, bias = ridge(self.features(start.cells), start.score_n)
        head, location = self.heads[copy.latent], 2 * copy.index * copy.dim + dim
        head.weight[location], head.bias[location] = weight, bias
        head.weight[location + copy.dim], head.bias[location + copy.dim] = 0.0, RAW_SCALE


class SharedTrunk(TrunkEncoder):
    """One hidden layer for all copies, with a head for each (the paper's discussion).

    A step's cost grows little with the number of groups.

    Parameters
    ----------
    latents, initial
        Set by :class:`~pyro_mgvi.model.Guide`.
    hidden
        Width of the hidden layer.
    dropout
        Drop-out rate of the hidden layer in training.
    """

    def __init__(
        self, latents: Latents, initial: InitialValues, hidden: int = 256, dropout: float = 0.1
    ):
        super().__init__(latents, hidden)
        self.dropout = dropout
        self.first = InputLayer(1, initial.n_inputs, hidden)
        self.norm = nn.LayerNorm(hidden)

    def features(self, x: EncoderInput) -> Tensor:
        """Return the hidden layer."""
        return dropout(relu(self.norm(self.first(x)[0])), self.dropout, self.training)

    def start_dimension(self, copy: Copy, dim: int, start: DimensionStart) -> None:
        """Let a dimension's location start at the score, with two hidden units of its own."""
        head = self.heads[copy.latent]
        importance_h = torch.zeros(()).to(head.bias)
        for each in (*self.heads.values(), self.library):
            importance_h = importance_h + each.weight.square().sum(0)
        location = 2 * copy.index * copy.dim + dim
        SeedableNetwork(
            self.first.weight[0],
            self.first.bias[0, 0],
            self.norm.weight,
            self.norm.bias,
            head.weight.T,
            head.bias,
            importance_h,
        ).seed(location, location + copy.dim, start)
