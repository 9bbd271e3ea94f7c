"""Draws from the guide, one minibatch of cells and one draw at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.kernels.exclusive import exclusive
from pyro_mgvi.model import Posterior
from pyro_mgvi.training.program import Program

VALUES = 2**22  # cells x genes that are dense at a time (16 MiB in single precision)
CELLS = 1024  # at most so many cells at a time


@dataclass(frozen=True)
class Draw:
    """One draw of the latents of n cells.

    Attributes
    ----------
    latents
        Values of each latent, (S, n, dim); exactly zero in inactive dimensions. Foreign copies
        are what the guide says of them.
    log_library
        Log library size, (n,); None for transformed data.
    counts
        Distribution of the cells' values given these latents.
    log_ratio
        Log prior minus log guide density of the copies that a cell owns, (n,), nats. Foreign
        copies do not enter: the decoder sees zeros for them, so they integrate to one.
    """

    latents: dict[str, Tensor]
    log_library: Tensor | None
    counts: dist.TorchDistribution
    log_ratio: Tensor


def draw(posterior: Posterior) -> Draw:
    """Return one draw, from torch's global generator (see :func:`seeded`)."""
    model, batch, latents = posterior.model, posterior.batch, posterior.draw()
    log_ratio = posterior.log_ratio(latents)
    log_library = model.observed_log_library(batch.counts)
    if "library" in posterior.moments and not model.observed_library:
        guide = dist.Normal(*posterior.moments["library"])
        log_library = guide.sample()
        prior = model.library_prior(batch.batch, len(posterior))
        prior = dist.Normal(prior.loc, prior.scale)  # log-normal: the Jacobians cancel
        log_ratio = log_ratio + prior.log_prob(log_library) - guide.log_prob(log_library)
    parts = posterior.decode(latents)
    counts = model.distribution(parts, log_library, batch.group)
    return Draw(latents, log_library, counts, log_ratio)


def dense_posteriors(
    mgvi: Program, data: GroupedCounts, progress: bool, what: str
) -> Iterator[tuple[np.ndarray, Posterior]]:
    """Yield positions and posteriors of all cells, so few at a time that draws fit in memory."""
    size = int(np.clip(VALUES // data.shape[1], 2, CELLS))
    return mgvi.posteriors(data, size, progress=what if progress else None)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's generator at ``seed``, without gradients; the caller's state stays."""
    with exclusive(), torch.no_grad():
        torch.manual_seed(seed)
        yield
