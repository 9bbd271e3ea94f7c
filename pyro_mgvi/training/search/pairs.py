"""Directions along which pairs of genes covary in some groups and not in the others."""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor

from pyro_mgvi.training.plan import SearchSettings
from pyro_mgvi.training.search.residuals import Direction, Residuals


def leading_directions(
    own: list[Residuals], others: list[Residuals], free_g: Tensor, settings: SearchSettings
) -> tuple[list[Direction], Tensor]:
    """Return the directions of one copy, and which genes are then left to search.

    Parameters
    ----------
    own
        Residuals of each group that owns the copy.
    others
        Residuals of the other groups, none if there are no others.
    free_g
        Which genes to search, boolean.
    settings
        Thresholds.
    """
    free_g = free_g.clone()
    slope_g = torch.stack([group.slope_g for group in own]).mean(0).clamp(min=1e-3)
    pairs_p2, covariance_p = _pairs([group.r_ng for group in own], others, free_g, settings)
    n_genes, found = len(free_g), []
    while len(pairs_p2):
        first_g = _leading(pairs_p2, covariance_p, n_genes)
        first_g[first_g.abs() < 1e-3] = 0.0
        v_g = _refined(first_g, [group.r_ng for group in own], free_g, settings.refinements)
        free_g &= (first_g == 0) & (v_g == 0)
        if (v_g != 0).sum() >= settings.least_genes:
            scores = [group.r_ng @ v_g for group in own]
            score_n = torch.cat([score / score.std() for score in scores])
            cells = np.concatenate([group.cells for group in own])
            found.append(Direction(v_g / slope_g, score_n, cells))
        left = free_g[pairs_p2].all(1)
        pairs_p2, covariance_p = pairs_p2[left], covariance_p[left]
    return found, free_g


def _leading(pairs_p2: Tensor, covariance_p: Tensor, n_genes: int) -> Tensor:
    """Return the leading eigenvector of the matrix whose only entries are those of pairs."""
    genes, position_p2 = pairs_p2.unique(return_inverse=True)
    among = np.zeros((len(genes), len(genes)))
    i, j = position_p2.T.numpy()
    among[i, j] = among[j, i] = covariance_p.numpy()
    last = [len(genes) - 1] * 2
    v_g = torch.zeros(n_genes, dtype=torch.float32)
    v_g[genes] = torch.from_numpy(eigh(among, subset_by_index=last)[1][:, 0]).float()
    return v_g


def _pairs(
    own: list[Tensor], others: list[Residuals], free_g: Tensor, settings: SearchSettings
) -> tuple[Tensor, Tensor]:
    """Return the pairs of genes that covary in all owners, (P, 2), and their covariance."""
    index = free_g.nonzero()[:, 0]
    if len(index) < 2:
        return index.new_zeros(0, 2), torch.zeros(0, dtype=torch.float32)
    threshold = (2 * np.log(len(index) * (len(index) - 1) / 2)) ** 0.5
    least_gg = reduce(torch.minimum, (_strength(r_ng[:, index]) for r_ng in own))
    candidates = (least_gg.triu_(1) > settings.margin * threshold).nonzero()
    if len(candidates) > settings.max_pairs:
        candidates = candidates[least_gg[tuple(candidates.T)].topk(settings.max_pairs).indices]
    pairs = index[candidates]
    means, errors = zip(*(_moments(r_ng, pairs) for r_ng in own))
    mean, error = torch.stack(means), torch.stack(errors)
    chosen = (mean.abs() > threshold * error).all(0)
    chosen &= (mean > 0).all(0) | (mean < 0).all(0)
    if others:
        mean_others, error_others = _moments(torch.cat([each.r_ng for each in others]), pairs)
        if others[0].measured_g is not None:  # over the cells that have both genes, if any have
            share_p = _share_with_both(others, pairs)
            chosen &= share_p > 0
            mean_others, error_others = mean_others / share_p, error_others / share_p
        gap, gap_error = (mean - mean_others).abs(), (error**2 + error_others**2).sqrt()
        chosen &= (gap > threshold * gap_error).all(0)
    return pairs[chosen], mean.mean(0)[chosen]


def _share_with_both(others: list[Residuals], pairs_p2: Tensor) -> Tensor:
    """Return the share of the cells that have both genes of a pair; residuals are 0 elsewhere."""
    sizes = torch.tensor([len(each.cells) for each in others], dtype=torch.float32)
    has = [each.measured_g for each in others if each.measured_g is not None]
    both_bp = torch.stack(has)[:, pairs_p2].all(-1)
    return sizes @ both_bp.float() / sizes.sum()


def _strength(r_ng: Tensor) -> Tensor:
    """Return how strongly genes covary, in standard errors if all are normal."""
    r_ng = r_ng / r_ng.std(0).clamp(min=1e-6)
    return (r_ng.T @ r_ng).abs_().div_(len(r_ng) ** 0.5)


def _moments(r_ng: Tensor, pairs_p2: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean product of each pair, and its standard error if there is no covariance."""
    means, squares = [], []
    for i, j in (part.T for part in pairs_p2.split(500)):
        product = r_ng[:, i] * r_ng[:, j]
        means.append(product.mean(0))
        squares.append(product.square_().mean(0))
    if not means:
        nothing = torch.zeros(0, dtype=torch.float32)
        return nothing, nothing
    return torch.cat(means), (torch.cat(squares) / len(r_ng)).sqrt().clamp(min=1e-9)


def _refined(v_g: Tensor, own: list[Tensor], free_g: Tensor, rounds: int) -> Tensor:
    """Return the covariance with the score of all free genes that follow it, zero elsewhere."""
    threshold = (2 * np.log(len(v_g))) ** 0.5
    for _ in range(rounds):
        covariance_g, follows_g = torch.zeros_like(v_g), free_g.clone()
        for r_ng in own:
            score_n = r_ng @ v_g
            score_n = score_n / score_n.std().clamp(min=1e-6)
            product_g = r_ng.T @ score_n
            error_g = (r_ng.square().T @ score_n.square()).sqrt()
            follows_g &= product_g.abs() > threshold * error_g
            covariance_g += product_g / (len(r_ng) * len(own))
        if follows_g.sum() < 2:
            return torch.zeros_like(v_g)
        v_g = covariance_g * follows_g
    return v_g
