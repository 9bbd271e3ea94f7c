"""A decoder whose genes cluster into programs (BasisVAE)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gumbel_softmax

from pyro_mgvi.core.copies import Latents
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import (
    Decoder,
    DecoderInput,
    HasGroupOffsets,
    HasPrograms,
    Part,
)
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.networks.comparable import Comparable, filled, offset_terms


class BasisDecoder(Decoder, HasGroupOffsets, HasPrograms):
    r"""Gene programs: each gene follows one of K basis functions (Martens & Yau 2020).

    The log mean of gene g is :math:`b_g + s_g \sum_k w_{gk} f_k(z)`, with the assignment w a
    relaxed categorical in training and its probabilities afterwards. Their prior is a
    categorical whose Dirichlet-distributed weights are integrated out, taken at the expected
    program sizes. The shift of a gene is on the log scale, not within the latent.

    Parameters
    ----------
    latents, initial, n_outputs
        Set by :class:`~pyro_mgvi.model.Model`.
    hidden
        Width of the basis functions' hidden layer.
    n_programs
        Number of basis functions, K.
    concentration
        Of the Dirichlet distribution; below 1 it empties superfluous programs.
    temperature
        Of the relaxed categorical.
    offset
        Add a per-group offset to the location: of several columns, the sum of their levels'.

    Examples
    --------
    >>> from pyro_mgvi.core import InitialValues, Latents
    >>> latents = Latents("z:3", ("a", "b"))
    >>> decoder = BasisDecoder(latents, InitialValues.blank(50, 2), 1, n_programs=4)
    >>> decoder.probabilities.shape
    torch.Size([50, 4])
    """

    terms_bt: Tensor

    def __init__(
        self,
        latents: Latents,
        initial: InitialValues,
        n_outputs: int,
        hidden: int = 128,
        n_programs: int = 20,
        concentration: float = 0.5,
        temperature: float = 0.5,
        offset: bool = True,
    ):
        super().__init__()
        self.concentration, self.temperature = concentration, temperature
        n_inputs = latents.n_dims + initial.n_covariates
        self.basis = nn.Sequential(
            nn.Linear(n_inputs, hidden), nn.ReLU(), nn.Linear(hidden, n_programs)
        )
        self.logits = nn.Parameter(0.1 * torch.randn(initial.n_genes, n_programs))
        self.log_scale = nn.Parameter(torch.zeros(initial.n_genes))
        self.levels = nn.ParameterList(
            level.clone() for level in (initial.log_rate_g, initial.gate_logits_g)[:n_outputs]
        )
        measured_bg = initial.measured_bg
        self.comparable = (
            None if measured_bg is None else Comparable(measured_bg, latents.term_blocks)
        )
        self.register_buffer("terms_bt", latents.terms.float(), persistent=False)
        start_tg = offset_terms(
            self.comparable, initial.offset_bg, self.terms_bt, initial.n_group_b
        )
        self.offset = nn.Parameter(start_tg) if offset else None

    @property
    def probabilities(self) -> Tensor:
        """Probability of each program for each gene, (genes, programs)."""
        return self.logits.softmax(-1)

    def log_prior(self) -> Tensor:
        """Return E log p(assignments) plus their entropy, in nats, for all genes."""
        w_gk = self.probabilities
        n_genes, k = w_gk.shape
        a = torch.as_tensor(self.concentration).to(w_gk)
        log_p = (torch.lgamma(a + w_gk.sum(0)) - torch.lgamma(a)).sum()
        log_p = log_p + torch.lgamma(k * a) - torch.lgamma(n_genes + k * a)
        entropy: Tensor = -torch.special.xlogy(w_gk, w_gk).sum()
        return log_p + entropy

    def group_offsets(self) -> Tensor | None:
        """Return the offsets, (groups, genes), or None if there are none."""
        return None if self.offset is None else self.terms_bt @ self.offset

    @torch.no_grad()
    def set_group_offsets(self, offset_bg: Tensor) -> None:
        """Replace the offsets in place, by the closest that the terms add up to."""
        if self.offset is None:
            raise SettingsError("the decoder was built without offsets: there are none to replace")
        self.offset.copy_(offset_terms(self.comparable, offset_bg, self.terms_bt))

    def forward(self, x: DecoderInput) -> list[Part]:
        """Return one part: location and, if asked for, a drop-out logit per gene."""
        f_nk = self.basis(x.joined())
        w_gk = (
            gumbel_softmax(self.logits, self.temperature) if self.training else self.probabilities
        )
        location = self.levels[0] + self.log_scale.exp() * (f_nk @ w_gk.T)
        if self.offset is not None:
            offset_tg = filled(self.comparable, self.offset)
            location = location + x.group_weights @ self.terms_bt @ offset_tg
        return [(location, *(gate.expand_as(location) for gate in self.levels[1:]))]
