"""Building blocks that encoders and decoders share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GroupedLinear(nn.Module):
    """A stack of linear layers, applied as one batched product."""

    def __init__(self, n_layers: int, n_in: int, n_out: int):
        super().__init__()
        bound = n_in**-0.5
        self.weight = nn.Parameter(torch.empty(n_layers, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_layers, 1, n_out))

    def forward(self, h: Tensor) -> Tensor:
        """Map (..., layers, n, n_in) to (..., layers, n, n_out)."""
        if h.dim() > 3:  # particles
            return h @ self.weight + self.bias
        return torch.baddbmm(self.bias, h, self.weight)


def concatenate(values: list[Tensor], covariates: Tensor | None) -> Tensor:
    """Join latents and covariates along the last dimension, broadcasting over particles."""
    if covariates is not None and covariates.shape[-1]:
        values = [*values, covariates]
    shape = torch.broadcast_shapes(*(value.shape[:-1] for value in values))
    return torch.cat([value.expand(*shape, -1) for value in values], -1)
