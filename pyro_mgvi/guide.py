"""The amortised posterior: a factored normal per latent, from encoders (paper, equation 6)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_mgvi.compiled import compilable
from pyro_mgvi.encoders import SeparateEncoders
from pyro_mgvi.foreign import ForeignSample
from pyro_mgvi.latents import Latent
from pyro_mgvi.model import GroupedModule
from pyro_mgvi.sparse import SparseInput, scaled_log, to_dense, totals
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
        samples = self.foreign_samples(group)
        posteriors = self.posteriors(counts, covariates, None, samples)
        with self.cells(len(group), self.n_cells, index):
            for latent in self.latents:
                sample = samples.get(latent.name)
                with self.copies(latent), sample.weighted() if sample else nullcontext():
                    posterior = dist.Normal(*posteriors[latent.name]).to_event(1)
                    pyro.sample(latent.name, posterior)
            if self.counts_only and not self.observed_library:
                pyro.sample("library", dist.LogNormal(*posteriors["library"]))

    def foreign_samples(self, group: Tensor) -> dict[str, ForeignSample]:
        """Return which cells each copy encodes, for latents that are not everyone's.

        Empty in evaluation and with encoders that encode all cells.
        """
        n_foreign = getattr(self.encoder, "foreign_sample", None)
        if n_foreign is None or not self.training:
            return {}
        some = (latent for latent in self.latents if not latent.covers(self.groups))
        return {
            latent.name: ForeignSample.draw(torch.atleast_2d(self.member(latent, group)), n_foreign)
            for latent in some
        }

    def posteriors(
        self,
        counts: Tensor,
        covariates: Tensor | None = None,
        seen_g: Tensor | None = None,
        samples: dict[str, ForeignSample] | None = None,
    ) -> dict:
        """Return location and scale of each posterior; of the log size for ``library``.

        Where ``seen_g`` is 0, the encoders are given a gene's mean instead of its counts.
        """
        if counts.layout == torch.sparse_csr and (
            seen_g is not None or not getattr(self.encoder, "takes_sparse", False)
        ):
            counts = to_dense(counts)
        total_n = totals(counts) if self.counts_only else None
        x = self.inputs(counts, total_n)
        posteriors = self.encode(x if seen_g is None else x * seen_g, covariates, samples)
        correction, scale = posteriors.pop("library")
        if self.counts_only:
            posteriors["library"] = total_n.log() + correction, scale
        return posteriors

    def inputs(self, counts: Tensor, total_n: Tensor | None = None) -> Tensor | SparseInput:
        """Return what all encoders see: log counts at one depth, centred per gene.

        Raw counts would let them learn depth and cell types. ``total_n`` holds the cells' totals,
        if they are known already.
        """
        if not self.counts_only:
            return counts - self.input_g
        factor_n = self.depth / (totals(counts) if total_n is None else total_n)
        if counts.layout == torch.sparse_csr:
            return SparseInput(scaled_log(counts, factor_n), self.input_g)
        return _centred_log(counts, factor_n.unsqueeze(-1), self.input_g)

    def encode(
        self, x_ng: Tensor | SparseInput, covariates: Tensor | None = None, samples=None
    ) -> dict:
        """Return location and scale of each posterior from the encoders' input.

        That of ``library`` is still the correction to the observed log size.
        """
        posteriors = self.encoder(x_ng, covariates, *([samples] if samples else []))
        for latent in self.latents:
            in_use = self.in_use(latent)
            if in_use.all():
                continue
            loc, scale = posteriors[latent.name]
            posteriors[latent.name] = loc * in_use, scale.where(in_use, OUT_OF_USE)
        return posteriors


@compilable()
def _centred_log(counts_ng: Tensor, factor_n1: Tensor, input_g: Tensor) -> Tensor:
    return torch.log1p(counts_ng * factor_n1) - input_g
