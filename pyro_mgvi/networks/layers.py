"""Stacks of linear layers that several networks of one shape share."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pyro_mgvi.core.interfaces import EncoderInput
from pyro_mgvi.kernels.sparse import SparseInput, product

if TYPE_CHECKING:
    Layer = TypeVar("Layer", bound=nn.Module)

    class ListOf(nn.ModuleList, Generic[Layer]):
        """A list of modules of one class."""

        def __init__(self, modules: Iterable[Layer] | None = None) -> None: ...
        def __iter__(self) -> Iterator[Layer]: ...
        @overload
        def __getitem__(self, idx: slice) -> ListOf[Layer]: ...
        @overload
        def __getitem__(self, idx: int) -> Layer: ...
        def __getitem__(self, idx: int | slice) -> Layer | ListOf[Layer]: ...

    class DictOf(nn.ModuleDict, Generic[Layer]):
        """Modules of one class by name."""

        def __init__(self, modules: Mapping[str, Layer] | None = None) -> None: ...
        def __getitem__(self, key: str) -> Layer: ...
        def items(self) -> ItemsView[str, Layer]:
            """Return names and modules."""

        def values(self) -> ValuesView[Layer]:
            """Return the modules."""

else:  # torch's own, which tell a type checker nothing of what they hold
    ListOf, DictOf = nn.ModuleList, nn.ModuleDict


class LayerStack(nn.Module):
    """Weights and biases of linear layers of one shape."""

    def __init__(self, n_layers: int, n_in: int, n_out: int):
        super().__init__()
        bound = n_in**-0.5
        self.weight = nn.Parameter(torch.empty(n_layers, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_layers, 1, n_out))

    def extra_repr(self) -> str:
        """Say how many layers there are, and of which size."""
        n_layers, n_in, n_out = self.weight.shape
        return f"{n_layers} x ({n_in} to {n_out})"


class GroupedLinear(LayerStack):
    """A stack of linear layers, applied as one batched product."""

    def forward(self, h: Tensor) -> Tensor:
        """Map (..., layers, n, n_in) to (..., layers, n, n_out)."""
        if h.dim() > 3:  # particles
            return h @ self.weight + self.bias
        return torch.baddbmm(self.bias, h, self.weight)


class InputLayer(LayerStack):
    """The first layer of several networks that see the same input, as one product.

    Weights are (networks, genes + covariates, hidden), so that a sparse input multiplies one
    network's weights at a time, which then stay in the processor's cache.
    """

    def forward(self, x: EncoderInput) -> Tensor:
        """Map the input of n cells to (networks, n, hidden)."""
        if isinstance(x.x, SparseInput):
            return product(x.x, x.covariates, self.weight, self.bias)
        dense = x.dense()
        return torch.baddbmm(self.bias, dense.expand(len(self.weight), *dense.shape), self.weight)

    def blocks(
        self, x: EncoderInput, sizes: list[int], cells: list[Tensor | None]
    ) -> tuple[Tensor, ...]:
        """Map the input for each of some blocks of networks, which see cells of their own.

        Parameters
        ----------
        x
            Input of n cells.
        sizes
            Number of networks in each block.
        cells
            For each block, the positions of the k cells that each of its networks sees,
            (networks, k), or None for all.

        Returns
        -------
        For each block (networks, k, hidden), or (networks, n, hidden).
        """
        dense = x.dense()
        inputs = (
            dense.expand(size, *dense.shape) if chosen is None else dense[chosen]
            for size, chosen in zip(sizes, cells)
        )
        blocks: tuple[Tensor, ...] = _Blocks.apply(self.weight, self.bias, *inputs)
        return blocks


class _Blocks(torch.autograd.Function):
    """Products of blocks of matrices with an input each; the gradient is written in one piece."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*inputs)
        ctx.shape, ctx.sizes = weight.shape, [len(x) for x in inputs]
        blocks = zip(bias.split(ctx.sizes), inputs, weight.split(ctx.sizes))
        return tuple(torch.baddbmm(*block) for block in blocks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_weight = grads[0].new_empty(ctx.shape)
        for d_block, x, grad in zip(d_weight.split(ctx.sizes), ctx.saved_tensors, grads):
            torch.bmm(x.mT, grad, out=d_block)
        d_bias = torch.cat([grad.sum(1, keepdim=True) for grad in grads])
        return d_weight, d_bias, *(None for _ in grads)
