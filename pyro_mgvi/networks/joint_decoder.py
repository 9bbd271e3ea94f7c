"""The default decoder: one network of all latents, and what each group does to expression."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from pyro_mgvi.core.copies import Copy, Latents
from pyro_mgvi.core.design import is_identity
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import (
    Decoder,
    DecoderInput,
    DimensionStart,
    HasGroupEntries,
    HasGroupOffsets,
    Part,
    StartsDimensions,
)
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.kernels.grouped_product import add_products
from pyro_mgvi.kernels.log_cauchy import log_cauchy
from pyro_mgvi.networks.comparable import Comparable, filled, offset_terms, reached
from pyro_mgvi.networks.layers import ListOf
from pyro_mgvi.support.values import number, whole_number

GROUP_BY_GROUP = 8  # number of groups from which products of the own columns alone are faster

SPARSITY = 0.05  # scale of the prior on loadings, in log expression per unit of a latent
RESPONSE = 0.3  # of the median group offset: how far groups are expected to respond differently


class JointDecoder(Decoder, StartsDimensions, HasGroupOffsets, HasGroupEntries):
    """One network of all latents together (paper, equation 3), and what groups do to it.

    Where groups differ much, each shared state looks a little different in each of them. That
    difference is a function of z and the group. A decoder that can express it leaves to the
    private latents what they are for; otherwise they encode the shared state once more.

    Where several columns make up the groups, what the levels do is added up
    (:attr:`Latents.terms <pyro_mgvi.Latents.terms>`): each term has its offset and its response.

    Parameters
    ----------
    latents, initial, n_outputs
        Set by :class:`~pyro_mgvi.model.Model`.
    hidden
        Width of the hidden layer; 0 for none (see :class:`LogLinearDecoder`).
    linear
        Add a log-linear path beside the hidden layer.
    offset
        Let each group shift the location by an amount of its own, so that a mean shift needs
        no latent.
    response
        Let that shift depend on the shared latents: each group has a log-linear response to z
        of its own. Standard deviation of its normal prior, in log expression per unit of z;
        0 for none. By default 0.3 of the median gene's shift between groups: where most genes
        differ (protocols, species), shared states may look different, too; where few do, a
        group's program cannot pass as its response.
    sparsity
        Scale of a Cauchy prior on the weights that read the latents: few genes follow a program,
        and a free loading on each gene fits noise of the few cells that own a copy, with traces of
        everything. 0 for none.

    Examples
    --------
    A deeper network is one method more:

    >>> class Deeper(JointDecoder):
    ...     def further_layers(self, hidden):
    ...         return nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU())
    """

    response_scale: Tensor
    own_gk: Tensor | None
    terms_bt: Tensor | None

    def __init__(
        self,
        latents: Latents,
        initial: InitialValues,
        n_outputs: int,
        hidden: int = 128,
        linear: bool = True,
        offset: bool = True,
        response: float | None = None,
        sparsity: float = SPARSITY,
    ):
        super().__init__()
        hidden = whole_number("hidden of the decoder", hidden, least=0)
        self.sparsity = number("sparsity of the decoder", sparsity, least=0.0)
        self.dims = {copy.key: copy.dim for copy in latents.copies}
        self.first_input = dict(zip(self.dims, accumulate(self.dims.values(), initial=0)))
        self.shared = tuple(latent.name for latent in latents.shared)
        n_shared = sum(copy.dim for x in latents.shared for copy in latents.copies_of(x.name))
        self.n_latent, terms_bt = latents.n_dims, latents.terms
        n_inputs = self.n_latent + initial.n_covariates
        self.trunk = nn.Linear(n_inputs, hidden) if hidden else None
        self.further = self.further_layers(hidden)
        if not isinstance(self.further, nn.Identity) and not (hidden and linear):
            raise SettingsError("further layers need hidden units, and the log-linear path")
        self.heads = ListOf(
            nn.Linear(hidden or n_inputs, initial.n_genes) for _ in range(n_outputs)
        )
        self.linear = None  # as the other terms (inputs, genes), so that no step transposes it
        if linear and hidden:
            weight_gk = nn.Linear(n_inputs, initial.n_genes, bias=False).weight.detach()
            self.linear = nn.Parameter(weight_gk.T.contiguous())
        measured_bg = initial.measured_bg
        self.comparable = (
            None if measured_bg is None else Comparable(measured_bg, latents.term_blocks)
        )
        start_tg = offset_terms(self.comparable, initial.offset_bg, terms_bt, initial.n_group_b)
        self.offset = nn.Parameter(start_tg) if offset else None
        self.response = None
        if response != 0 and n_shared:
            self.response = nn.Parameter(torch.zeros(len(start_tg) * n_shared, initial.n_genes))
            scale = self.typical_shift(start_tg) * RESPONSE if response is None else response
            self.register_buffer("response_scale", torch.as_tensor(scale).clamp(min=1e-3))
        self.register_buffer("own_gk", self.own_inputs(latents), persistent=False)
        several = None if is_identity(terms_bt) else terms_bt.float()  # of one column: no product
        self.register_buffer("terms_bt", several, persistent=False)
        self.start_at(initial)
        if measured_bg is not None:
            self.keep_reached(reached(latents, measured_bg))

    def typical_shift(self, start_tg: Tensor) -> Tensor:
        """Return how far the median gene differs between the groups that have it."""
        shift_tg = start_tg.abs()
        known = shift_tg if self.comparable is None else self.comparable.known(shift_tg)
        return known.median() if known.numel() else known.new_zeros(())  # one group has them all

    def further_layers(self, hidden: int) -> nn.Module:
        """Return what lies between the hidden layer and the heads, both ``hidden`` wide."""
        return nn.Identity()

    def own_inputs(self, latents: Latents) -> Tensor | None:
        """Return which inputs of the location's terms are not zero in which group, boolean."""
        each = latents.terms
        terms = []
        if self.linear is not None:
            terms += [latents.membership(x.name).repeat_interleave(x.dim, 0).T for x in latents]
            n_covariates = len(self.linear) - self.n_latent
            terms.append(torch.ones(len(each), n_covariates, dtype=torch.bool))
        if self.offset is not None:
            terms.append(each)
        if self.response is not None:
            terms.append(each.repeat_interleave(len(self.response) // each.shape[1], 1))
        if not terms:
            return None
        return torch.cat([*terms, torch.ones(len(each), 1, dtype=torch.bool)], 1)  # the bias

    def start_at(self, initial: InitialValues) -> None:
        """Set the biases to the data's log shares and gates, and the slopes near zero."""
        with torch.no_grad():
            for head, bias in zip(self.heads, (initial.log_rate_g, initial.gate_logits_g)):
                head.bias.copy_(bias)
            for gate in self.heads[1:]:
                gate.weight.mul_(0.1)
            if self.linear is not None:
                self.linear.copy_(torch.empty(self.linear.shape[::-1]).normal_(std=0.05).T)
                if self.sparsity:  # within the prior's peak
                    self.linear[: self.n_latent] *= 0.4

    @torch.no_grad()
    def keep_reached(self, reached_kg: Tensor) -> None:
        """Set loadings to zero that nothing tells: of genes that no owner of a copy has."""
        if self.linear is not None:
            self.linear[: self.n_latent] *= reached_kg
        if self.trunk is None:
            for head in self.heads:
                head.weight[:, : self.n_latent] *= reached_kg.T

    @torch.no_grad()
    def start_dimension(self, copy: Copy, dim: int, start: DimensionStart) -> None:
        """Set a latent dimension's log-linear loadings."""
        column, loading_g = self.first_input[copy.key] + dim, start.loading_g
        if self.trunk is None:
            self.heads[0].weight[:, column] = loading_g.to(self.heads[0].weight)
            return
        self.trunk.weight[:, column] *= 0.1  # what is known is log-linear
        if self.linear is not None:
            self.linear[column] = loading_g.to(self.linear)
            return
        # x = relu(x) - relu(-x): two hidden units are a log-linear path, too
        importance_h = self.heads[0].weight.norm(dim=0) * self.trunk.weight.norm(dim=1)
        importance_h[(self.trunk.weight != 0).sum(1) == 1] = torch.inf  # another dimension's
        for unit, sign in zip(importance_h.argsort()[:2], (1.0, -1.0)):
            self.trunk.weight[unit], self.trunk.bias[unit] = 0.0, 0.0
            self.trunk.weight[unit, column] = sign
            self.heads[0].weight[:, unit] = sign * loading_g.to(self.heads[0].weight)

    def group_offsets(self) -> Tensor | None:
        """Return the offsets, (groups, genes), or None if there are none."""
        if self.offset is None or self.terms_bt is None:
            return self.offset
        return self.terms_bt @ self.offset

    @torch.no_grad()
    def set_group_offsets(self, offset_bg: Tensor) -> None:
        """Replace the offsets in place, by the closest that the terms add up to."""
        if self.offset is None:
            raise SettingsError("the decoder was built without offsets: there are none to replace")
        alone_bt = torch.eye(len(offset_bg), dtype=offset_bg.dtype)
        terms_bt = alone_bt if self.terms_bt is None else self.terms_bt
        self.offset.copy_(offset_terms(self.comparable, offset_bg, terms_bt))

    def group_entries(self, copies: Mapping[str, Tensor], groups: Tensor) -> dict[str, Tensor]:
        """Return which entries are those of some copies and groups."""
        dims = list(self.dims.values())
        chosen = torch.cat([*copies.values()])
        column = chosen.repeat_interleave(torch.tensor(dims))
        n_inputs = (self.heads[0] if self.trunk is None else self.trunk).weight.shape[1]
        column = torch.cat([column, torch.zeros(n_inputs - len(column), dtype=torch.bool)])
        heads = [f"heads.{i}" for i in range(len(self.heads))]
        readers = heads if self.trunk is None else ["trunk"]
        entries = {f"{reader}.weight": column for reader in readers}
        if self.linear is not None:
            entries["linear"] = column[:, None]
        if self.offset is not None:
            entries["offset"] = groups[:, None]
        if self.response is not None:  # a block of rows for each group
            n_shared = len(self.response) // len(groups)
            entries["response"] = groups.repeat_interleave(n_shared)[:, None]
        return entries

    def forward(self, x: DecoderInput) -> list[Part]:
        """Return one part: location and, if asked for, drop-out logits."""
        inputs = x.joined()
        features = inputs if self.trunk is None else self.further(relu(self.trunk(inputs)))
        gate = [head(features) for head in self.heads[1:]]
        terms: list[tuple[Tensor, Tensor]] = []
        if self.linear is not None:
            terms.append((inputs, self.linear))
        weight_nt = x.group_weights
        if self.terms_bt is not None:
            weight_nt = weight_nt @ self.terms_bt
        if self.offset is not None:
            terms.append((weight_nt, filled(self.comparable, self.offset)))
        if self.response is not None:
            z_nk = x.joined(self.shared)
            per_term = (weight_nt.unsqueeze(-1) * z_nk.unsqueeze(-2)).flatten(-2)
            terms.append((per_term, filled(self.comparable, self.response)))  # (n, terms * k)
        head = self.heads[0]
        if not terms:
            return [(head(features), *gate)]
        assert self.own_gk is not None  # there are terms
        # As one product with the bias: every pass over cells x genes counts.
        terms.append((inputs.new_ones(*inputs.shape[:-1], 1), head.bias.unsqueeze(0)))
        by_group = len(self.own_gk) >= GROUP_BY_GROUP and inputs.device.type == "cpu"
        location = add_products(
            features @ head.weight.T,
            [own for own, _ in terms],
            [weight for _, weight in terms],
            self.own_gk,
            x.group if by_group else None,
        )
        return [(location, *gate)]

    def log_prior(self) -> Tensor | None:
        """Return the log density of weights with a prior, up to a constant; None without any."""
        log_density = None
        if self.response is not None:
            log_density = self.response.square().sum() * (-0.5 / self.response_scale**2)
        if self.sparsity:
            layers: Iterable[nn.Linear] = self.heads if self.trunk is None else [self.trunk]
            weights = [layer.weight[:, : self.n_latent] for layer in layers]
            weights += [] if self.linear is None else [self.linear[: self.n_latent]]
            for weight in weights:  # what reads the latents
                cauchy = log_cauchy(weight, self.sparsity)
                log_density = cauchy if log_density is None else log_density + cauchy
        return log_density
