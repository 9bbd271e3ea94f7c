"""Gene programs: a decoder whose genes cluster (BasisVAE)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gumbel_softmax

from pyro_mgvi.layers import concatenate


class BasisDecoder(nn.Module):
    r"""Gene programs: each gene follows one of K basis functions (Martens & Yau 2020).

    The log mean of gene g is :math:`b_g + s_g \sum_k w_{gk} f_k(z)`, with the assignment w a
    relaxed categorical in training and its probabilities afterwards. Their prior is a
    categorical whose Dirichlet-distributed weights are integrated out, taken at the expected
    program sizes. The shift of a gene is on the log scale, not within the latent.

    Parameters
    ----------
    latents, start, n_outputs, groups
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
        Add a per-group offset to the location.

    Examples
    --------
    >>> from pyro_mgvi import Start, shared
    >>> latents = [shared(3).over(("a", "b"))]
    >>> decoder = BasisDecoder(latents, Start.blank(50, 2), 1, ("a", "b"), n_programs=4)
    >>> decoder.probabilities.shape
    torch.Size([50, 4])
    """

    def __init__(
        self,
        latents,
        start,
        n_outputs,
        groups,
        hidden=128,
        n_programs=20,
        concentration=0.5,
        temperature=0.5,
        offset=True,
    ):
        super().__init__()
        self.concentration, self.temperature = concentration, temperature
        self.names = tuple(latent.name for latent in latents)
        n_inputs = sum(latent.n_subsets * latent.dim for latent in latents) + start.n_covariates
        self.basis = nn.Sequential(
            nn.Linear(n_inputs, hidden), nn.ReLU(), nn.Linear(hidden, n_programs)
        )
        self.logits = nn.Parameter(0.1 * torch.randn(start.n_genes, n_programs))
        self.log_scale = nn.Parameter(torch.zeros(start.n_genes))
        self.levels = nn.ParameterList(
            level.clone() for level in (start.log_rate_g, start.gate_logits_g)[:n_outputs]
        )
        self.offset = nn.Parameter(start.offset_bg.clone()) if offset else None

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
        return log_p - torch.special.xlogy(w_gk, w_gk).sum()

    def forward(self, values: dict[str, Tensor], offset_ng: Tensor, covariates=None):
        """Return one part: location and, if asked for, a drop-out logit per gene."""
        f_nk = self.basis(concatenate([values[name] for name in self.names], covariates))
        w_gk = (
            gumbel_softmax(self.logits, self.temperature) if self.training else self.probabilities
        )
        location = self.levels[0] + self.log_scale.exp() * (f_nk @ w_gk.T)
        if self.offset is not None:
            location = location + offset_ng @ self.offset
        return [(location, *(gate.expand_as(location) for gate in self.levels[1:]))]
