"""Proteins seen by antibodies: what is bound, on a background of what is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import HandlesAbsent, Likelihood, Part
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.kernels.simplex import log_proportions
from pyro_mgvi.kernels.zinb_terms import gene_log_prob
from pyro_mgvi.likelihoods.measured import MeasuredGenes

BELOW = 1.5  # log fold by which the background starts below a protein's mean share


class BackgroundMixture(dist.TorchDistribution):
    """Two negative binomials of one inverse dispersion, univariate: background and foreground.

    Parameters
    ----------
    log_background, log_foreground
        Log means.
    logits
        Log-odds of the background.
    log_theta
        Log inverse dispersion.

    Examples
    --------
    >>> mixture = BackgroundMixture(*(torch.zeros(2) for _ in range(4)))
    >>> mixture.log_prob(torch.zeros(2))
    tensor([-0.6931, -0.6931])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # as in torch
    support = constraints.nonnegative_integer

    def __init__(
        self, log_background: Tensor, log_foreground: Tensor, logits: Tensor, log_theta: Tensor
    ):
        self.parameters = torch.broadcast_tensors(log_background, log_foreground, logits, log_theta)
        super().__init__(self.parameters[0].shape, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> BackgroundMixture:
        """Return the distribution with another batch shape."""
        return type(self)(*(each.expand(torch.Size(batch_shape)) for each in self.parameters))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of each count, in nats."""
        log_background, log_foreground, logits, log_theta = self.parameters
        background = gene_log_prob(value, log_background, log_theta, None)
        foreground = gene_log_prob(value, log_foreground, log_theta, None)
        log_p: Tensor = torch.logaddexp(background + logits, foreground)
        return log_p - nn.functional.softplus(logits)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw counts, as floats."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            log_background, log_foreground, logits, log_theta = (
                each.expand(shape) for each in self.parameters
            )
            uniform = torch.rand(shape, dtype=logits.dtype, device=logits.device)
            of_background = uniform < logits.sigmoid()
            log_mean = log_background.where(of_background, log_foreground)
            theta = log_theta.exp()
            rate: Tensor = torch.distributions.Gamma(theta, theta).sample() * log_mean.exp()
            return torch.poisson(rate)

    @property
    def mean(self) -> Tensor:
        """Mean of each count."""
        log_background, log_foreground, logits, _ = self.parameters
        share = logits.sigmoid()
        mean: Tensor = share * log_background.exp() + (1 - share) * log_foreground.exp()
        return mean

    @property
    def variance(self) -> Tensor:
        """Variance of each count."""
        log_background, log_foreground, logits, log_theta = self.parameters
        share, excess = logits.sigmoid(), 1 + torch.exp(-log_theta)
        squares = [
            mean.square() * excess + mean for mean in (log_background.exp(), log_foreground.exp())
        ]
        mixed: Tensor = share * squares[0] + (1 - share) * squares[1]
        return mixed - self.mean.square()


class ProteinNB(Likelihood, HandlesAbsent):
    r"""Negative binomial counts of proteins on a background (as totalVI's).

    With probability :math:`\pi_{np}` a count is background, of the mean :math:`l_n b_p` with a
    share of each protein; otherwise foreground, of the mean :math:`l_n \rho_{np}` (Gayoso et al.
    2021). Both have the protein's inverse dispersion. The decoder gives :math:`\rho` and the
    log-odds of :math:`\pi`.

    Parameters
    ----------
    initial
        Set by :class:`~pyro_mgvi.model.Model`: dispersions and shares to start from.
    """

    n_outputs = 2

    def __init__(self, initial: InitialValues):
        super().__init__()
        self.log_theta = nn.Parameter(initial.log_theta_g.clone())
        self.log_background = nn.Parameter(initial.log_rate_g - BELOW)

    def _mixture(
        self, parts: list[Part], log_library: Tensor | None, log_share_ng: Tensor
    ) -> BackgroundMixture:
        if log_library is None:
            raise SettingsError("a likelihood of counts needs the log of the cells' library sizes")
        size_n1 = log_library.unsqueeze(-1)
        logits = sum((gate for _, gate in parts[1:]), start=parts[0][1])
        background = self.log_background + size_n1
        return BackgroundMixture(background, log_share_ng + size_n1, logits, self.log_theta)

    def forward(self, parts: list[Part], log_library: Tensor | None) -> dist.TorchDistribution:
        """Return the distribution of the counts from the decoder's parts and the library."""
        counts: Any = self._mixture(parts, log_library, log_proportions(parts))
        proteins: dist.TorchDistribution = counts.to_event(1)
        return proteins

    def of_measured(
        self, parts: list[Part], log_library: Tensor | None, measured_ng: Tensor
    ) -> MeasuredGenes:
        """Return the distribution of the counts of the proteins that a cell has."""
        any_n1 = measured_ng.any(-1, keepdim=True)
        share_ng = log_proportions(parts, measured_ng | ~any_n1).where(measured_ng, 0.0)
        known = None if log_library is None else log_library.where(any_n1[..., 0], 0.0)
        return MeasuredGenes(self._mixture(parts, known, share_ng), measured_ng)

    def expression(self, parts: list[Part]) -> Tensor:
        """Return what is reported: foreground shares, weighted by how sure the foreground is."""
        return log_proportions(parts).exp() * self._foreground(parts)

    def expression_of_measured(self, parts: list[Part], measured_ng: Tensor) -> Tensor:
        """Return the same over the proteins that a cell has."""
        return log_proportions(parts, measured_ng).exp() * self._foreground(parts)

    @staticmethod
    def _foreground(parts: list[Part]) -> Tensor:
        return torch.sigmoid(-sum((gate for _, gate in parts[1:]), start=parts[0][1]))
