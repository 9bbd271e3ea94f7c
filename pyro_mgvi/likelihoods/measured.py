"""Distributions of cells that have not got all genes: what is absent is no part of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_mgvi.core.interfaces import HasGeneLogProb, Part

#: Location of an absent gene: its share, exp of this, is exactly zero, and all arithmetic finite.
NOWHERE = -1e4


def log_totals(total_nk: Tensor) -> Tensor:
    """Return the log of totals, and what stands for nowhere at all where there is no count.

    Examples
    --------
    >>> log_totals(torch.tensor([[1.0, 0.0]]))
    tensor([[     0., -10000.]])
    """
    return total_nk.clamp(min=1.0).log().where(total_nk > 0, NOWHERE)


def known_sizes(log_library: Tensor) -> Tensor:
    """Return log library sizes as columns; a modality's mean where a cell has not got it.

    Examples
    --------
    >>> known_sizes(torch.tensor([[1.0, NOWHERE], [3.0, 2.0]]))
    tensor([[1., 2.],
            [3., 2.]])
    """
    if log_library.dim() == 1:
        return log_library[:, None]
    known_nk = log_library > NOWHERE / 2
    mean_k = log_library.where(known_nk, torch.nan).nanmean(0).nan_to_num()
    return log_library.where(known_nk, mean_k)


def without_absent(parts: list[Part], measured_ng: Tensor) -> list[Part]:
    """Return a decoder's parts with shares of exactly zero for absent genes, and no drop-out.

    The softmax of such locations is that of the measured genes alone. An absent gene's count is
    zero with certainty, which is a log-probability of zero and a gradient of zero to the last bit:
    for that, drop-out logits are zero, too.

    Parameters
    ----------
    parts
        Location, and further outputs, each (..., n, genes).
    measured_ng
        Which cell has which gene, boolean.

    Examples
    --------
    >>> ((location,),) = without_absent([(torch.zeros(1, 3),)], torch.tensor([[True, True, False]]))
    >>> location.softmax(-1)
    tensor([[0.5000, 0.5000, 0.0000]])
    """
    return [
        (location.where(measured_ng, NOWHERE), *(other.where(measured_ng, 0.0) for other in others))
        for location, *others in parts
    ]


class MeasuredGenes(dist.TorchDistribution, HasGeneLogProb):
    """Independent univariate distributions of the genes that a cell has; zeros for the others.

    Parameters
    ----------
    base
        Of all genes, batch shape (..., genes); finite parameters for absent ones, too.
    measured_ng
        Which cell has which gene, boolean.

    Examples
    --------
    >>> cells = MeasuredGenes(dist.Poisson(torch.ones(1, 2)), torch.tensor([[True, False]]))
    >>> cells.log_prob(torch.zeros(1, 2)), cells.mean
    (tensor([-1.]), tensor([[1., 0.]]))
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # as in torch

    def __init__(self, base: Any, measured_ng: Tensor):
        self.base, self.measured_ng = base, measured_ng
        super().__init__(base.batch_shape[:-1], base.batch_shape[-1:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """That of the genes."""
        return constraints.independent(self.base.support, 1)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> MeasuredGenes:
        """Return the distribution with another batch shape."""
        shape = torch.Size(batch_shape) + self.event_shape
        return type(self)(self.base.expand(shape), self.measured_ng)

    def gene_log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of each gene's value, (..., genes), in nats; 0 if absent."""
        log_p: Tensor = self.base.log_prob(value)
        return log_p.where(self.measured_ng, 0.0)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of each cell's values, in nats."""
        return self.gene_log_prob(value).sum(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw values, zeros where a gene is absent."""
        drawn: Tensor = self.base.sample(torch.Size(sample_shape))
        return drawn.where(self.measured_ng, 0.0)

    @property
    def mean(self) -> Tensor:
        """Mean of each gene; 0 where it is absent."""
        mean: Tensor = self.base.mean
        return mean.where(self.measured_ng, 0.0)

    @property
    def variance(self) -> Tensor:
        """Variance of each gene; 0 where it is absent."""
        variance: Tensor = self.base.variance
        return variance.where(self.measured_ng, 0.0)
