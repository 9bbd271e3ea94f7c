"""Parts as somebody outside this package would write them, after docs/extend.md."""

from __future__ import annotations

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from pyro_mgvi import (
    Decoder,
    DecoderInput,
    EncoderInput,
    InitialValues,
    JointDecoder,
    Latents,
    Likelihood,
    TrunkEncoder,
)


class PoissonLogNormal(Likelihood):
    """Counts that are Poisson around a log-normal rate, by quadrature."""

    def __init__(self, initial: InitialValues):
        super().__init__()
        self.log_sd = nn.Parameter(-0.5 * initial.log_theta_g.unsqueeze(-1))
        node, weight = np.polynomial.hermite_e.hermegauss(8)
        self.node, self.weight = (torch.tensor(x).float() for x in (node, weight))

    def forward(self, parts: list, log_library: Tensor) -> dist.TorchDistribution:
        """Return the distribution of the counts."""
        log_mean = self.expression(parts).log() + log_library.unsqueeze(-1)
        rate = (log_mean.unsqueeze(-1) + self.log_sd.exp() * self.node).exp()
        mixing = dist.Categorical(self.weight.expand(rate.shape))
        return dist.MixtureSameFamily(mixing, dist.Poisson(rate)).to_event(1)


class Residual(TrunkEncoder):
    """Two layers, the second beside a skip connection."""

    def __init__(self, latents: Latents, initial: InitialValues, width: int = 12):
        super().__init__(latents, width)
        self.first = nn.Linear(initial.n_inputs, width)
        self.second = nn.Linear(width, width)

    def features(self, x: EncoderInput) -> Tensor:
        """Return what the heads read."""
        h = relu(self.first(x.dense()))
        return h + relu(self.second(h))


class Deep(JointDecoder):
    """A decoder of this package with one more layer."""

    def further_layers(self, hidden: int) -> nn.Module:
        """Return the layer."""
        return nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU())


class Plain(Decoder):
    """A decoder from scratch, which can do nothing besides."""

    def __init__(self, latents: Latents, initial: InitialValues, n_outputs: int, width: int = 12):
        super().__init__()
        n_inputs = latents.n_dims + initial.n_covariates
        self.net = nn.Sequential(nn.Linear(n_inputs, width), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(width, initial.n_genes) for _ in range(n_outputs))

    def forward(self, x: DecoderInput) -> list:
        """Return one part."""
        h = self.net(x.joined())
        return [tuple(head(h) for head in self.heads)]


COMPONENTS = (PoissonLogNormal, Residual, Deep, Plain)
