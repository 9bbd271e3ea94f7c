"""The generative program: what the paper's section 2 says, as a Pyro model."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.runtime import am_i_wrapped
from torch import Tensor
from torch.nn.functional import one_hot

from pyro_mgvi.core.copies import Latents
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import (
    DataKind,
    Decoder,
    DecoderInput,
    HandlesAbsent,
    Likelihood,
    Part,
)
from pyro_mgvi.core.latents import Latent
from pyro_mgvi.core.priors import dimension_prior
from pyro_mgvi.core.sample_effects import EFFECT_TERMS, PLATE, EffectPrior, shifted
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.kernels.simplex import log_share
from pyro_mgvi.kernels.sparse import to_dense
from pyro_mgvi.likelihoods import ZINB
from pyro_mgvi.likelihoods.measured import log_totals
from pyro_mgvi.model.active_dims import ActiveDims
from pyro_mgvi.model.evidence import Evidence
from pyro_mgvi.model.structure import Generated, GroupedModule
from pyro_mgvi.networks import JointDecoder


class Model(GroupedModule):
    """Generative model of grouped counts (paper, section 2).

    Sites: one per latent family (``z``, ``t``), ``library`` and ``counts``, and the factor
    ``decoder_prior`` if the decoder's weights have a prior; plates: ``cells`` (dim -1) and one
    per family of several copies (dim -2). Where samples have effects, beside these the site
    ``sample_effect`` in the plate ``samples`` (dim -1), and the factor ``sample_scale_prior``.

    Parameters
    ----------
    latents
        Latent families, bound to the groups.
    initial
        Data-dependent initial values and priors.
    decoder
        Class (or ``functools.partial`` of one) that maps latents to expression.
    likelihood
        Class (or partial) of the observation model.
    observed_library
        Take the library size as observed instead of as a latent variable.
    active, name
        See :class:`~pyro_mgvi.model.structure.GroupedModule`.
    """

    log_library_b2: Tensor

    def __init__(
        self,
        latents: Latents,
        initial: InitialValues,
        decoder: Callable[..., Decoder] = JointDecoder,
        likelihood: Callable[..., Likelihood] = ZINB,
        observed_library: bool = False,
        active: ActiveDims | None = None,
        name: str | None = None,
    ):
        where = initial.measured_bg, initial.reference_g, initial.modalities
        super().__init__(latents, active, name, *where)
        if initial.modalities is not None and not observed_library:
            raise SettingsError("several modalities have observed libraries: observed_library=True")
        self.observed_library = observed_library
        self.register_buffer("log_library_b2", initial.log_library_b2.clone())
        self.likelihood = likelihood(initial)
        self.decoder = decoder(latents, initial, n_outputs=self.likelihood.n_outputs)
        has_bg = initial.measured_bg if initial.modalities is None else None
        member_sb, n_genes = initial.sample_groups_sb, initial.n_genes
        self.samples = None if member_sb is None else EffectPrior(len(member_sb), n_genes)
        self.evidence = None if has_bg is None else Evidence(latents, has_bg)

    @property
    def data_kind(self) -> DataKind:
        """What kind of data the likelihood is of."""
        return self.likelihood.data_kind

    @property
    def sites(self) -> list[str]:
        """Names of all sample sites and plates, for ``poutine.block(hide=...)``."""
        plates = [f"{x.name}_copies" for x in self.latents if x.n_copies > 1]
        latents = [latent.name for latent in self.latents]
        of_samples = [] if self.samples is None else [*EFFECT_TERMS, PLATE]
        return [*latents, "library", "counts", "decoder_prior", "cells", *plates, *of_samples]

    def forward(
        self,
        counts: Tensor | None,
        group: Tensor,
        batch: Tensor | None = None,
        covariates: Tensor | None = None,
        index: Tensor | None = None,
        n_cells: float | None = None,
        sample: Tensor | None = None,
    ) -> Tensor:
        """Declare all sites for n cells and return the counts.

        Parameters
        ----------
        counts
            Observed counts, (n, genes), dense or sparse CSR; None to draw from the prior.
        group, batch
            Integer codes, (n,); ``batch`` is the batch of the library prior.
        covariates
            Covariate matrix (n, covariates), or None.
        index, n_cells
            Positions of a minibatch's cells in the training set, (n,), and how many cells that
            has: the ELBO is scaled to it.
        sample
            Codes of the cells' samples, (n,), -1 for unknown ones, which have an effect of zero.

        Raises
        ------
        SettingsError
            If there is an ``index`` without ``n_cells``.
        """
        return self.generate(counts, group, batch, covariates, index, n_cells, sample).counts

    def generate(
        self,
        counts: Tensor | None,
        group: Tensor,
        batch: Tensor | None = None,
        covariates: Tensor | None = None,
        index: Tensor | None = None,
        n_cells: float | None = None,
        sample: Tensor | None = None,
    ) -> Generated:
        """Do as :meth:`forward`, and return plate and latents, too, for a larger program."""
        n = len(group)
        if counts is not None and counts.layout == torch.sparse_csr:
            counts = to_dense(counts)
        if counts is not None:
            counts = self.only_measured(counts, group)
        log_prior = self.decoder.log_prior()
        if log_prior is not None and am_i_wrapped():  # weights are at their posterior's mode
            pyro.factor("decoder_prior", log_prior)
        effect_ng = None if self.samples is None else self.samples.drawn(sample)
        cells, values, log_library = self.cells(n, index, n_cells), {}, None
        with cells:
            for latent in self.latents:
                with self.copies(latent):
                    values[latent.name] = pyro.sample(latent.name, self.prior(latent, group))
            if self.data_kind is DataKind.COUNTS:
                log_library = self._library(counts, batch, n)
            stacked = {each.name: self.from_site(each, values[each.name]) for each in self.latents}
            parts = self._learnt(stacked, group, covariates)
            if all(each.n_copies == 1 and values[each.name].dim() == 3 for each in self.latents):
                # no plate of copies: particles are in its place
                parts = [tuple(each.squeeze(-3) for each in part) for part in parts]
            parts = shifted(parts, effect_ng)
            distribution = self.distribution(parts, log_library, group)
            counts = pyro.sample("counts", distribution, obs=counts)
        return Generated(cells, values, log_library, counts)

    def _library(self, counts: Tensor | None, batch_n: Tensor | None, n: int) -> Tensor:
        """Declare the library and return its log, (n,), or of several modalities (n, them)."""
        prior = self.library_prior(batch_n, n)
        if self.modalities is not None and counts is not None:
            total_nk = self.totals(counts)
            prior = dist.LogNormal(prior.loc, prior.scale).mask(total_nk > 0)
            pyro.sample("library", prior.to_event(1), obs=total_nk.clamp(min=1.0))
            return log_totals(total_nk)
        observed = self.totals(counts) if counts is not None and self.observed_library else None
        prior = prior if self.modalities is None else prior.to_event(1)
        drawn: Tensor = pyro.sample("library", prior, obs=observed)
        return drawn.log()

    def distribution(
        self, parts: list[Part], log_library: Tensor | None, group_n: Tensor
    ) -> dist.TorchDistribution:
        """Return the distribution of the cells' values, of the genes that their groups have.

        Parameters
        ----------
        parts
            Of the decoder.
        log_library
            Log of the cells' totals, (n,), over the genes that make up their library.
        group_n
            Codes of the cells' groups, (n,).
        """
        measured_ng = self.measured(group_n)
        if measured_ng is None:
            values: dist.TorchDistribution = self.likelihood(parts, log_library)
            return values
        if log_library is not None and self.reference_g is not None:
            among_ng = measured_ng & self.reference_g
            log_library = log_library - log_share(parts, among_ng, measured_ng)
        return self._handles_absent().of_measured(parts, log_library, measured_ng)

    def expression(
        self, parts: list[Part], group_n: Tensor, measured_ng: Tensor | None = None
    ) -> Tensor:
        """Return expected expression, (..., n, genes).

        Shares add up to 1 over ``measured_ng``, by default the genes that a cell's group has;
        others are predictions in their units.
        """
        measured_ng = self.measured(group_n) if measured_ng is None else measured_ng
        if measured_ng is None:
            return self.likelihood.expression(parts)
        return self._handles_absent().expression_of_measured(parts, measured_ng)

    def _handles_absent(self) -> HandlesAbsent:
        if not isinstance(self.likelihood, HandlesAbsent):
            raise SettingsError(
                f"{type(self.likelihood).__name__} does not handle genes that a group has not got "
                "(core.HandlesAbsent): use ZINB, NB, Poisson or Gaussian, or no feature_masks"
            )
        return self.likelihood

    def prior(self, latent: Latent, group_n: Tensor) -> dist.TorchDistribution:
        """Return the prior of a latent's site: the owners' for the cells that own a copy."""
        active_sd = self.active[latent.name]
        shape = self.at_site(latent, active_sd.unsqueeze(1)).shape
        own = dimension_prior(latent.prior, shape, self.log_library_b2)
        if not self.active.all_active(latent.name):
            closed = dist.Delta(self.log_library_b2.new_zeros(shape))
            own = dist.MaskedMixture(self.at_site(latent, active_sd.unsqueeze(1)), closed, own)
        own = own.to_event(1)
        member = self.at_site(latent, self.member(latent, group_n))
        if latent.covers(self.latents.groups):
            everyones: dist.TorchDistribution = own.expand(member.shape)
            return everyones
        return latent.foreign(own, member)

    def library_prior(self, batch_n: Tensor | None, n: int) -> dist.TorchDistribution:
        """Return the log-normal prior of the library size (paper, equation 4)."""
        stats = self.log_library_b2[batch_n if batch_n is not None else [0] * n]
        return dist.LogNormal(stats[..., 0], stats[..., 1])

    def observed_log_library(self, counts_ng: Tensor) -> Tensor | None:
        """Return the log of the cells' libraries, (n,); None for transformed values.

        Of several modalities (n, modalities), far below any other for one that a cell has not got.
        """
        if self.data_kind is not DataKind.COUNTS:
            return None
        total_n = self.totals(counts_ng)
        return total_n.log() if self.modalities is None else log_totals(total_n)

    def _learnt(
        self, values: dict[str, Tensor], group_n: Tensor, covariates: Tensor | None
    ) -> list[Part]:
        """Do as :meth:`decode`; in training, genes move the latents alone that they tell."""
        if self.evidence is None or not self.training:
            return self.decode(values, group_n, covariates)
        return self.evidence.decoded(lambda held: self.decode(held, group_n, covariates), values)

    def decode(
        self,
        values: dict[str, Tensor],
        group_n: Tensor,
        covariates: Tensor | None = None,
        group_weights: Tensor | None = None,
        effect_ng: Tensor | None = None,
    ) -> list[Part]:
        """Return the decoder's outputs, foreign copies at exact zeros.

        Parameters
        ----------
        values
            Of each latent, (..., S, n, dim).
        group_n
            Codes of the cells' groups, (n,).
        covariates
            (n, covariates), or None.
        group_weights
            Weight of each group's own terms (offset, response) for each cell, (n, groups); by
            default the cell's own group has all of it.
        effect_ng
            Effect of each cell's sample, (..., n, genes), or None.
        """
        group = None
        if group_weights is None:
            group, group_weights = group_n, one_hot(group_n, len(self.latents.groups))
        gated = {
            latent.name: values[latent.name] * self.member(latent, group_n).unsqueeze(-1)
            for latent in self.latents
        }
        weights = group_weights.to(self.log_library_b2)
        parts: list[Part] = self.decoder(DecoderInput(gated, weights, group, covariates))
        return shifted(parts, effect_ng)
