"""Sparse minibatches: the product of mostly zero counts with the first layer's weights."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.autograd.function import once_differentiable

DENSITY = 0.2  # share of nonzero counts up to which sparse products are the faster ones


def is_sparse(x: object) -> TypeGuard[sparse.csr_matrix]:
    """Return whether an array is a sparse one of SciPy, in a way that a type checker sees."""
    return bool(sparse.issparse(x))


def to_torch(x: sparse.csr_matrix) -> Tensor:
    """Return a SciPy CSR matrix as a sparse tensor of 32-bit numbers that shares its indices.

    Examples
    --------
    >>> to_torch(sparse.csr_matrix(np.eye(3))).layout
    torch.sparse_csr
    """
    crow, column = (
        torch.from_numpy(part.astype(np.int32, copy=False)) for part in (x.indptr, x.indices)
    )
    values = torch.from_numpy(x.data.astype(np.float32, copy=False))
    return _csr(crow, column, values, x.shape)


def _csr(crow: Tensor, column: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    with warnings.catch_warnings():  # PyTorch calls these tensors a beta feature, once
        warnings.simplefilter("ignore")
        return torch.sparse_csr_tensor(crow, column, values, shape)


class SparseInput(NamedTuple):
    """Scaled log counts as encoders see them: ``x_ng - input_g``, x sparse, never made dense.

    With the ``group`` of each row, (n,), every group has a centre of its own: ``input_g`` is
    (groups, genes), with zeros for genes that a group has not got.
    """

    x_ng: Tensor
    input_g: Tensor
    group: Tensor | None = None

    def to_dense(self) -> Tensor:
        """Return the input as an ordinary tensor, (n, genes)."""
        centre = self.input_g if self.group is None else self.input_g[self.group]
        return to_dense(self.x_ng) - centre


def to_dense(x: Tensor | SparseInput) -> Tensor:
    """Return a sparse CSR tensor as an ordinary one: SciPy is five times faster than torch."""
    if isinstance(x, SparseInput):
        return x.to_dense()
    if x.layout != torch.sparse_csr:
        return x
    return torch.from_numpy(_to_scipy(x).toarray()) if x.device.type == "cpu" else x.to_dense()


def _to_scipy(x: Tensor) -> sparse.csr_matrix:
    parts = x.values(), x.col_indices(), x.crow_indices()
    return sparse.csr_matrix(tuple(part.numpy() for part in parts), x.shape)


def totals(counts: Tensor, among_g: Tensor | None = None) -> Tensor:
    """Return the sum of each row of dense or sparse CSR counts, (n,).

    Parameters
    ----------
    counts
        Cells x genes.
    among_g
        The genes to sum over, boolean; all by default.
    """
    if counts.layout != torch.sparse_csr:
        return (counts if among_g is None else counts * among_g).sum(-1)
    values, offsets = counts.values(), counts.crow_indices().long()
    if among_g is not None:
        values = values * among_g[counts.col_indices().long()]
    return torch.segment_reduce(values, "sum", offsets=offsets, unsafe=True)


def scaled_log(counts: Tensor, factor_n: Tensor) -> Tensor:
    """Return log1p of sparse counts times a factor per row, as sparse as they are."""
    factors = torch.repeat_interleave(factor_n, counts.crow_indices().diff())
    values = torch.log1p(counts.values() * factors)
    return _csr(counts.crow_indices(), counts.col_indices(), values, counts.shape)


def kept_entries(counts: Tensor, keep_bg: Tensor, group_n: Tensor) -> Tensor:
    """Return sparse counts with zeros in the columns that the group of a row does not keep.

    Examples
    --------
    >>> keep_bg = torch.tensor([[True, False], [True, True]])
    >>> counts = to_torch(sparse.csr_matrix(np.ones((2, 2))))
    >>> kept_entries(counts, keep_bg, torch.arange(2)).values()
    tensor([1., 0., 1., 1.])
    """
    row_group = torch.repeat_interleave(group_n, counts.crow_indices().diff())
    keep = keep_bg[row_group, counts.col_indices().long()]
    values = counts.values().where(keep, 0.0)
    return _csr(counts.crow_indices(), counts.col_indices(), values, counts.shape)


def product(x: SparseInput, covariates: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``[x - input_g, covariates] @ weight + bias`` for each network.

    Parameters
    ----------
    x
        Input of n cells.
    covariates
        (n, covariates), or None.
    weight, bias
        (networks, genes + covariates, hidden) and (networks, 1, hidden).

    Returns
    -------
    (networks, n, hidden), equal to the dense product up to rounding, as are its gradients.
    """
    h: Tensor = _Product.apply(x.x_ng, x.input_g, x.group, covariates, weight, bias)
    return h


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        input_g: Tensor,
        group: Tensor | None,
        covariates: Tensor | None,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        n_genes = x.shape[1]
        h = weight.new_empty(len(weight), len(x), weight.shape[2])
        for h_i, w_i, bias_i in zip(h, weight[:, :n_genes], bias):  # w_i is in the cache by then
            shift = bias_i - input_g @ w_i
            torch.add(_weighted_rows(x, w_i), shift if group is None else shift[group], out=h_i)
        if covariates is not None and covariates.shape[1]:
            h += covariates @ weight[:, n_genes:]
        ctx.save_for_backward(x, input_g, group, covariates)
        ctx.shape = weight.shape
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None, None, Tensor, Tensor]:
        x, input_g, group, covariates = ctx.saved_tensors
        n_genes = x.shape[1]
        transposed = to_torch(_to_scipy(x).tocsc().T)  # 10 times faster than torch
        d_weight = grad.new_empty(ctx.shape)
        d_bias = grad.sum(1, keepdim=True)
        for d_i, grad_i, sum_i in zip(d_weight, grad, d_bias):
            uncentred = _weighted_rows(transposed, grad_i)
            if group is None:
                torch.addr(uncentred, input_g, sum_i[0], alpha=-1, out=d_i[:n_genes])
            else:
                sums_bh = grad_i.new_zeros(len(input_g), grad_i.shape[1])
                sums_bh.index_add_(0, group, grad_i)
                torch.addmm(uncentred, input_g.T, sums_bh, alpha=-1, out=d_i[:n_genes])
        if covariates is not None and covariates.shape[1]:
            d_weight[:, n_genes:] = covariates.T @ grad
        return None, None, None, None, d_weight, d_bias


def _weighted_rows(x: Tensor, table: Tensor) -> Tensor:
    """Return ``x @ table`` for a sparse CSR matrix: six times faster than as such a product."""
    return torch.nn.functional.embedding_bag(
        x.col_indices(),
        table,
        x.crow_indices(),
        mode="sum",
        per_sample_weights=x.values(),
        include_last_offset=True,
    )
