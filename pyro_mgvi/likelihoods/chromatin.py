"""Chromatin as open or closed: a Bernoulli observation model with each cell's depth."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import HandlesAbsent, Likelihood, Part
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.kernels.simplex import log_proportions
from pyro_mgvi.likelihoods.measured import MeasuredGenes, without_absent


class OpenOrClosed(dist.Bernoulli):
    """A Bernoulli distribution of whether there is any count: more than one count as one."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of each count, in nats."""
        log_p: Tensor = super().log_prob((value > 0).to(value.dtype))
        return log_p


class Bernoulli(Likelihood, HandlesAbsent):
    r"""Whether a region is open, at a cell's depth.

    A region is seen open if at least one fragment of it is; with as many expected fragments as the
    cell's total and the region's share say, that has the probability

    .. math:: p_{nr} = 1 - \exp(-l_n \rho_{nr})

    Counts above one count as one. The counterpart with all counts is
    :class:`~pyro_mgvi.likelihoods.Poisson`.

    Parameters
    ----------
    initial
        Set by :class:`~pyro_mgvi.model.Model`; nothing of it is needed.

    Examples
    --------
    >>> regions = Bernoulli(InitialValues.blank(n_genes=2, n_groups=2))
    >>> regions([(torch.zeros(1, 2),)], log_library=torch.zeros(1)).mean
    tensor([[0.3935, 0.3935]])
    """

    def __init__(self, initial: InitialValues):
        super().__init__()

    def observed(self, values: Tensor) -> Tensor:
        """Return whether there is any count."""
        return (values > 0).to(values.dtype)

    def forward(self, parts: list[Part], log_library: Tensor | None) -> dist.TorchDistribution:
        """Return the distribution of the regions from the decoder's parts and the library."""
        regions: dist.TorchDistribution = _regions(_log_mean(parts, log_library)).to_event(1)
        return regions

    def of_measured(
        self, parts: list[Part], log_library: Tensor | None, measured_ng: Tensor
    ) -> MeasuredGenes:
        """Return the distribution of the regions that a cell has."""
        log_mean = _log_mean(without_absent(parts, measured_ng), log_library)
        return MeasuredGenes(_regions(log_mean.where(measured_ng, 0.0)), measured_ng)

    def expression_of_measured(self, parts: list[Part], measured_ng: Tensor) -> Tensor:
        """Return shares of the fragments of the regions that a cell has."""
        return log_proportions(parts, measured_ng).exp()


def _regions(log_mean: Tensor) -> Any:
    rate = log_mean.clamp(-60.0, 60.0).exp()
    return OpenOrClosed(logits=rate + (-torch.expm1(-rate)).log(), validate_args=False)


def _log_mean(parts: list[Part], log_library: Tensor | None) -> Tensor:
    if log_library is None:
        raise SettingsError("a likelihood of counts needs the log of the cells' library sizes")
    return log_proportions(parts) + log_library.unsqueeze(-1)
