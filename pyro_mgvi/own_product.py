"""Products of inputs most of which are zero: they belong to groups other than the cell's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def add_own_products(
    total: Tensor, terms: list[tuple[Tensor, Tensor]], own_gk: Tensor, group_n: Tensor
) -> Tensor:
    """Return ``total`` plus the product of each term, from each group's own inputs alone.

    Done a group at a time, so that the cost does not grow with the number of groups.

    Parameters
    ----------
    total
        (n, genes); written over.
    terms
        Pairs of inputs (n, k_i) and weight (k_i, genes).
    own_gk
        Which inputs, of all terms side by side, are not zero in which group. The others must be
        zero, and have no gradient: they come from a gate that gives them none.
    group_n
        Integer codes.
    """
    inputs, weights = zip(*terms)
    sizes = torch.bincount(group_n, minlength=len(own_gk)).tolist()
    cells = group_n.argsort(stable=True).split(sizes)
    groups = [(c, own.nonzero()[:, 0]) for c, own in zip(cells, own_gk) if len(c)]
    return _OwnProduct.apply(total, torch.cat(inputs, -1), torch.cat(weights), groups)


class _OwnProduct(torch.autograd.Function):
    # index_select copies whole rows: 10 times faster than indexing with brackets

    @staticmethod
    def forward(ctx, total, inputs, weight, groups):
        ctx.save_for_backward(inputs, weight)
        ctx.groups = groups
        for rows, columns in groups:
            own = inputs.index_select(0, rows).index_select(1, columns)
            total.index_add_(0, rows, own @ weight.index_select(0, columns))
        ctx.mark_dirty(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        inputs, weight = ctx.saved_tensors
        d_inputs, d_weight = torch.zeros_like(inputs), torch.zeros_like(weight)
        for rows, columns in ctx.groups:
            grad_rows = grad.index_select(0, rows)
            own = inputs.index_select(0, rows).index_select(1, columns)
            d_inputs[rows[:, None], columns] = grad_rows @ weight.index_select(0, columns).T
            d_weight.index_add_(0, columns, own.T @ grad_rows)
        return grad, d_inputs, d_weight, None
