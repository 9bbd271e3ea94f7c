"""Data-dependent initial values: what moments say before the first gradient step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class InitialValues(NamedTuple):
    """Initial values of a model's weights, and the priors that are set from data.

    Attributes
    ----------
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
        Library size to which the encoders' input is scaled, in counts: one, or, where groups have
        genes of their own, one for each group, (groups,).
    n_covariates
        Number of covariate columns.
    n_group_b
        Number of cells of each group, (groups,).
    measured_bg
        Which group has which gene, boolean (groups, genes); None where all have all.
    reference_g
        Genes whose counts make up a cell's library, boolean (genes,); None where all do. Where
        groups have genes of their own, these are what all groups have.
    """

    log_rate_g: Tensor
    offset_bg: Tensor
    log_theta_g: Tensor
    gate_logits_g: Tensor
    log_library_b2: Tensor
    input_g: Tensor
    depth: Tensor
    n_covariates: int = 0
    n_group_b: Tensor = torch.ones(1)
    measured_bg: Tensor | None = None
    reference_g: Tensor | None = None

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return self.log_theta_g.shape[0]

    @property
    def n_inputs(self) -> int:
        """Number of inputs of an encoder: genes and covariates."""
        return self.n_genes + self.n_covariates

    @classmethod
    def blank(
        cls,
        n_genes: int,
        n_groups: int,
        n_batches: int = 1,
        n_covariates: int = 0,
        measured_bg: Tensor | None = None,
    ) -> InitialValues:
        """Return neutral values of the right shapes, for example before loading weights."""
        library = torch.tensor([[7.0, 1.0]]).repeat(n_batches, 1)
        zeros = torch.zeros(n_genes)
        offset = torch.zeros(n_groups, n_genes)
        depth = torch.tensor(1e3) if measured_bg is None else torch.full((n_groups,), 1e3)
        sizes = torch.ones(n_groups)
        values = zeros, offset, zeros, zeros, library, zeros, depth, n_covariates, sizes
        return cls(*values, measured_bg, None if measured_bg is None else measured_bg.all(0))
