"""Building blocks that encoders and decoders share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pyro_mgvi.sparse import SparseInput, product


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


class InputLayer(GroupedLinear):
    """The first layer of several networks that see the same input, as one product.

    Weights are (networks, genes + covariates, hidden), so that a sparse input multiplies one
    network's weights at a time, which then stay in the processor's cache.
    """

    def forward(self, x: Tensor | SparseInput, covariates: Tensor | None = None) -> Tensor:
        """Map scaled log counts (n, genes) and covariates to (networks, n, hidden)."""
        if isinstance(x, SparseInput):
            return product(x, covariates, self.weight, self.bias)
        x = concatenate([x], covariates)
        return torch.baddbmm(self.bias, x.expand(len(self.weight), *x.shape), self.weight)

    def blocks(self, x, covariates, sizes: list[int], cells: list[Tensor | None]) -> list[Tensor]:
        """Map the input for each of some blocks of networks, which see cells of their own.

        Parameters
        ----------
        x, covariates
            As for :meth:`forward`.
        sizes
            Number of networks in each block.
        cells
            For each block, the positions of the k cells that each of its networks sees,
            (networks, k), or None for all.

        Returns
        -------
        For each block (networks, k, hidden), or (networks, n, hidden).
        """
        x = concatenate([x.to_dense() if isinstance(x, SparseInput) else x], covariates)
        inputs = (
            x.expand(size, *x.shape) if chosen is None else x[chosen]
            for size, chosen in zip(sizes, cells)
        )
        return _Blocks.apply(self.weight, self.bias, *inputs)


class _Blocks(torch.autograd.Function):
    """Products of blocks of matrices with an input each; the gradient is written in one piece."""

    @staticmethod
    def forward(ctx, weight, bias, *inputs):
        ctx.save_for_backward(*inputs)
        ctx.shape, ctx.sizes = weight.shape, [len(x) for x in inputs]
        blocks = zip(bias.split(ctx.sizes), inputs, weight.split(ctx.sizes))
        return tuple(torch.baddbmm(*block) for block in blocks)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        d_weight = grads[0].new_empty(ctx.shape)
        for d_block, x, grad in zip(d_weight.split(ctx.sizes), ctx.saved_tensors, grads):
            torch.bmm(x.mT, grad, out=d_block)
        d_bias = torch.cat([grad.sum(1, keepdim=True) for grad in grads])
        return d_weight, d_bias, *(None for _ in grads)


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


def dropout(h: Tensor, rate: float, training: bool) -> Tensor:
    """Set a random share of units to zero in training, and scale the others up.

    As in torch, but with 16 random bits a unit, drawn four at a time: on a processor random numbers
    are what takes time. ``rate`` is rounded to a multiple of 2 to the power -16.
    """
    if h.device.type != "cpu" or not training or rate == 0:
        return torch.nn.functional.dropout(h, rate, training)
    bits = torch.empty(-(-h.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: h.numel()].view(h.shape) >= round(rate * 2**16) - 2**15
    return h * (kept.to(h.dtype) * (1 / (1 - rate)))


def concatenate(values: Sequence[Tensor], covariates: Tensor | None = None) -> Tensor:
    """Join latents and covariates along the last dimension, broadcasting over particles."""
    if covariates is not None and covariates.shape[-1]:
        values = [*values, covariates]
    if len(values) == 1:
        return values[0]
    shape = np.broadcast_shapes(*(value.shape[:-1] for value in values))  # torch's takes longer
    return torch.cat([value.expand(*shape, -1) for value in values], -1)
