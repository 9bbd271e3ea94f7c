"""The log density of a Cauchy distribution over many weights, with its gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def log_cauchy(weight: Tensor, scale: float) -> Tensor:
    """Return the log density of weights under a Cauchy prior, summed, up to a constant."""
    return _LogCauchy.apply(weight, scale)


class _LogCauchy(torch.autograd.Function):
    """With the gradient written out: many groups have a million loadings, passed over each step."""

    @staticmethod
    def forward(ctx, weight, scale):
        ctx.save_for_backward(weight)
        ctx.scale = scale
        return -(weight / scale).square_().log1p_().sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (weight,) = ctx.saved_tensors
        return (weight * (-2 * grad)).div_(weight.square().add_(ctx.scale**2)), None
