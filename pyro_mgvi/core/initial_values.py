"""Data-dependent initial values: what moments say before the first gradient step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_mgvi.core.modalities import Modalities


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
        Mean and standard deviation of the log library size per batch, (batches, 2); with several
        modalities, of each, (batches, modalities, 2).
    input_g
        Mean encoder input per gene, subtracted from it.
    depth
        Library size to which the encoders' input is scaled, in counts: one, or, where groups have
        genes of their own, one for each group, (groups,); with several modalities, (groups,
        modalities).
    n_covariates
        Number of covariate columns.
    n_group_b
        Number of cells of each group, (groups,).
    measured_bg
        Which group has which gene, boolean (groups, genes); None where all have all.
    reference_g
        Genes whose counts make up a cell's library, boolean (genes,); None where all do. Where
        groups have genes of their own, these are what all groups have.
    modalities
        Whose features these are, if of several modalities.
    sample_groups_sb
        Which sample has cells of which group, boolean (samples, groups), if samples have effects.
    """

    log_rate_g: Tensor
    offset_bg: Tensor
    log_theta_g: Tensor
    gate_logits_g: Tensor
    log_library_b2: Tensor
    input_g: Tensor
    depth: Tensor
    n_covariates: int = 0
    n_group_b: Tensor = torch.ones(1, dtype=torch.float32)
    measured_bg: Tensor | None = None
    reference_g: Tensor | None = None
    modalities: Modalities | None = None
    sample_groups_sb: Tensor | None = None

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
        modalities: Modalities | None = None,
        n_samples: int = 0,
    ) -> InitialValues:
        """Return neutral values of the right shapes, for example before loading weights."""
        dtype = torch.float32  # as data give them, whatever the default is
        library = torch.tensor([[7.0, 1.0]], dtype=dtype).repeat(n_batches, 1)
        zeros = torch.zeros(n_genes, dtype=dtype)
        offset = torch.zeros(n_groups, n_genes, dtype=dtype)
        depth = torch.full(() if measured_bg is None else (n_groups,), 1e3, dtype=dtype)
        sizes = torch.ones(n_groups, dtype=dtype)
        if modalities is not None:
            library = library.unsqueeze(1).repeat(1, len(modalities), 1)
            depth = torch.full((n_groups, len(modalities)), 1e3, dtype=dtype)
        values = zeros, offset, zeros, zeros, library, zeros, depth, n_covariates, sizes
        reference_g = None
        if measured_bg is not None and modalities is None:
            reference_g = measured_bg.all(0)
        samples_sb = torch.zeros(n_samples, n_groups, dtype=torch.bool) if n_samples else None
        return cls(*values, measured_bg, reference_g, modalities, samples_sb)

    def of_modality(self, name: str) -> InitialValues:
        """Return what is of one of several modalities.

        Groups without any of its features are as if they had all: none of their cells is looked at.
        """
        assert self.modalities is not None  # asked of several modalities alone
        columns, code = self.modalities.columns[name], self.modalities.names.index(name)
        has_bg = None
        if self.measured_bg is not None and not self.measured_bg[:, columns].all():
            has_bg = self.measured_bg[:, columns]
        return self._part(columns, code)._replace(measured_bg=has_bg, modalities=None)

    def of_features(self, names: tuple[str, ...]) -> InitialValues:
        """Return what encoders of some modalities are told, their features side by side."""
        if self.modalities is None or names == self.modalities.names:
            return self
        chosen = torch.cat([torch.arange(self.n_genes)[self.modalities.columns[n]] for n in names])
        codes = [self.modalities.names.index(name) for name in names]
        return self._part(chosen, codes)._replace(
            measured_bg=None if self.measured_bg is None else self.measured_bg[:, chosen],
            modalities=Modalities(names, tuple(self.modalities.sizes[code] for code in codes)),
        )

    def _part(self, columns: slice | Tensor, codes: int | list[int]) -> InitialValues:
        """Return the values of some features, and of the modalities that these are of."""
        return self._replace(
            log_rate_g=self.log_rate_g[columns],
            offset_bg=self.offset_bg[:, columns],
            log_theta_g=self.log_theta_g[columns],
            gate_logits_g=self.gate_logits_g[columns],
            log_library_b2=self.log_library_b2[:, codes],
            input_g=self.input_g[columns],
            depth=self.depth[:, codes],
        )
