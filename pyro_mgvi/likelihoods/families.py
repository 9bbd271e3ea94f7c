"""Observation models: what a decoder's output says about a cell's counts or values."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import DataKind, HandlesAbsent, Likelihood, Part
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.kernels.simplex import log_proportions
from pyro_mgvi.likelihoods.measured import MeasuredGenes, without_absent
from pyro_mgvi.likelihoods.zinb import ZeroInflatedNegativeBinomial


class _OfShares(Likelihood, HandlesAbsent):
    """A likelihood of counts whose means are shares of a cell's total."""

    def expression_of_measured(self, parts: list[Part], measured_ng: Tensor) -> Tensor:
        """Return shares of the counts of the genes that a cell has."""
        return log_proportions(parts, measured_ng).exp()


class NB(_OfShares):
    """Negative binomial observation model, one inverse dispersion per gene.

    Parameters
    ----------
    initial
        Set by :class:`~pyro_mgvi.model.Model`: inverse dispersions to start from.

    Examples
    --------
    >>> from pyro_mgvi.core import InitialValues
    >>> cells = NB(InitialValues.blank(n_genes=3, n_groups=2))
    >>> distribution = cells([(torch.zeros(5, 3),)], log_library=torch.zeros(5))
    >>> distribution.batch_shape, distribution.event_shape
    (torch.Size([5]), torch.Size([3]))
    """

    def __init__(self, initial: InitialValues):
        super().__init__()
        self.log_theta = nn.Parameter(initial.log_theta_g.clone())

    def forward(
        self, parts: list[Part], log_library: Tensor | None
    ) -> ZeroInflatedNegativeBinomial:
        """Return the distribution of the counts from the decoder's parts and the library."""
        gate = None
        if self.n_outputs > 1:
            gate = sum((gate for _, gate in parts[1:]), start=parts[0][1])
        if len(parts) > 1:  # a mixture of softmaxes
            log_mean = _log_mean(parts, log_library)
            return ZeroInflatedNegativeBinomial(log_mean, self.log_theta, gate)
        location = parts[0][0]
        return ZeroInflatedNegativeBinomial(location, self.log_theta, gate, log_total=log_library)

    def of_measured(
        self, parts: list[Part], log_library: Tensor | None, measured_ng: Tensor
    ) -> ZeroInflatedNegativeBinomial:
        """Return the distribution of the counts of the genes that a cell has."""
        counts: ZeroInflatedNegativeBinomial
        counts = self(without_absent(parts, measured_ng), log_library)
        return counts


class ZINB(NB):
    """Zero-inflated negative binomial observation model; the decoder gives the gates, too."""

    n_outputs = 2


class Poisson(_OfShares):
    """Poisson observation model: no dispersion."""

    def __init__(self, initial: InitialValues):
        super().__init__()

    def forward(self, parts: list[Part], log_library: Tensor | None) -> dist.TorchDistribution:
        """Return the distribution of the counts from the decoder's parts and the library."""
        counts: dist.TorchDistribution
        counts = dist.Poisson(_log_mean(parts, log_library).exp()).to_event(1)
        return counts

    def of_measured(
        self, parts: list[Part], log_library: Tensor | None, measured_ng: Tensor
    ) -> MeasuredGenes:
        """Return the distribution of the counts of the genes that a cell has."""
        log_mean = _log_mean(without_absent(parts, measured_ng), log_library)
        # A rate of zero has no gradient: absent genes have any other.
        return MeasuredGenes(dist.Poisson(log_mean.where(measured_ng, 0.0).exp()), measured_ng)


class Gaussian(Likelihood, HandlesAbsent):
    """Normal observation model of transformed data, one variance per gene.

    Identity link and no library: the mean is that of the decoder's parts.
    """

    data_kind = DataKind.VALUES

    def __init__(self, initial: InitialValues):
        super().__init__()
        self.log_precision = nn.Parameter(initial.log_theta_g.clone())

    def forward(
        self, parts: list[Part], log_library: Tensor | None = None
    ) -> dist.TorchDistribution:
        """Return the distribution of the values from the decoder's parts."""
        scale = torch.exp(-0.5 * self.log_precision)
        values: dist.TorchDistribution = dist.Normal(self.expression(parts), scale).to_event(1)
        return values

    def of_measured(
        self, parts: list[Part], log_library: Tensor | None, measured_ng: Tensor
    ) -> MeasuredGenes:
        """Return the distribution of the values of the genes that a cell has."""
        mean_ng = self.expression(parts)
        scale = torch.exp(-0.5 * self.log_precision)
        return MeasuredGenes(dist.Normal(mean_ng, scale), measured_ng)

    def expression_of_measured(self, parts: list[Part], measured_ng: Tensor) -> Tensor:
        """Return each gene's expected value; genes have nothing to do with each other."""
        return self.expression(parts)

    def expression(self, parts: list[Part]) -> Tensor:
        """Return each gene's expected value, on the scale of the data."""
        locations = [location for location, *_ in parts]
        return sum(locations[1:], start=locations[0]) / len(parts)


def _log_mean(parts: list[Part], log_library: Tensor | None) -> Tensor:
    """Return the log of each gene's expected count."""
    if log_library is None:
        raise SettingsError("a likelihood of counts needs the log of the cells' library sizes")
    return log_proportions(parts) + log_library.unsqueeze(-1)
