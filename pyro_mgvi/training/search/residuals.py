"""Residuals of a fit: what a partly trained model leaves unexplained in each group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_mgvi.core.design import Design
from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.training.plan import SearchSettings
from pyro_mgvi.training.program import Program


class Direction(NamedTuple):
    """A direction of genes that covary.

    Attributes
    ----------
    loading_g
        Log expression (values of transformed data) per standard deviation of the score.
    score_n
        Its score for the ``cells``, with standard deviation 1.
    cells
        Positions in the data.
    """

    loading_g: Tensor
    score_n: Tensor
    cells: np.ndarray

    def scores_of(self, cells: np.ndarray) -> Tensor:
        """Return the score of those of its cells that are among ``cells``."""
        return self.score_n[torch.from_numpy(np.isin(self.cells, cells))]


class Residuals(NamedTuple):
    """Pearson residuals of some cells of a group, and their mean change with the location.

    Attributes
    ----------
    r_ng, slope_g
        Residuals, and their mean change.
    cells
        Positions of the cells.
    small
        Whether the group has too few cells to be searched alone.
    measured_g
        Which genes its cells have; all if not given.
    """

    r_ng: Tensor
    slope_g: Tensor
    cells: np.ndarray
    small: bool = False
    measured_g: Tensor | None = None


def searched_groups(design: Design, sizes_b: np.ndarray, least_cells: int) -> np.ndarray:
    """Return which groups are searched: those of a level that has cells enough.

    Of one column these are the groups that have; of several, a small combination counts with the
    others of a level, as small donors do within their condition.

    Examples
    --------
    >>> design = Design(("tissue", "drug"), (("gut", "no"), ("gut", "yes"), ("skin", "yes")))
    >>> searched_groups(design, np.array([900, 30, 50]), 100)
    array([ True,  True, False])
    """
    effect_bl = torch.cat(design.main_effects, 1).numpy()
    large_l = sizes_b @ effect_bl >= least_cells
    searched_b: np.ndarray = (effect_bl & large_l).any(1) & (sizes_b > 0)
    return searched_b


@torch.no_grad()
def residuals_of_groups(
    program: Program, data: GroupedCounts, settings: SearchSettings, seed: int
) -> dict[int, Residuals]:
    """Return the residuals of a sample of each group that is searched, by its code."""
    rng, model = np.random.default_rng(seed), program.model
    sizes = np.bincount(data.group_n, minlength=len(data.schema.groups))
    most = int(min(settings.max_cells, settings.max_residuals / (data.shape[1] * len(sizes))))
    groups = {}
    searched_b = searched_groups(program.families.design, sizes, settings.least_cells)
    for code in np.flatnonzero(searched_b):
        cells = np.flatnonzero(data.group_n == code)
        cells = np.sort(rng.permutation(cells)[:most])
        residuals, slope_g = [], torch.zeros(data.shape[1], dtype=torch.float32)
        seen_g, counts = torch.zeros_like(slope_g), model.data_kind is DataKind.COUNTS
        for _, posterior in program.posteriors(data.subset(cells)):
            batch = posterior.batch
            parts = posterior.decode(posterior.means())
            log_size = model.observed_log_library(batch.counts)
            fit = model.distribution(parts, log_size, batch.group)
            sd = fit.variance.clamp(min=1e-8).sqrt()
            residuals.append(((batch.counts - fit.mean) / sd).cpu())
            seen_g += (batch.counts != 0).sum(0).cpu()
            change = fit.mean if counts else torch.ones_like(sd)
            slope_g = slope_g + (change / sd).sum(0).cpu()
        r_ng = torch.cat(residuals).clamp_(-settings.largest_residual, settings.largest_residual)
        r_ng[:, seen_g == 0] = 0.0  # of a gene without a count they say what the model does
        measured_bg = program.model.measured_bg
        has_g = None if measured_bg is None else measured_bg[code].cpu()
        small = bool(sizes[code] < settings.least_cells)
        centred_ng, slope_g = r_ng - r_ng.mean(0), slope_g / len(r_ng)
        groups[int(code)] = Residuals(centred_ng, slope_g, cells, small, has_g)
    return groups


def without(group: Residuals, directions: Iterable[Direction]) -> Residuals:
    """Return a group's residuals without what follows the scores of some directions."""
    r_ng = group.r_ng
    for direction in directions:
        score_n = direction.scores_of(group.cells)
        r_ng = r_ng - torch.outer(score_n, score_n @ r_ng / score_n.square().sum())
    return group._replace(r_ng=r_ng)


def units(groups: list[Residuals], least_cells: int) -> list[Residuals]:
    """Return groups of which each has cells enough to be searched; small ones are put together.

    Of one column none is small (:func:`searched_groups`).
    """
    large = [group for group in groups if not group.small]
    small = [group for group in groups if group.small]
    n = sum(len(group.cells) for group in small)
    if not small or (large and n < least_cells):  # too few to be asked
        return large
    weights = [len(group.cells) / n for group in small]
    slope_g = torch.stack([w * group.slope_g for w, group in zip(weights, small)]).sum(0)
    cells = np.concatenate([group.cells for group in small])
    return [*large, Residuals(torch.cat([group.r_ng for group in small]), slope_g, cells)]
