"""Model, guide and ELBO as one torch module."""

from __future__ import annotations

import torch
from torch import nn

from pyro_mgvi.core.elbo import WassersteinTraceELBO


class Objective(nn.Module):
    """A module whose forward pass is the loss of a minibatch, split by site."""

    def __init__(self, model: nn.Module, guide: nn.Module, elbo: WassersteinTraceELBO):
        super().__init__()
        self.model, self.guide, self.elbo = model, guide, elbo

    def forward(self, *minibatch) -> dict[str, torch.Tensor]:
        """Return the loss of each site for a minibatch."""
        # As plain functions: a Pyro module declares its parameters whenever they are looked up,
        # a seventh of what Python needs for a step, for handlers that are not there.
        return self.elbo.terms(self.model.forward, self.guide.forward, *minibatch)
