"""The objective: an ELBO whose divergence fits each prior (paper, equation 11)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.util import check_fully_reparametrized, is_validation_enabled, torch_item
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch.distributions import Distribution

from pyro_mgvi.core.divergence import divergence
from pyro_mgvi.errors import SettingsError

Program = Callable[..., Any]  # a Pyro program: a model or a guide
Site = Mapping[str, Any]  # what a trace holds of one name


class WassersteinTraceELBO(TraceMeanField_ELBO):
    r"""Mean-field ELBO with :func:`~pyro_mgvi.core.divergence.divergence` in place of the KL.

    .. math:: E_q[\log p(x | z, t, l)] - D(q(z)) - D(q(l)) - \sum_s w_s D(q(t_s))

    where :math:`D` is the KL divergence, or the squared 2-Wasserstein distance where the prior
    is a Dirac (paper, equation 11). Without a Dirac it equals ``TraceMeanField_ELBO``, if all
    divergences have a closed form; if not, it does so in expectation.

    Parameters
    ----------
    own_weight
        Weight, per site, of the divergence of the copies that a cell owns (1 in the paper).
        Once an encoder can tell the groups apart, equation 11 is indifferent between shared
        variation in z and in the own t; a weight above 1 on ``t`` breaks the tie. A number, or
        one for each copy of the family.
    foreign_weight
        Weight, per site, of the divergence of the copies that a cell does not own.
    **kwargs
        As for :class:`pyro.infer.TraceMeanField_ELBO`, such as ``num_particles``.

    Raises
    ------
    SettingsError
        When a loss is computed: if a weight is for a site that the guide does not have.

    Notes
    -----
    Who owns a copy is declared where the guide samples it, ``infer={"owned": owned}``: a tensor
    that broadcasts to the site's batch shape, boolean or, for soft membership, between 0 and 1.
    A site without it is everyone's. (It has to be the guide's site: a replayed model takes over
    the ``infer`` of the guide.)

    Examples
    --------
    >>> import pyro, pyro.distributions as dist
    >>> def model():
    ...     pyro.sample("t", dist.Delta(torch.tensor(0.0)))
    >>> def guide():
    ...     pyro.sample("t", dist.Normal(3.0, 2.0))
    >>> WassersteinTraceELBO().loss(model, guide)
    13.0
    """

    def __init__(
        self,
        own_weight: Mapping[str, float | Sequence[float]] | None = None,
        foreign_weight: Mapping[str, float | Sequence[float]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.own_weight = _per_copy(own_weight or {})
        self.foreign_weight = _per_copy(foreign_weight or {})

    def terms(
        self, model: Program, guide: Program, *args: Any, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        """Return the loss split by site, averaged over particles and scaled to the dataset.

        A latent site gives its weighted divergence, an observed site minus its expected
        log-likelihood; the loss is their sum. Takes the arguments of ``loss``.
        """
        terms: dict[str, torch.Tensor] = {}
        for traces in self._get_traces(model, guide, args, kwargs):
            for name, term in self._site_losses(*traces):
                terms[name] = terms.get(name, 0.0) + term / self.num_particles
        return terms

    def _get_trace(
        self, model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Trace, Trace]:
        if is_validation_enabled() or isinstance(poutine.unwrap(guide), Messenger):
            traces: tuple[Trace, Trace] = super()._get_trace(model, guide, args, kwargs)
            return traces
        # Without validation only the observed sites need a log-probability: divergences do not.
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
        replayed = poutine.replay(model, trace=guide_trace)
        model_trace = prune_subsample_sites(poutine.trace(replayed).get_trace(*args, **kwargs))
        model_trace.compute_log_prob(lambda name, site: site["is_observed"])
        return model_trace, prune_subsample_sites(guide_trace)

    def _differentiable_loss_particle(
        self, model_trace: Trace, guide_trace: Trace
    ) -> tuple[float, torch.Tensor | int]:
        loss = sum(term for _, term in self._site_losses(model_trace, guide_trace))
        return torch_item(loss), loss

    def _site_losses(
        self, model_trace: Trace, guide_trace: Trace
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield what each sample site adds to the loss."""
        model_sites: Mapping[str, Site] = model_trace.nodes
        guide_sites: Mapping[str, Site] = guide_trace.nodes
        unknown = {*self.own_weight, *self.foreign_weight} - set(guide_sites)
        if unknown:
            raise SettingsError(f"weights of {sorted(unknown)}: the guide has no such site")
        for name, site in model_sites.items():
            if site["type"] != "sample":
                continue
            if site["is_observed"]:
                yield name, -site["log_prob_sum"]
                continue
            guide_site = guide_sites[name]
            if is_validation_enabled():
                check_fully_reparametrized(guide_site)
            gap = self._weighted_divergence(name, site["fn"], guide_site)
            gap = scale_and_mask(gap, guide_site["scale"], guide_site["mask"])
            yield name, gap.expand(guide_site["fn"].batch_shape).sum()
        for name, site in guide_sites.items():
            if site["type"] == "sample" and name not in model_sites:
                guide_trace.compute_score_parts()
                yield name, site["score_parts"].entropy_term.sum()

    def _weighted_divergence(
        self, name: str, prior: Distribution, guide_site: Site
    ) -> torch.Tensor:
        value = divergence(prior, guide_site["fn"])
        own, foreign = self.own_weight.get(name, 1.0), self.foreign_weight.get(name, 1.0)
        plain = isinstance(own, float) and isinstance(foreign, float)
        if plain and own == foreign == 1.0:
            return value
        owned: torch.Tensor | None = guide_site["infer"].get("owned")
        if owned is None:
            return own * value
        owned = owned.to(value)
        return (owned * own + (1 - owned) * foreign) * value


def _per_copy(
    weights: Mapping[str, float | Sequence[float]],
) -> dict[str, float | torch.Tensor]:
    """Return numbers as they are, and weights of each copy as (S, 1)."""
    return {
        name: float(weight) if isinstance(weight, Real) else torch.as_tensor(weight).unsqueeze(-1)
        for name, weight in weights.items()
    }
