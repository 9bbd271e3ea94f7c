"""Encoders: what turns counts into posteriors, each an object with one signature.

An encoder is called as ``encoder(x, covariates)``, x the scaled log counts (n, genes). It returns
a dictionary of (location, scale): for each latent (S, n, dim), or (n, dim) when it has a single
copy, and for ``library`` (n,): the correction to the observed log library size. An encoder with
``takes_sparse`` also takes a :class:`~pyro_mgvi.sparse.SparseInput` as x.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, layer_norm, relu, softplus

from pyro_mgvi.layers import GroupedLinear, InputLayer


class SeparateEncoders(nn.Module):
    """One network for each latent copy and one for the library (paper, equation 6).

    Computed as one first-layer product over all of them, then grouped heads. Layer norm within
    each network: no batch statistics, so a single cell, an evaluation or several particles
    need no special care.

    Parameters
    ----------
    latents, start
        Set by :class:`~pyro_mgvi.guide.Guide`.
    hidden
        Width of each network's hidden layer.
    dropout
        Drop-out rate of the hidden layers in training.
    """

    takes_sparse = True

    def __init__(self, latents, start, hidden: int = 128, dropout: float = 0.1):
        super().__init__()
        self.shapes = {latent.name: (latent.n_subsets, latent.dim) for latent in latents}
        self.hidden, self.dropout = hidden, dropout
        self.n_networks = 1 + sum(n_subsets for n_subsets, _ in self.shapes.values())
        self.first = InputLayer(self.n_networks, start.n_genes + start.n_covariates, hidden)
        self.gain = nn.Parameter(torch.ones(self.n_networks, 1, hidden))
        self.shift = nn.Parameter(torch.zeros(self.n_networks, 1, hidden))
        self.heads = nn.ModuleDict(
            {name: GroupedLinear(s, hidden, 2 * dim) for name, (s, dim) in self.shapes.items()}
        )
        self.library = library_head(hidden)

    def forward(self, x_ng: Tensor, covariates: Tensor | None = None) -> dict:
        """Return location and scale of each posterior."""
        h = self.first(x_ng, covariates)  # (networks, n, hidden)
        h = relu(layer_norm(h, (self.hidden,)) * self.gain + self.shift)
        h = dropout(h, self.dropout, self.training)
        posteriors, start = {}, 0
        for name, (n_subsets, _) in self.shapes.items():
            raw = self.heads[name](h[start : start + n_subsets])
            posteriors[name] = location_and_scale(raw if n_subsets > 1 else raw[0])
            start += n_subsets
        loc, scale = location_and_scale(self.library(h[-1]))
        posteriors["library"] = loc[..., 0], scale[..., 0]
        return posteriors


class SharedTrunk(nn.Module):
    """One hidden layer for all copies, with a head for each (the paper's discussion).

    Parameters are those of :class:`SeparateEncoders`; a step's cost hardly grows with groups.
    """

    takes_sparse = True

    def __init__(self, latents, start, hidden: int = 256, dropout: float = 0.1):
        super().__init__()
        self.shapes = {latent.name: (latent.n_subsets, latent.dim) for latent in latents}
        self.dropout = dropout
        self.first = InputLayer(1, start.n_genes + start.n_covariates, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(hidden, 2 * s * dim) for name, (s, dim) in self.shapes.items()}
        )
        self.library = library_head(hidden)

    def forward(self, x_ng: Tensor, covariates: Tensor | None = None) -> dict:
        """Return location and scale of each posterior."""
        h = relu(self.norm(self.first(x_ng, covariates)[0]))
        h = dropout(h, self.dropout, self.training)
        posteriors = {}
        for name, (n_subsets, dim) in self.shapes.items():
            raw = self.heads[name](h).unflatten(-1, (n_subsets, 2 * dim)).transpose(0, 1)
            posteriors[name] = location_and_scale(raw if n_subsets > 1 else raw[0])
        loc, scale = location_and_scale(self.library(h))
        posteriors["library"] = loc[..., 0], scale[..., 0]
        return posteriors


def library_head(n_in: int) -> nn.Linear:
    """Return a head that starts at "the library is what was observed, give or take 10 %"."""
    head = nn.Linear(n_in, 2)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.0, -2.8]))
    return head


def location_and_scale(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Split the last dimension into a location and a positive scale."""
    loc, scale = raw.chunk(2, -1)
    return loc, softplus(scale + 0.5) + 1e-4
