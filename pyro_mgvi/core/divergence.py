"""``divergence(prior, posterior)``: which distance pulls a posterior towards its prior."""

from __future__ import annotations

from functools import singledispatch

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions.util import sum_rightmost
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

NODES = 32  # of the quadrature; 64 give the same divergence from a Student's t to 4 digits


@singledispatch
def divergence(prior: Distribution, posterior: Distribution) -> Tensor:
    """Return the divergence of ``posterior`` from ``prior``, one value per batch element.

    Dispatches on the type of the prior alone: the Kullback-Leibler divergence by default;
    for a Dirac at ``v`` the squared 2-Wasserstein distance, which for any posterior with
    finite variance is ``(mean - v)^2 + variance`` (paper, equation 10).

    Parameters
    ----------
    prior, posterior
        Pyro distributions of one event shape and broadcastable batch shapes. A function that you
        register is given the prior without the wrappers of Pyro: of ``Mine(...).to_event(1)`` it
        gets ``Mine`` and the posterior's univariate part, and returns one value per *dimension*;
        of ``Mine(..., event_dim=1)`` it gets the whole, and returns one value per *copy*.

    Returns
    -------
    Tensor of the broadcast batch shape, in nats (KL) or squared latent units (Wasserstein).

    Raises
    ------
    NotImplementedError
        If the pair has no closed form; the ELBO then falls back to sampling.

    Examples
    --------
    >>> q = dist.Normal(torch.ones(4, 3), 2.0).to_event(1)
    >>> divergence(dist.Delta(torch.zeros(3), event_dim=1), q)
    tensor([15., 15., 15., 15.])

    A prior of your own needs one function:

    >>> class Flat(dist.Normal):
    ...     pass
    >>> @divergence.register
    ... def _(prior: Flat, posterior):
    ...     return torch.zeros(posterior.batch_shape)
    """
    return kl_divergence(posterior, prior)


@divergence.register(dist.Delta)
def _dirac(prior: dist.Delta, posterior: Distribution) -> Tensor:
    squared = (posterior.mean - prior.v) ** 2 + posterior.variance
    return _summed(squared, prior.event_dim)


@divergence.register(dist.MaskedMixture)
def _per_cell_choice(prior: dist.MaskedMixture, posterior: Distribution) -> Tensor:
    own, foreign = (
        divergence(component, posterior) for component in (prior.component1, prior.component0)
    )
    own_n: Tensor = prior.mask  # type: ignore[assignment] # Pyro keeps it in place of its method
    return torch.where(own_n, own, foreign)


@divergence.register(dist.MaskedDistribution)
def _masked(prior: dist.MaskedDistribution, posterior: Distribution) -> Tensor:
    value = divergence(prior.base_dist, posterior)
    return torch.where(torch.as_tensor(prior._mask), value, torch.zeros_like(value))


@divergence.register(dist.ExpandedDistribution)
def _expanded(prior: dist.ExpandedDistribution, posterior: Distribution) -> Tensor:
    return divergence(prior.base_dist, posterior)


@divergence.register(Independent)
def _independent(prior: Independent[Distribution], posterior: Distribution) -> Tensor:
    n_dims = prior.reinterpreted_batch_ndims
    if isinstance(prior.base_dist, dist.Delta):
        return _summed(divergence(prior.base_dist, posterior), n_dims)
    if isinstance(posterior, Independent) and posterior.reinterpreted_batch_ndims == n_dims:
        return _summed(divergence(prior.base_dist, posterior.base_dist), n_dims)
    if isinstance(prior.base_dist, torch.distributions.Normal) and n_dims == 1:
        # A correlated posterior: torch knows the divergence from a joint normal only.
        scale = torch.diag_embed(prior.base_dist.scale)
        joint = dist.MultivariateNormal(prior.base_dist.loc, scale_tril=scale)
        return kl_divergence(posterior, joint)
    return kl_divergence(posterior, prior)


def _summed(value: Tensor, n_dims: int) -> Tensor:
    """Return the sum over the last dimensions, so many of them."""
    total: Tensor = sum_rightmost(value, n_dims)
    return total


def divergence_of_normal(prior: Distribution, posterior: dist.Normal) -> Tensor:
    """Return :func:`divergence` of a univariate normal posterior, if need be by quadrature.

    Where there is no closed form, it is the Kullback-Leibler divergence by Gauss-Hermite
    quadrature (Abramowitz and Stegun 1964, 25.4.46): the same at every call, as a draw is not.

    Parameters
    ----------
    prior, posterior
        Univariate distributions of broadcastable batch shapes.

    Returns
    -------
    Tensor of the broadcast batch shape, in the units of :func:`divergence`.

    Examples
    --------
    >>> prior = dist.StudentT(torch.tensor(1e6), 0.0, 1.0)  # nearly normal
    >>> divergence_of_normal(prior, dist.Normal(torch.tensor([0.0, 1.0]), 1.0)).round(decimals=3)
    tensor([0.0000, 0.5000])
    """
    try:
        return divergence(prior, posterior)
    except NotImplementedError:
        node, weight = (
            torch.from_numpy(x).to(posterior.loc) for x in np.polynomial.hermite_e.hermegauss(NODES)
        )
        shape = torch.broadcast_shapes(posterior.batch_shape, prior.batch_shape)
        node, weight = (x.reshape(-1, *[1] * len(shape)) for x in (node, weight / weight.sum()))
        log_p: Tensor = prior.log_prob(posterior.loc + posterior.scale * node)
        value: Tensor = -posterior.entropy() - (weight * log_p).sum(0)
        return value
