"""A decoder's linear terms as one product, of which most inputs belong to groups not the cell's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyro_mgvi.kernels.simplex import concatenate


def add_products(
    total: Tensor,
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    own_gk: Tensor,
    group_n: Tensor | None = None,
) -> Tensor:
    """Return ``total`` plus the sum of ``inputs[i] @ weights[i]``, written over it if possible.

    Parameters
    ----------
    total
        (..., n, genes).
    inputs, weights
        (..., n, k_i) and (k_i, genes).
    own_gk
        Which inputs, of all terms side by side, are not zero in which group. The others must be
        zero, and have no gradient: they come from a gate that gives them none.
    group_n
        Integer codes, to do it a group at a time with its own inputs alone: the cost does not grow
        with the number of groups. None to do it at once, which is faster for few groups.
    """
    joined, weight = concatenate(inputs), torch.cat(list(weights))
    if not joined.dim() == total.dim() == 2:
        return total + joined @ weight
    if group_n is None:
        return total.addmm_(joined, weight)
    sizes = torch.bincount(group_n, minlength=len(own_gk)).tolist()
    cells = group_n.argsort(stable=True).split(sizes)
    groups = [(c, own.nonzero()[:, 0]) for c, own in zip(cells, own_gk) if len(c)]
    product: Tensor = _OwnProduct.apply(total, joined, weight, groups)
    return product


class _OwnProduct(torch.autograd.Function):
    # index_select copies whole rows: 10 times faster than indexing with brackets

    @staticmethod
    def forward(
        ctx: Any, total: Tensor, inputs: Tensor, weight: Tensor, groups: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.groups = groups
        for rows, columns in groups:
            own = inputs.index_select(0, rows).index_select(1, columns)
            total.index_add_(0, rows, own @ weight.index_select(0, columns))
        ctx.mark_dirty(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        inputs, weight = ctx.saved_tensors
        d_inputs, d_weight = torch.zeros_like(inputs), torch.zeros_like(weight)
        for rows, columns in ctx.groups:
            grad_rows = grad.index_select(0, rows)
            own = inputs.index_select(0, rows).index_select(1, columns)
            d_inputs[rows[:, None], columns] = grad_rows @ weight.index_select(0, columns).T
            d_weight.index_add_(0, columns, own.T @ grad_rows)
        return grad, d_inputs, d_weight, None
