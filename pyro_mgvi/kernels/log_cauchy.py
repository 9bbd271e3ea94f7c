"""The log density of a Cauchy distribution over many weights, with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def log_cauchy(weight: Tensor, scale: float) -> Tensor:
    """Return the log density of weights under a Cauchy prior, summed, up to a constant."""
    log_density: Tensor = _LogCauchy.apply(weight, scale)
    return log_density


class _LogCauchy(torch.autograd.Function):
    """With the gradient written out: many groups have a million loadings, passed over each step."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.scale = scale
        return -(weight / scale).square_().log1p_().sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return (weight * (-2 * grad)).div_(weight.square().add_(ctx.scale**2)), None
