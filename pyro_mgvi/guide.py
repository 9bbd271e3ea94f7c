"""The amortised posterior: a factored normal per latent, from encoders (paper, equation 6)."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_mgvi.encoders import SeparateEncoders
from pyro_mgvi.latents import Latent
from pyro_mgvi.model import GroupedModule
from pyro_mgvi.sparse import SparseInput, scaled_log
from pyro_mgvi.start import Start

OUT_OF_USE = 1e-6  # scale of a dimension that is out of use: a Dirac for all that matters


class Guide(GroupedModule):
    """Amortised guide for :class:`~pyro_mgvi.model.Model`, with the same call signature.

    Parameters
    ----------
    latents, groups, name
        See :class:`~pyro_mgvi.model.GroupedModule`.
    start
        Data-dependent starting values: scale and centre of the encoders' input.
    encoder
        Class (or ``functools.partial`` of one) that maps log counts to posteriors.
    observed_library
        Leave out ``library``, which the model then observes.
    counts_only
        The data are counts; otherwise they are transformed already, and have no library.
    """

    def __init__(
        self,
        latents: Sequence[Latent],
        groups: Sequence[str],
        start: Start,
        encoder=SeparateEncoders,
        observed_library: bool = False,
        counts_only: bool = True,
        name: str | None = None,
    ):
        super().__init__(latents, groups, name)
        self.n_cells = start.n_cells
        self.observed_library, self.counts_only = observed_library, counts_only
        self.register_buffer("input_g", start.input_g.clone())
        self.register_buffer("depth", start.depth.clone())
        self.encoder = encoder(self.latents, start)

    def forward(self, counts, group, batch=None, covariates=None, index=None):
        """Draw every latent of the model for n cells; arguments as for the model.

        The group enters nowhere: each copy's encoder sees every cell, and the prior decides
        what it should say about the cells that do not own the copy.
        """
        posteriors = self.posteriors(counts, covariates)
        with self.cells(len(group), self.n_cells, index):
            for latent in self.latents:
                with self.copies(latent):
                    posterior = dist.Normal(*posteriors[latent.name]).to_event(1)
                    pyro.sample(latent.name, posterior)
            if self.counts_only and not self.observed_library:
                pyro.sample("library", dist.LogNormal(*posteriors["library"]))

    def posteriors(
        self, counts: Tensor, covariates: Tensor | None = None, seen_g: Tensor | None = None
    ) -> dict:
        """Return location and scale of each posterior; of the log size for ``library``.

        Where ``seen_g`` is 0, the encoders are given a gene's mean instead of its counts.
        """
        sparse = counts.layout == torch.sparse_csr
        if sparse and (seen_g is not None or not getattr(self.encoder, "takes_sparse", False)):
            counts, sparse = counts.to_dense(), False
        x, library = counts, None
        if sparse:
            x, library = scaled_log(counts, self.depth)
        elif self.counts_only:
            library = counts.sum(-1, keepdim=True)
            # All encoders see one input; raw counts would let them learn depth and cell types.
            x = torch.log1p(counts * (self.depth / library))
        x = SparseInput(x, self.input_g) if sparse else x - self.input_g
        posteriors = self.encoder(x if seen_g is None else x * seen_g, covariates)
        correction, scale = posteriors.pop("library")
        if library is not None:
            posteriors["library"] = library[..., 0].log() + correction, scale
        for latent in self.latents:
            loc, scale = posteriors[latent.name]
            in_use = self.in_use(latent)
            posteriors[latent.name] = loc * in_use, scale.where(in_use, OUT_OF_USE)
        return posteriors
