"""Directions that some groups may vary along: found in half of the cells, one of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_mgvi.analysis.discovery.evidence import SURELY_ABSENT, Evidence, evidence
from pyro_mgvi.training.plan import SearchSettings
from pyro_mgvi.training.search.pairs import leading_directions
from pyro_mgvi.training.search.residuals import Residuals

LIKELY = 2.3  # normal score of a group whose cells help to refine a direction
SAME = 0.5  # correlation of loadings above which two directions are one
PASSES = 3  # over the residuals, each without what all groups were found to share


class Candidate(NamedTuple):
    """A direction, and how far the cells on which it was not found vary along it.

    Attributes
    ----------
    loading_g
        Log expression per standard deviation of its score.
    unseen
        Evidence of each group.
    scores
        Its score for each cell of each group.
    """

    loading_g: Tensor
    unseen: Evidence
    scores: list[Tensor]


def candidates(groups: Sequence[Residuals], settings: SearchSettings, seed: int) -> list[Candidate]:
    """Return directions found in a random half of the cells, tested in the other half.

    Pairs of genes that covary stand out in one group, or in all groups taken together. Each
    direction is refined by the cells of all groups that seem to vary along it; one of which the
    loadings are those of an earlier one is left out. What all groups vary along may hide what
    some vary along in the same genes: it is removed from the residuals, and these are searched
    again.

    Parameters
    ----------
    groups
        Residuals of each group, of the genes that are searched.
    settings
        Thresholds.
    seed
        Of the halves.
    """
    rng = np.random.default_rng(seed)
    halves = [_halves(group, rng) for group in groups]
    seen, unseen = [half[0] for half in halves], [half[1] for half in halves]
    found: list[Candidate] = []
    specific: list[Tensor] = []  # loadings, standardised
    for _ in range(PASSES):
        everywhere: list[Tensor] = []
        size_g = mean_slope(seen)
        squares = [group.r_ng.square() for group in seen]
        common: list[Tensor] = []
        for start_g in _starts(seen, settings):
            if _any_like(start_g * size_g, [*specific, *common]):
                continue
            loading_g = refined(seen, squares, start_g, settings)
            if loading_g is None or _any_like(loading_g * size_g, [*specific, *common]):
                continue
            vary_b, loading_g = _least_common(seen, squares, loading_g, settings)
            scores = [
                torch.cat([_score(half, loading_g) for half in pair]) for pair in zip(seen, unseen)
            ]
            found.append(Candidate(loading_g, evidence(unseen, loading_g), scores))
            (common if vary_b.all() else specific).append(_unit(loading_g * size_g))
            if vary_b.all():
                everywhere.append(loading_g)
        if not everywhere:
            break
        seen = [without_directions(group, everywhere) for group in seen]
        unseen = [without_directions(group, everywhere) for group in unseen]
    cells = [np.argsort(np.concatenate([half.cells for half in pair])) for pair in halves]
    return [
        each._replace(scores=[score_n[order] for score_n, order in zip(each.scores, cells)])
        for each in found
    ]


def mean_slope(groups: Sequence[Residuals]) -> Tensor:
    """Return by how much a residual changes with log expression, mean over the groups."""
    return torch.stack([group.slope_g for group in groups]).mean(0)


def refined(
    groups: Sequence[Residuals],
    squares: Sequence[Tensor],
    loading_g: Tensor,
    settings: SearchSettings,
) -> Tensor | None:
    """Return a direction as the cells of all groups that vary along it say, or None.

    A gene follows a direction if its covariance with the score of the *other* genes is more than
    the largest of so many would be by chance.

    Parameters
    ----------
    groups, squares
        Residuals, and their squares.
    loading_g
        Where to begin.
    settings
        Thresholds.
    """
    threshold = (2 * np.log(max(2, len(loading_g)))) ** 0.5
    for _ in range(settings.refinements):
        vary_b = evidence(groups, loading_g).z_varies(settings.dead) > LIKELY
        if not vary_b.any():
            return None
        sum_g, square_g, slope_g = (torch.zeros_like(loading_g) for _ in range(3))
        for b in np.flatnonzero(vary_b).tolist():
            group, v_g = groups[b], loading_g * groups[b].slope_g
            score_n = group.r_ng @ v_g
            sd = score_n.std().clamp(min=1e-6)
            score_n, v_g = score_n / sd, v_g / sd
            sum_g += score_n @ group.r_ng - v_g * squares[b].sum(0)
            square_g += score_n.square() @ squares[b]
            slope_g += len(score_n) * group.slope_g
        follows_g = sum_g.abs() > threshold * square_g.sqrt()
        if follows_g.sum() < settings.least_genes:
            return None
        before_g, loading_g = loading_g, sum_g * follows_g / slope_g.clamp(min=1e-6)
        if _alike(before_g, loading_g) > 1 - 1e-4:
            break
    return loading_g


def _least_common(
    groups: Sequence[Residuals],
    squares: Sequence[Tensor],
    loading_g: Tensor,
    settings: SearchSettings,
) -> tuple[np.ndarray, Tensor]:
    """Return which groups vary along a direction, and the direction.

    If all do, and some of them much less than others, a program of the others in the same genes may
    be mixed in: what all groups vary along is then what those say that vary least.
    """
    found = evidence(groups, loading_g)
    vary_b = found.z_varies(settings.dead) > LIKELY
    least = np.flatnonzero(found.share_b < 1 / SURELY_ABSENT).tolist()
    if vary_b.all() and len(least):
        few = [groups[b] for b in least], [squares[b] for b in least]
        pure_g = refined(*few, loading_g, settings)
        if pure_g is not None:
            loading_g = pure_g
            vary_b = evidence(groups, loading_g).z_varies(settings.dead) > LIKELY
    return vary_b, loading_g


def without_directions(group: Residuals, loadings: Iterable[Tensor]) -> Residuals:
    """Return residuals of a group without what follows the scores along some directions."""
    r_ng = group.r_ng
    for loading_g in loadings:
        score_n = r_ng @ (loading_g * group.slope_g)
        r_ng = r_ng - torch.outer(score_n, score_n @ r_ng / score_n.square().sum().clamp(min=1e-9))
    return group._replace(r_ng=r_ng)


def _starts(groups: Sequence[Residuals], settings: SearchSettings) -> list[Tensor]:
    """Return directions along which pairs of genes covary in all groups, or in one."""
    cells = np.concatenate([group.cells for group in groups])
    pooled = Residuals(torch.cat([group.r_ng for group in groups]), mean_slope(groups), cells)
    every_g = torch.ones(len(pooled.slope_g), dtype=torch.bool)
    searched = [pooled, *groups] if len(groups) > 1 else [pooled]
    found = [leading_directions([unit], [], every_g, settings)[0] for unit in searched]
    return [direction.loading_g for directions in found for direction in directions]


def _halves(group: Residuals, rng: np.random.Generator) -> tuple[Residuals, Residuals]:
    order = rng.permutation(len(group.cells))
    one, other = (np.sort(half) for half in (order[::2], order[1::2]))
    return _part(group, one), _part(group, other)


def _part(group: Residuals, positions: np.ndarray) -> Residuals:
    r_ng = group.r_ng[torch.from_numpy(positions)]
    return group._replace(r_ng=r_ng - r_ng.mean(0), cells=group.cells[positions])


def _score(group: Residuals, loading_g: Tensor) -> Tensor:
    return group.r_ng @ (loading_g * group.slope_g)


def _unit(v_g: Tensor) -> Tensor:
    return v_g / v_g.norm().clamp(min=1e-12)


def _alike(one_g: Tensor, other_g: Tensor) -> float:
    return float((_unit(one_g) @ _unit(other_g)).abs())


def _any_like(v_g: Tensor, others: Iterable[Tensor]) -> bool:
    return any(_alike(v_g, other_g) > SAME for other_g in others)
