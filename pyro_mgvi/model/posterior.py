"""What a guide says of some cells: means, draws, and divergences from the model's own prior."""

from __future__ import annotations

from dataclasses import dataclass

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Independent

from pyro_mgvi.core.divergence import divergence
from pyro_mgvi.core.interfaces import Moments, Part
from pyro_mgvi.core.priors import owners_prior
from pyro_mgvi.data.minibatch import Minibatch
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.model.generative import Model


@dataclass(frozen=True)
class Posterior:
    """The posterior of n cells, factored over copies and dimensions.

    Attributes
    ----------
    model
        Whose latents these are.
    batch
        The cells.
    moments
        Location and scale of each latent, (S, n, dim), and of the log of the ``library``, (n,).
    """

    model: Model
    batch: Minibatch
    moments: Moments
    effect_ng: Tensor | None = None

    def __len__(self) -> int:
        return len(self.batch.group)

    def mean(self, name: str) -> Tensor:
        """Return the posterior mean of a latent, (S, n, dim): zero in inactive dimensions."""
        return self.moments[name][0]

    def means(self) -> dict[str, Tensor]:
        """Return the posterior means of all latents."""
        return {latent.name: self.mean(latent.name) for latent in self.model.latents}

    def shared_means(self) -> Tensor:
        """Return the means of all shared latents side by side, (n, k): no column without any."""
        shared = [self.mean(x.name).movedim(0, 1).flatten(1) for x in self.model.latents.shared]
        counts = self.batch.counts
        none = torch.zeros(len(counts), 0, dtype=counts.dtype, device=counts.device)
        return torch.cat(shared or [none], -1)

    def owned(self, name: str) -> Tensor:
        """Return which cells own which copy, boolean (S, n)."""
        return self.model.member(self.model.latents[name], self.batch.group)

    def draw(self, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return one draw of each latent, (S, n, dim): exact zeros in inactive dimensions.

        Parameters
        ----------
        generator
            Of random numbers; torch's global one by default.
        """
        drawn = {}
        for latent in self.model.latents:
            loc, scale = self.moments[latent.name]
            noise = torch.randn(loc.shape, generator=generator, dtype=torch.float32).to(loc)
            drawn[latent.name] = (loc + scale * noise) * self._active(latent.name)
        return drawn

    def divergence(self, name: str) -> Tensor:
        """Return each dimension's divergence from the owners' prior, (S, n, dim), in nats.

        Zero for inactive dimensions.

        Raises
        ------
        SettingsError
            If the owners' prior is not one of independent dimensions.
        """
        loc, scale = self.moments[name]
        value = divergence(self._dimension_prior(name), dist.Normal(loc, scale))
        return value.where(self._active(name), 0.0)

    def log_ratio(self, values: dict[str, Tensor]) -> Tensor:
        """Return log prior minus log posterior density of the copies that a cell owns, (n,).

        Foreign copies do not enter: the decoder sees zeros for them, so they integrate to one.

        Parameters
        ----------
        values
            A draw of each latent, (S, n, dim).
        """
        total = torch.zeros(len(self), device=self.batch.group.device, dtype=torch.float32)
        for name, value in values.items():
            loc, scale = self.moments[name]
            ratio = self._dimension_prior(name).log_prob(value)
            ratio = ratio - dist.Normal(loc, scale).log_prob(value)
            ratio = ratio.where(self._active(name), 0.0).sum(-1)
            total = total + ratio.where(self.owned(name), 0.0).sum(0)
        return total

    def decode(self, values: dict[str, Tensor]) -> list[Part]:
        """Return the decoder's parts for values of all latents, (S, n, dim) each."""
        labels = self.batch.group, self.batch.covariates
        return self.model.decode(values, *labels, effect_ng=self.effect_ng)

    def log_likelihood(self, values: dict[str, Tensor]) -> Tensor:
        """Return the log-likelihood of the cells at the mean library, (n,), in nats.

        Parameters
        ----------
        values
            A draw of each latent, (S, n, dim).
        """
        parts = self.decode(values)
        counts = self.model.distribution(parts, self.log_library(), self.batch.group)
        return counts.log_prob(self.batch.counts)

    def log_library(self) -> Tensor | None:
        """Return the log of the posterior mean of the library size, or of the observed one."""
        if self.model.observed_library or "library" not in self.moments:
            return self.model.observed_log_library(self.batch.counts)
        location, scale = self.moments["library"]
        return location + scale**2 / 2

    def _active(self, name: str) -> Tensor:
        return self.model.active[name].unsqueeze(1)

    def _dimension_prior(self, name: str) -> dist.TorchDistribution:
        latent = self.model.latents[name]
        prior = owners_prior(self.model.prior(latent, self.batch.group))
        if not isinstance(prior, Independent) or prior.reinterpreted_batch_ndims != 1:
            raise SettingsError(
                f"the owners' prior of {name!r}, {prior}, is not one of independent dimensions: "
                "build it with Univariate(...).to_event(1)"
            )
        # (d,), (n, d) of a single copy, (S, 1 or n, d): they broadcast
        each: dist.TorchDistribution = prior.base_dist
        return each
