"""Observation models: what the decoder's output says about a cell's counts."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_mgvi.zinb import ZeroInflatedNegativeBinomial


class NB(nn.Module):
    """Negative binomial observation model, one inverse dispersion per gene.

    An observation model has ``n_outputs``, what it wants of a decoder; ``counts_only``, whether
    its data are counts with a library size; ``forward(parts, log_library)``, the distribution of
    a cell's values; and ``expression(parts)``, what is reported of it. Its constructor takes
    the data-dependent :class:`~pyro_mgvi.start.Start`.

    Examples
    --------
    >>> from pyro_mgvi import Start
    >>> cells = NB(Start.blank(n_genes=3, n_groups=2))([(torch.zeros(5, 3),)], torch.zeros(5))
    >>> cells.batch_shape, cells.event_shape
    (torch.Size([5]), torch.Size([3]))
    """

    n_outputs = 1
    counts_only = True

    def __init__(self, start):
        super().__init__()
        self.log_theta = nn.Parameter(start.log_theta_g.clone())

    def forward(self, parts, log_library: Tensor):
        """Return the distribution of the counts from the decoder's parts and the library."""
        gate = None
        if self.n_outputs > 1:
            gate = sum((gate for _, gate in parts[1:]), start=parts[0][1])
        if len(parts) > 1:  # a mixture of softmaxes
            log_mean = log_proportions(parts) + log_library.unsqueeze(-1)
            return ZeroInflatedNegativeBinomial(log_mean, self.log_theta, gate)
        location = parts[0][0]
        return ZeroInflatedNegativeBinomial(location, self.log_theta, gate, log_total=log_library)

    def expression(self, parts) -> Tensor:
        """Return each gene's expected share of a cell's counts, drop-out left aside."""
        return log_proportions(parts).exp()


class ZINB(NB):
    """Zero-inflated negative binomial observation model; the decoder gives the gates, too."""

    n_outputs = 2


class Poisson(nn.Module):
    """Poisson observation model: no dispersion."""

    n_outputs = 1
    counts_only = True
    expression = NB.expression

    def __init__(self, start):
        super().__init__()

    def forward(self, parts, log_library: Tensor):
        """Return the distribution of the counts from the decoder's parts and the library."""
        log_mean = log_proportions(parts) + log_library.unsqueeze(-1)
        return dist.Poisson(log_mean.exp()).to_event(1)


class Gaussian(nn.Module):
    """Normal observation model of transformed data, one variance per gene.

    Identity link and no library: the mean is that of the decoder's parts.
    """

    n_outputs = 1
    counts_only = False

    def __init__(self, start):
        super().__init__()
        self.log_precision = nn.Parameter(start.log_theta_g.clone())

    def forward(self, parts, log_library=None):
        """Return the distribution of the values from the decoder's parts."""
        scale = torch.exp(-0.5 * self.log_precision)
        return dist.Normal(self.expression(parts), scale).to_event(1)

    def expression(self, parts) -> Tensor:
        """Return each gene's expected value, on the scale of the data."""
        return sum(location for location, *_ in parts) / len(parts)


def counts_only(likelihood) -> bool:
    """Return whether an observation model (a class, or partial of one) is of counts."""
    return getattr(getattr(likelihood, "func", likelihood), "counts_only", True)


def log_proportions(parts) -> Tensor:
    """Return the log of the mean of the parts' softmax: one simplex per cell (equation 3)."""
    simplexes = [location.log_softmax(-1) for location, *_ in parts]
    if len(simplexes) == 1:
        return simplexes[0]
    return torch.stack(simplexes).logsumexp(0) - math.log(len(simplexes))
