"""What prior a latent copy gets for the cells that do not own it.

The paper's regularisation schemes differ in nothing else, so each is one small object.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
import torch


@dataclass(frozen=True)
class Dirac:
    """All mass at ``value``: the multiGroupVI prior (paper, equations 8 to 11).

    Examples
    --------
    >>> own = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    >>> Dirac()(own, torch.tensor([True, False])).batch_shape
    (2,)
    """

    value: float = 0.0

    def __call__(self, own, member: torch.Tensor):
        """Return the prior of one copy per entry of the boolean tensor ``member``."""
        at = own.mean.new_full(member.shape + own.event_shape, self.value)
        return dist.MaskedMixture(member, dist.Delta(at, event_dim=1), own)


@dataclass(frozen=True)
class SameAsOwn:
    """The owners' prior for all cells: the penalty of Davison et al. (paper, equation 18).

    Examples
    --------
    >>> own = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    >>> SameAsOwn()(own, torch.tensor([True, False])).batch_shape
    torch.Size([2])
    """

    def __call__(self, own, member: torch.Tensor):
        """Return the owners' prior for each entry of ``member``."""
        return own.expand(member.shape)


@dataclass(frozen=True)
class Davison:
    """:class:`SameAsOwn`, with own and foreign copies told apart, so that each has its weight.

    With an ``own_weight`` of 0 it is the objective that Davison et al. (2019) ended with: no
    divergence of the copies that a cell owns (paper, appendix B).
    """

    def __call__(self, own, member: torch.Tensor):
        """Return the owners' prior for each entry of ``member``, which it keeps."""
        own = own.expand(member.shape)
        return dist.MaskedMixture(member, own, own)


@dataclass(frozen=True)
class Absent:
    """No prior term for foreign cells: the objective of equation 7 ("no regularisation").

    Examples
    --------
    >>> own = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    >>> Absent()(own, torch.tensor([True, False])).log_prob(torch.ones(2, 2))[1]
    tensor(0.)
    """

    def __call__(self, own, member: torch.Tensor):
        """Return the owners' prior, masked out where ``member`` is false."""
        return own.expand(member.shape).mask(member)
