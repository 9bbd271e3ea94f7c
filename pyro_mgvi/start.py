"""Data-dependent starting values: what moments say before the first gradient step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor


class Start(NamedTuple):
    """Starting values of a model, and the priors that are set from data.

    Attributes
    ----------
    n_cells
        Number of cells that the ``cells`` plate stands for.
    log_rate_g
        Log share of each gene in all counts.
    offset_bg
        Log ratio of each group's shares to the overall ones, (groups, genes).
    log_theta_g
        Log inverse dispersion per gene, by moments.
    gate_logits_g
        Log-odds of drop-out per gene, well below the observed zeros.
    log_library_b2
        Mean and standard deviation of the log library size per batch, (batches, 2).
    input_g
        Mean encoder input per gene, subtracted from it.
    depth
        Library size to which the encoders' input is scaled, in counts.
    n_covariates
        Number of covariate columns.
    n_group_b
        Number of cells of each group, (groups,).
    """

    n_cells: int
    log_rate_g: Tensor
    offset_bg: Tensor
    log_theta_g: Tensor
    gate_logits_g: Tensor
    log_library_b2: Tensor
    input_g: Tensor
    depth: Tensor
    n_covariates: int = 0
    n_group_b: Tensor = torch.ones(1)

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return self.log_theta_g.shape[0]

    @classmethod
    def blank(cls, n_genes: int, n_groups: int, n_batches: int = 1, n_covariates: int = 0) -> Start:
        """Return neutral values of the right shapes, for example before loading weights."""
        library = torch.tensor([[7.0, 1.0]]).repeat(n_batches, 1)
        zeros = torch.zeros(n_genes)
        offset = torch.zeros(n_groups, n_genes)
        depth = torch.tensor(1e3)
        sizes = torch.ones(n_groups)
        return cls(1, zeros, offset, zeros, zeros, library, zeros, depth, n_covariates, sizes)


PSEUDOCOUNT = 2.0  # shrinks the groups' offsets of rarely seen genes towards none
GATE_SHARE = 0.05  # share of the observed zeros that drop-out starts with
BLOCK = 4096  # cells at a time


def start_from_moments(data) -> Start:
    """Estimate starting values from :class:`~pyro_mgvi.data.GroupedCounts` in two passes.

    The inverse dispersion comes from the excess of the squared residuals around
    ``library * share`` over the Poisson variance.
    """
    n, n_genes = data.x.shape
    n_groups = len(data.schema.groups)
    totals_bg, zeros_g = np.zeros((n_groups, n_genes)), np.zeros(n_genes)
    library_n = np.zeros(n)
    for cells, x in _blocks(data.x):
        library_n[cells] = np.asarray(x.sum(1)).ravel()
        zeros_g += x.shape[0] - np.asarray((x > 0).sum(0)).ravel()
        for group in range(n_groups):
            mine = data.group_n[cells] == group
            totals_bg[group] += np.asarray(x[mine].sum(0)).ravel()
    total_g = totals_bg.sum(0)
    share_g = (total_g + 0.5) / (total_g.sum() + 0.5 * n_genes)
    expected_bg = totals_bg.sum(1, keepdims=True) * share_g
    offset_bg = np.log((totals_bg + PSEUDOCOUNT) / (expected_bg + PSEUDOCOUNT))
    depth = float(np.median(library_n))
    squares_g, input_g = np.zeros(n_genes), np.zeros(n_genes)
    for cells, x in _blocks(data.x):
        library = library_n[cells][:, None]
        # sum (x - lp)^2 - lp, expanded so that a sparse x stays sparse
        squares_g += np.asarray(x.multiply(x).sum(0)).ravel()
        squares_g -= 2 * share_g * np.asarray(x.multiply(library).sum(0)).ravel()
        input_g += np.asarray(x.multiply(depth / library).log1p().sum(0)).ravel()
    squares_g += share_g**2 * (library_n**2).sum() - share_g * library_n.sum()
    theta_g = share_g**2 * (library_n**2).sum() / np.maximum(squares_g, 1e-3)
    gate_g = np.clip(GATE_SHARE * zeros_g / n, 1e-4, 0.5)
    log_library = np.log(library_n)
    batches = [log_library[data.batch_n == batch] for batch in range(len(data.schema.batches))]
    library_b2 = [[batch.mean(), max(batch.std(), 0.1)] for batch in batches]

    def tensor(values):
        return torch.tensor(np.asarray(values), dtype=torch.float32)

    return Start(
        n_cells=n,
        log_rate_g=tensor(np.log(share_g)),
        offset_bg=tensor(offset_bg),
        log_theta_g=tensor(np.log(np.clip(theta_g, 0.05, 100.0))),
        gate_logits_g=tensor(np.log(gate_g / (1 - gate_g))),
        log_library_b2=tensor(library_b2),
        input_g=tensor(input_g / n),
        depth=tensor(depth),
        n_covariates=data.schema.n_covariates,
        n_group_b=tensor(np.bincount(data.group_n, minlength=n_groups)),
    )


def start_from_values(data) -> Start:
    """Estimate starting values from transformed data: means, group shifts and precisions.

    ``log_rate_g`` is then a gene's mean, ``offset_bg`` a group's shift of it, and
    ``log_theta_g`` the log precision within groups; drop-out and library mean nothing.
    """
    n, n_genes = data.x.shape
    n_groups = len(data.schema.groups)
    total_bg, square_g = np.zeros((n_groups, n_genes)), np.zeros(n_genes)
    for cells, x in _blocks(data.x):
        square_g += np.asarray(x.multiply(x).sum(0)).ravel()
        for group in range(n_groups):
            total_bg[group] += np.asarray(x[data.group_n[cells] == group].sum(0)).ravel()
    size_b1 = np.bincount(data.group_n, minlength=n_groups)[:, None]
    mean_g, mean_bg = total_bg.sum(0) / n, total_bg / np.maximum(size_b1, 1)
    variance_g = (square_g - (size_b1 * mean_bg**2).sum(0)) / n
    blank = Start.blank(n_genes, n_groups, len(data.schema.batches), data.schema.n_covariates)
    float32 = {"dtype": torch.float32}
    return blank._replace(
        n_cells=n,
        log_rate_g=torch.tensor(mean_g, **float32),
        offset_bg=torch.tensor(mean_bg - mean_g, **float32),
        log_theta_g=torch.tensor(-np.log(np.maximum(variance_g, 1e-4)), **float32),
        input_g=torch.tensor(mean_g, **float32),
        n_group_b=torch.tensor(size_b1[:, 0], **float32),
    )


def _blocks(x):
    for start in range(0, x.shape[0], BLOCK):
        cells = slice(start, start + BLOCK)
        yield cells, sparse.csr_matrix(x[cells], dtype=np.float64)
