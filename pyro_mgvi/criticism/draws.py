"""Draws from the guide, one minibatch of cells and one draw at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor
from tqdm import tqdm

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.errors import SettingsError

VALUES = 2**22  # cells x genes that are dense at a time (16 MiB in single precision)
CELLS = 1024  # at most so many cells at a time


@dataclass(frozen=True)
class Draw:
    """One draw of the latents of n cells.

    Attributes
    ----------
    latents
        Values of each latent, (n, dim), or (S, n, dim) for a family of several copies; exactly
        zero in dimensions out of use. Foreign copies are what the guide says of them.
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


class CellPosterior:
    """The guide's posterior of some cells: encoders run once, for any number of draws."""

    def __init__(self, mgvi, batch):
        self.model, self.batch = mgvi.model, batch
        self.posteriors = mgvi.guide.posteriors(batch.counts, batch.covariates)

    def draw(self) -> Draw:
        """Return one draw, from torch's global generator (see :func:`seeded`)."""
        model, batch, n = self.model, self.batch, len(self.batch.group)
        latents, log_ratio = {}, torch.zeros(n)
        for latent in model.latents:
            loc, scale = self.posteriors[latent.name]
            in_use = model.in_use(latent)
            noise = torch.randn_like(loc)
            value = (loc + scale * noise) * in_use
            # log N(value; 0, 1) - log N(value; loc, scale)
            ratio = ((noise**2 - value**2) / 2 + scale.log()) * in_use
            owned = ratio.sum(-1) * model.member(latent, batch.group)
            log_ratio = log_ratio + owned.reshape(-1, n).sum(0)
            latents[latent.name] = value
        log_library = None
        if "library" in self.posteriors and model.observed_library:
            log_library = batch.counts.sum(-1).log()
        elif "library" in self.posteriors:
            guide = dist.Normal(*self.posteriors["library"])
            log_library = guide.sample()
            prior = model.library_prior(batch.batch, n)  # log-normal: the Jacobians cancel
            prior = dist.Normal(prior.loc, prior.scale)
            log_ratio = log_ratio + prior.log_prob(log_library) - guide.log_prob(log_library)
        parts = model.decode(latents, batch.group, batch.covariates)
        return Draw(latents, log_library, model.likelihood(parts, log_library), log_ratio)


def posteriors(
    mgvi, data: GroupedCounts, progress: bool, what: str
) -> Iterator[tuple[np.ndarray, CellPosterior]]:
    """Yield positions and posteriors of all cells in order, a minibatch at a time."""
    mgvi.model.eval()
    mgvi.guide.eval()
    size = int(np.clip(VALUES // data.x.shape[1], 2, CELLS))
    start = 0
    with tqdm(total=len(data), desc=what, unit="cell", disable=not progress, leave=False) as bar:
        for batch in data.minibatches(size, shuffle=False):
            n = len(batch.group)
            yield np.arange(start, start + n), CellPosterior(mgvi, batch)
            start += n
            bar.update(n)


@contextmanager
def seeded(seed: int):
    """Draw from torch's generator at ``seed``, without gradients; the caller's state stays."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        yield


def positive(name: str, value: int, least: int = 1) -> int:
    """Return ``value`` as an integer.

    Raises
    ------
    SettingsError
        If it is not a whole number of at least ``least``.
    """
    if int(value) != value or value < least:
        raise SettingsError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def cell_names(data: GroupedCounts, adata) -> np.ndarray:
    """Return the cells' names, or their positions where ``adata`` has none."""
    return np.asarray(adata.obs_names) if hasattr(adata, "obs_names") else data.cells
