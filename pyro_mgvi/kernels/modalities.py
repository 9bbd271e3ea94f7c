"""Counts of several modalities, each at its own depth: totals, scaled logs, columns of one."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from pyro_mgvi.kernels.sparse import DENSITY, SparseInput, to_torch


def totals_of(counts: Tensor, code_g: Tensor, n_modalities: int) -> Tensor:
    """Return each cell's total over the features of each modality, (n, modalities).

    Parameters
    ----------
    counts
        (n, features), dense or sparse CSR.
    code_g
        Which modality each feature is of.
    n_modalities
        How many there are.

    Examples
    --------
    >>> totals_of(torch.ones(1, 3), torch.tensor([0, 0, 1]), 2)
    tensor([[2., 1.]])
    """
    total_nk = counts.new_zeros(len(counts), n_modalities, layout=torch.strided)
    if counts.layout != torch.sparse_csr:
        return total_nk.index_add_(1, code_g, counts)
    row = rows_of(counts)
    at = row * n_modalities + code_g[counts.col_indices().long()]
    return total_nk.view(-1).index_add_(0, at, counts.values()).view_as(total_nk)


def rows_of(counts: Tensor) -> Tensor:
    """Return the row of each entry of a sparse CSR tensor."""
    per_row = counts.crow_indices().diff().long()
    return torch.repeat_interleave(torch.arange(len(counts), device=per_row.device), per_row)


def scaled_log_of(counts: Tensor, factor_nk: Tensor, code_g: Tensor) -> Tensor:
    """Return log1p of sparse counts times a factor per row and modality, as sparse as they are."""
    factors = factor_nk[rows_of(counts), code_g[counts.col_indices().long()]]
    parts = counts.crow_indices(), counts.col_indices(), torch.log1p(counts.values() * factors)
    return torch.sparse_csr_tensor(*parts, counts.shape, check_invariants=False)


def columns_of(x: Tensor | SparseInput, columns: np.ndarray) -> Tensor | SparseInput:
    """Return some columns of the encoders' input, dense or sparse.

    Examples
    --------
    >>> columns_of(torch.arange(3.0).expand(1, 3), np.array([0, 2]))
    tensor([[0., 2.]])
    """
    if isinstance(x, Tensor):
        return x[:, torch.from_numpy(columns)]
    csr = x.x_ng
    parts = csr.values(), csr.col_indices(), csr.crow_indices()
    whole = sparse.csr_matrix(tuple(part.cpu().numpy() for part in parts), csr.shape)
    kept = to_torch(whole[:, columns]).to(csr.device)
    centre = x.input_g[..., torch.from_numpy(columns).to(csr.device)]
    part = SparseInput(kept, centre, x.group)
    # Of proteins, say, hardly any count is zero, though most of the genes beside them are.
    return part if kept.values().numel() < DENSITY * kept.numel() else part.to_dense()


def hidden(x: Tensor | SparseInput, keep_nk: Tensor, code_g: Tensor) -> Tensor | SparseInput:
    """Return the encoders' input with zeros, a feature's mean, in modalities not kept of a cell.

    Examples
    --------
    >>> keep_nk, code_g = torch.tensor([[True, False]]), torch.tensor([0, 0, 1])
    >>> hidden(torch.ones(1, 3), keep_nk, code_g)
    tensor([[1., 1., 0.]])
    """
    if isinstance(x, Tensor):
        return x.where(keep_nk[:, code_g], 0.0)
    csr, centre = x.x_ng, x.input_g
    keep = keep_nk[rows_of(csr), code_g[csr.col_indices().long()]]
    parts = csr.crow_indices(), csr.col_indices(), csr.values().where(keep, 0.0)
    kept = torch.sparse_csr_tensor(*parts, csr.shape, check_invariants=False)
    group = torch.zeros(len(keep_nk), dtype=torch.long) if x.group is None else x.group
    centre = centre.unsqueeze(0) if x.group is None else centre
    group = group.to(keep_nk.device)
    kind_u, kind_n = torch.cat([group[:, None], keep_nk], 1).unique(dim=0, return_inverse=True)
    centre_ug = centre[kind_u[:, 0]] * kind_u[:, 1:][:, code_g]
    return SparseInput(kept, centre_ug, kind_n)
