"""What prior a latent copy gets: for the cells that own it, and for those that do not.

The paper's regularisation schemes differ only in the latter, so each is one small object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import ParamSpec, Protocol, TypeVar

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor
from torch.distributions import Distribution, Independent

from pyro_mgvi.errors import SettingsError

NUMBERS = (-1e3, -0.5, 0.0, 0.5, 1e3)  # which a prior of all real numbers has
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class ForeignPrior(Protocol):
    """A function from the owners' prior and from who owns a copy to the prior of all cells."""

    def __call__(self, own: dist.TorchDistribution, member: Tensor) -> dist.TorchDistribution:
        """Return the prior of one copy for each entry of the boolean tensor ``member``."""


@dataclass(frozen=True)
class Dirac:
    """All mass at zero: the multiGroupVI prior (paper, equations 8 to 11).

    Examples
    --------
    >>> own = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    >>> Dirac()(own, torch.tensor([True, False])).batch_shape
    (2,)
    """

    def __call__(self, own: dist.TorchDistribution, member: Tensor) -> dist.TorchDistribution:
        """Return the prior of one copy per entry of the boolean tensor ``member``."""
        shape = member.shape + own.event_shape
        zero = torch.zeros(shape, dtype=torch.float32, device=member.device)
        return dist.MaskedMixture(member, dist.Delta(zero, event_dim=1), own)


@dataclass(frozen=True)
class SameAsOwn:
    """The owners' prior for all cells: the penalty of Davison et al. (paper, equation 18).

    With an ``own_weight`` of 0 it is the objective that Davison et al. (2019) ended with: no
    divergence of the copies that a cell owns (paper, appendix B).

    Examples
    --------
    >>> own = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    >>> SameAsOwn()(own, torch.tensor([True, False])).batch_shape
    torch.Size([2])
    """

    def __call__(self, own: dist.TorchDistribution, member: Tensor) -> dist.TorchDistribution:
        """Return the owners' prior for each entry of ``member``."""
        return own.expand(member.shape)


@dataclass(frozen=True)
class Absent:
    """No prior term for foreign cells: the objective of equation 7 ("no regularisation").

    Examples
    --------
    >>> own = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    >>> Absent()(own, torch.tensor([True, False])).log_prob(torch.ones(2, 2))[1]
    tensor(0.)
    """

    def __call__(self, own: dist.TorchDistribution, member: Tensor) -> dist.TorchDistribution:
        """Return the owners' prior, masked out where ``member`` is false."""
        masked: dist.TorchDistribution = own.expand(member.shape).mask(member)
        return masked


def dimension_prior(
    prior: dist.TorchDistribution | None, shape: tuple[int, ...], like: Tensor
) -> dist.TorchDistribution:
    """Return an owners' prior of independent dimensions: ``prior``, or standard normal.

    Parameters
    ----------
    prior
        A univariate distribution, or None.
    shape
        Batch shape of the result.
    like
        Tensor whose device and type the result has.
    """
    if prior is None:
        return dist.Normal(like.new_zeros(shape), 1.0)
    arguments = {k: torch.as_tensor(getattr(prior, k)).to(like) for k in prior.arg_constraints}
    family: Callable[..., dist.TorchDistribution] = type(prior)
    return family(**arguments).expand(shape)


def check_prior(prior: dist.TorchDistribution, dim: int, what: str) -> None:
    """Refuse what cannot be the owners' prior of a dimension.

    Parameters
    ----------
    prior
        What was given.
    dim
        Number of dimensions.
    what
        What it is the prior of, for the message.

    Raises
    ------
    SettingsError
        If it is no univariate distribution, cannot be repeated for each dimension, or is not one of
        all real numbers, as posteriors are.

    Examples
    --------
    >>> check_prior(dist.HalfNormal(1.0), 2, "latent 't'")
    Traceback (most recent call last):
    ...
    pyro_mgvi.errors.SettingsError: latent 't': prior HalfNormal() is not one of all real numbers...
    """
    shown = " ".join(repr(prior).split())
    instead = "use one such as pyro.distributions.Laplace(0.0, 1.0)"
    if not isinstance(prior, TorchDistributionMixin) or prior.event_shape:
        raise SettingsError(
            f"{what}: prior must be a univariate distribution, not {shown}: {instead}"
        )
    try:
        support = dimension_prior(prior, (dim,), torch.zeros(())).support
    except Exception as error:  # whatever a class says of parameters that it does not take
        raise SettingsError(
            f"{what}: prior {shown} cannot be repeated for {dim} dimensions ({error}): {instead}"
        ) from error
    if support is None or not support.check(torch.tensor(NUMBERS).unsqueeze(1)).all():
        raise SettingsError(
            f"{what}: prior {shown} is not one of all real numbers, as the posterior is: {instead}"
        )


@singledispatch
def owners_prior(prior: Distribution) -> Distribution:
    """Return the prior of cells that own a copy, of all its dimensions, from that of all cells.

    What is taken away are the Diracs of foreign cells and of inactive dimensions. Register your
    own prior if it wraps the owners' in another way.

    Examples
    --------
    >>> own = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    >>> owners_prior(Dirac()(own, torch.tensor([True, False]))).base_dist
    Normal(loc: torch.Size([2, 2]), scale: torch.Size([2, 2]))
    """
    return prior


@owners_prior.register(dist.MaskedMixture)
def _owners_of_mixture(prior: dist.MaskedMixture) -> Distribution:
    return owners_prior(prior.component1)


@owners_prior.register(dist.MaskedDistribution)
def _owners_of_masked(prior: dist.MaskedDistribution) -> Distribution:
    return owners_prior(prior.base_dist)


@owners_prior.register(dist.ExpandedDistribution)
def _owners_of_expanded(prior: dist.ExpandedDistribution) -> Distribution:
    return owners_prior(prior.base_dist)


@owners_prior.register(Independent)
def _owners_of_independent(prior: Independent[Distribution]) -> Distribution:
    base = owners_prior(prior.base_dist)
    return dist.Independent(base, prior.reinterpreted_batch_ndims)


class _ProperPriors(Messenger):
    """Replaces each prior with a Dirac by the owners'."""

    def _pyro_sample(self, msg: Message[..., Tensor]) -> None:
        prior = msg["fn"]
        if msg["is_observed"] or not isinstance(prior, TorchDistributionMixin):
            return
        own = owners_prior(prior)
        if own is not prior:
            msg["fn"] = own.expand(prior.batch_shape)


def proper_priors(model: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a model whose latents all have a density, for samplers such as ``NUTS``.

    Foreign copies and inactive dimensions get the owners' prior instead of a Dirac. The decoder
    sees zeros for them either way, so the posterior of the copies that a cell owns is the same.

    Examples
    --------
    >>> import pyro
    >>> def model():
    ...     own = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    ...     return pyro.sample("t", Dirac()(own, torch.tensor(False)))
    >>> bool((model() == 0).all()), bool((proper_priors(model)() == 0).any())
    (True, False)
    """

    def proper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with _ProperPriors():
            return model(*args, **kwargs)

    return proper
