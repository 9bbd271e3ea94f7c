"""The amortised posterior: a factored normal per latent, from encoders (paper, equation 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_mgvi.core.copies import Latents
from pyro_mgvi.core.foreign_sampling import ForeignSample
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import DataKind, Encoder, EncoderInput, Moments
from pyro_mgvi.core.sample_effects import EffectPosterior, of_cells
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.kernels.compiled import compilable
from pyro_mgvi.kernels.modalities import scaled_log_of
from pyro_mgvi.kernels.sparse import SparseInput, scaled_log, to_dense
from pyro_mgvi.model.active_dims import ActiveDims
from pyro_mgvi.model.structure import GroupedModule
from pyro_mgvi.networks import SeparateEncoders
from pyro_mgvi.support.values import whole_number

CLOSED = 1e-6  # scale of an inactive dimension: a Dirac for all that matters
LIBRARY_SCALE = 0.1  # of the log library, where the encoder says nothing about it


class Guide(GroupedModule):
    """Amortised guide for :class:`~pyro_mgvi.model.Model`, with the same call signature.

    Parameters
    ----------
    latents
        Latent families, bound to the groups.
    initial
        Data-dependent initial values: scale and centre of the encoders' input.
    encoder
        Class (or ``functools.partial`` of one) that maps log counts to posteriors.
    observed_library
        Leave out ``library``, which the model then observes.
    data_kind
        What the model's likelihood is of; only counts have a library.
    foreign_sample
        In training, a copy is encoded for the cells that own it and, beside them, at least so
        many random others of the minibatch, which stand for the rest
        (:mod:`pyro_mgvi.core.foreign_sampling`). The loss keeps its expectation, and a step's
        cost grows less with the number of groups. All copies of a family encode as many cells as
        the one with the most owners, so it saves little where one group has most cells. None for
        all cells.
    active, name
        See :class:`~pyro_mgvi.model.structure.GroupedModule`.

    Raises
    ------
    SettingsError
        If ``foreign_sample`` is below 1: nothing would then hold foreign copies at zero.
    """

    input_g: Tensor
    depth: Tensor

    def __init__(
        self,
        latents: Latents,
        initial: InitialValues,
        encoder: Callable[..., Encoder] = SeparateEncoders,
        observed_library: bool = False,
        data_kind: DataKind = DataKind.COUNTS,
        foreign_sample: int | None = None,
        active: ActiveDims | None = None,
        name: str | None = None,
    ):
        where = initial.measured_bg, initial.reference_g, initial.modalities
        super().__init__(latents, active, name, *where)
        if foreign_sample is not None:
            foreign_sample = whole_number("foreign_sample", foreign_sample, least=1)
        self.data_kind, self.foreign_sample = data_kind, foreign_sample
        self.has_library = data_kind is DataKind.COUNTS and not observed_library
        self.register_buffer("input_g", initial.input_g.clone())
        self.register_buffer("depth", initial.depth.clone())
        self.encoder = encoder(latents, initial)
        member_sb, shape = initial.sample_groups_sb, (initial.n_genes, initial.measured_bg)
        self.samples = None if member_sb is None else EffectPosterior(member_sb, *shape)

    def forward(
        self,
        counts: Tensor,
        group: Tensor,
        batch: Tensor | None = None,
        covariates: Tensor | None = None,
        index: Tensor | None = None,
        n_cells: float | None = None,
        sample: Tensor | None = None,
    ) -> None:
        """Draw every latent of the model for n cells; arguments as for the model.

        The group enters no encoder: each copy's sees every cell, and the prior decides what it
        should say about the cells that do not own the copy. Who owns a copy is declared for the
        objective to weigh by.
        """
        if self.samples is not None:
            self.samples.drawn()
        encoded = self.foreign_samples(group)
        moments = self.moments(counts, covariates, samples=encoded, group=group)
        with self.cells(len(group), index, n_cells):
            for latent in self.latents:
                chosen = encoded.get(latent.name)
                owned = self.at_site(latent, self.member(latent, group))
                loc, scale = (self.at_site(latent, part) for part in moments[latent.name])
                with self.copies(latent), chosen.weighted() if chosen else nullcontext():
                    posterior = dist.Normal(loc, scale).to_event(1)
                    # Pyro's annotation lists its own keys alone, and hands on any other.
                    infer = {"owned": owned}
                    pyro.sample(latent.name, posterior, infer=infer)  # type: ignore[arg-type]
            if self.has_library:
                pyro.sample("library", dist.LogNormal(*moments["library"]))

    def effects_of(self, sample_n: Tensor | None) -> Tensor | None:
        """Return the mean effect of each cell's sample, (n, genes); None of a model without."""
        if self.samples is None or sample_n is None:
            return None
        return of_cells(self.samples.moments()[0], sample_n)

    def foreign_samples(self, group: Tensor) -> dict[str, ForeignSample]:
        """Return which cells each copy encodes, for latents that are not everyone's.

        Empty in evaluation, and without ``foreign_sample``.
        """
        if self.foreign_sample is None or not self.training:
            return {}
        return {
            latent.name: ForeignSample.draw(self.member(latent, group), self.foreign_sample)
            for latent in self.latents.specific
        }

    def moments(
        self,
        counts: Tensor,
        covariates: Tensor | None = None,
        seen_g: Tensor | None = None,
        samples: Mapping[str, ForeignSample] | None = None,
        group: Tensor | None = None,
    ) -> Moments:
        """Return location and scale of each posterior, (S, n, dim); for ``library``, of its log.

        Where ``seen_g`` is 0, a gene's counts are not looked at: the encoders are given its mean,
        and a cell's total is that of the others, scaled up by the share that they usually have.
        The ``group`` of each cell is needed only where groups have genes of their own: those that
        a cell has not got are given as their mean, and are no part of its total.
        """
        counts = self.only_measured(counts, group)
        x_ng: Tensor | SparseInput
        if seen_g is not None:
            x_ng, total_n = self.partial_input(to_dense(counts), seen_g, group)
        else:
            total_n = self.totals(counts) if self.data_kind is DataKind.COUNTS else None
            x_ng = self.input(counts, total_n, group)
        has_nk = None if self.modalities is None or total_n is None else total_n > 0
        moments = self.encode(EncoderInput(x_ng, covariates, samples or {}, has_nk))
        correction = moments.pop("library", None)
        if total_n is not None and self.modalities is None:
            log_total_n = total_n.clamp(min=1.0).log()  # an empty cell may be drawn from the prior
            if correction is None:
                zero = torch.zeros_like(log_total_n)
                correction = zero, torch.full_like(log_total_n, LIBRARY_SCALE)
            moments["library"] = log_total_n + correction[0], correction[1]
        return moments

    def input(
        self, counts: Tensor, total_n: Tensor | None = None, group: Tensor | None = None
    ) -> Tensor | SparseInput:
        """Return what all encoders see: log counts at one depth, centred per gene.

        Raw counts would let them learn depth and cell types. ``total_n`` holds the cells' totals,
        if they are known already. Genes that a cell's ``group`` has not got are at their centre.
        """
        if self.modalities is not None:
            return self._input_of_modalities(counts, total_n, group)
        mostly_zero = counts.layout == torch.sparse_csr
        measured_ng = self.measured(group)
        if measured_ng is not None:
            return self._measured_input(counts, total_n, group, measured_ng)
        if self.data_kind is not DataKind.COUNTS:
            return SparseInput(counts, self.input_g) if mostly_zero else counts - self.input_g
        total_n = self.totals(counts) if total_n is None else total_n
        factor_n = self.depth / total_n.clamp(min=1.0)
        if mostly_zero:
            return SparseInput(scaled_log(counts, factor_n), self.input_g)
        return _centred_log(counts, factor_n.unsqueeze(-1), self.input_g)

    def _measured_input(
        self, counts: Tensor, total_n: Tensor | None, group: Tensor | None, measured_ng: Tensor
    ) -> Tensor | SparseInput:
        """Return the input where groups have genes of their own; absent ones have no count."""
        values = self.data_kind is not DataKind.COUNTS
        if not values:
            total_n = self.totals(counts) if total_n is None else total_n
            factor_n = self.depth[group] / total_n.clamp(min=1.0)
        if counts.layout == torch.sparse_csr:
            assert self.measured_bg is not None  # for this method
            x_ng = counts if values else scaled_log(counts, factor_n)
            return SparseInput(x_ng, self.input_g * self.measured_bg, group)
        if values:
            return (counts - self.input_g).where(measured_ng, 0.0)
        centred_ng = _centred_log(counts, factor_n.unsqueeze(-1), self.input_g)
        return centred_ng.where(measured_ng, 0.0)

    def _input_of_modalities(
        self, counts: Tensor, total_nk: Tensor | None, group: Tensor | None
    ) -> Tensor | SparseInput:
        """Return the input of several modalities, each at its own depth.

        Features of one of which a cell has no count are at their centre, as absent ones are.
        """
        assert self.modalities is not None and self.code_g is not None
        if group is None:
            raise SettingsError("modalities are at a depth of each group: give the cells' group")
        total_nk = self.totals(counts) if total_nk is None else total_nk
        factor_nk, has_nk = self.depth[group] / total_nk.clamp(min=1.0), total_nk > 0
        if counts.layout == torch.sparse_csr:
            kind_u, kind_n = torch.cat([group.unsqueeze(1), has_nk], 1).unique(
                dim=0, return_inverse=True
            )  # kinds of cells: each has a centre of its own
            has_ug = self.modalities.spread(kind_u[:, 1:])
            if self.measured_bg is not None:
                has_ug = has_ug * self.measured_bg[kind_u[:, 0]]
            x_ng = scaled_log_of(counts, factor_nk, self.code_g)
            return SparseInput(x_ng, self.input_g * has_ug, kind_n)
        has_ng = self.modalities.spread(has_nk)
        if self.measured_bg is not None:
            has_ng = has_ng & self.measured_bg[group]
        centred_ng = _centred_log(counts, self.modalities.spread(factor_nk), self.input_g)
        return centred_ng.where(has_ng, 0.0)

    def partial_input(
        self, counts: Tensor, seen_g: Tensor, group: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the encoders' input from some genes alone, and the totals that these suggest."""
        if self.data_kind is not DataKind.COUNTS:
            return to_dense(self.input(counts, group=group)) * seen_g, None
        usual_g = self._usual()
        if self.modalities is not None:
            usual_bg = usual_g if self.measured_bg is None else usual_g * self.measured_bg
            usual_bk = self.modalities.totals(usual_bg.expand(len(self.depth), -1))
            seen_bk = self.modalities.totals(usual_bg * seen_g).expand_as(usual_bk)
            total_nk = self.totals(counts * seen_g) * (usual_bk / seen_bk.clamp(min=1e-6))[group]
            return to_dense(self.input(counts, total_nk, group)) * seen_g, total_nk
        if self.measured_bg is None:
            share = usual_g.sum() / (usual_g @ seen_g).clamp(min=1e-6)
        else:
            usual_bg = usual_g * self.measured_bg
            share = (usual_bg.sum(1) / (usual_bg @ seen_g).clamp(min=1e-6))[group]
        among_g = seen_g if self.reference_g is None else seen_g * self.reference_g
        total_n = (counts @ among_g) * share
        return to_dense(self.input(counts, total_n, group)) * seen_g, total_n

    def _usual(self) -> Tensor:
        """Return the usual counts at one depth of the genes that make up a library, (genes,)."""
        usual_g = self.input_g.expm1()
        return usual_g if self.reference_g is None else usual_g * self.reference_g

    def depths_with(self, measured_bg: Tensor | None) -> Tensor:
        """Return the depth of the input with one more group, whose genes may be a part of all."""
        if measured_bg is None:
            return self.depth
        usual_g = self._usual()
        share_b = measured_bg.to(usual_g) @ usual_g / usual_g.sum()
        before = self.depth.expand(len(share_b) - 1)
        new = (before / share_b[:-1]).mean() * share_b[-1]
        return torch.cat([before, new.unsqueeze(0)])

    def encode(self, x: EncoderInput) -> Moments:
        """Return location and scale of each posterior from the encoders' input, (S, n, dim).

        That of ``library`` is still the correction to the observed log size.
        """
        moments: Moments = self.encoder(x)
        for latent in self.latents:
            if not self.active.all_active(latent.name):
                active_s1d = self.active[latent.name].unsqueeze(1)
                loc, scale = moments[latent.name]
                moments[latent.name] = loc.where(active_s1d, 0.0), scale.where(active_s1d, CLOSED)
        return moments


@compilable()
def _centred_log(counts_ng: Tensor, factor_n1: Tensor, input_g: Tensor) -> Tensor:
    return torch.log1p(counts_ng * factor_n1) - input_g
