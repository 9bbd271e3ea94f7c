"""Scores of genes that hold for new samples: these are held out whole, and compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from pyro_mgvi.analysis.cross_fit import CrossFit
from pyro_mgvi.analysis.efficient_scores import CELLS_PER_NUISANCE, freed_products
from pyro_mgvi.analysis.folds import whole_samples
from pyro_mgvi.analysis.gene_effects.unseen import shrunk
from pyro_mgvi.analysis.hidden.contrasts import (
    Contrast,
    nuisance_width,
    said,
    unseen_contrasts,
)
from pyro_mgvi.analysis.sample_tests import Units, sample_scores
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.names import NamedGroups, named_groups
from pyro_mgvi.data.reading import SAMPLES
from pyro_mgvi.errors import DataWarning, warn
from pyro_mgvi.model.decoding import Decoding

NEW, SAME = "new samples", "new cells of these samples"


def new_sample_scores(
    refits: CrossFit,
    data: GroupedCounts,
    group: str,
    without: Decoding,
    cells: np.ndarray,
    progress: bool = False,
) -> np.ndarray:
    r"""Return each gene's normal score across samples, or NaN for all where they are too few.

    Cells of one donor are alike, so that many cells of few donors say little of the next donor.
    What counts as an observation is therefore a sample. For each fold, the refit that has seen none
    of its samples gives the quasi-score residual r of each count, and its information w, each
    gene hidden from the encoder (as in :meth:`CrossFit.z_scores`). They are summed within
    samples, and the sums are tested with :func:`sample_scores`.

    With an averaged offset (a shift of the group's mean), the units are the cells of a sample that
    are of the group, and those that are not. Their effects :math:`\sum r / \sum w` are regressed on
    the fold and on being of the group: where samples are nested in groups, the shift is measured by
    the differences between samples of a group. Where some samples are crossed with the groups,
    only these are used, each with a level of its own: the shift is measured by how it differs
    between them (a paired test). Scores are two-sided, positive for a rise.

    With each group's own offset (variation within the group), the units are its samples, and the
    effect is the slope of the residuals along the prediction :math:`\delta`, both freed from the
    sample's own level, the log library and the shared latents: is it above zero in the samples
    that the prediction has not seen? Scores are one-sided, positive in the predicted direction.

    Both are centred and scaled by their bulk, never away from zero (Efron 2004): most genes are
    not affected.

    Parameters
    ----------
    refits, data, group, without, cells, progress
        As for :meth:`CrossFit.z_scores`.

    Warns
    -----
    DataWarning
        If there are too few samples or cells, or no common gene, and what would be needed.
    """
    refits.check(data)
    named = named_groups(refits.refits[0].families, group)
    used = cells[_used(data, named, without.averaged, cells)]
    few = _few(refits, data, named, without.averaged, used)
    if few:
        warn(f"no q-value of {group} for new samples: {few}", DataWarning)
        return np.full(data.shape[1], np.nan)
    known_g = common_genes(data, used)
    if not known_g.any():
        warn(
            f"no q-value of {group} for new samples: no gene is in all groups of the cells that "
            "are compared; choose cells of groups that have genes in common (cells=...)",
            DataWarning,
        )
        return np.full(data.shape[1], np.nan)
    folds = _folds(refits, data, named, without, used, progress)
    units = _shifts(folds) if without.averaged else _slopes(folds)
    z_g = sample_scores(units)
    z_g[~known_g] = np.nan
    z_g[known_g] = shrunk(z_g[known_g])
    return z_g


def common_genes(data: GroupedCounts, cells: np.ndarray) -> np.ndarray:
    """Return which genes the groups of all these cells have: in those, samples are compared."""
    measured_bg = data.schema.measured_bg
    if measured_bg is None:
        return np.ones(data.shape[1], bool)
    known_g: np.ndarray = measured_bg[np.unique(data.group_n[cells])].all(0)
    return known_g


Parts = Iterable[tuple[np.ndarray, Contrast]]  # genes, and what a refit says of them
Fold = tuple[int, GroupedCounts, np.ndarray, Parts]


def _used(data: GroupedCounts, named: NamedGroups, averaged: bool, cells: np.ndarray) -> np.ndarray:
    """Return which of the cells are tested: those of crossed samples, where there are some."""
    own_n, sample_n = named.own(data.group_n[cells]), data.sample_n[cells]
    if not averaged:
        return own_n
    crossed = np.intersect1d(sample_n[own_n], sample_n[~own_n])
    return np.isin(sample_n, crossed) if len(crossed) else np.ones(len(cells), bool)


def _few(
    refits: CrossFit, data: GroupedCounts, named: NamedGroups, averaged: bool, used: np.ndarray
) -> str:
    """Return what there is too little of, or an empty text."""
    own_n, sample_n = named.own(data.group_n[used]), data.sample_n[used]
    sides = [len(np.unique(sample_n[own_n]))]
    if averaged:
        sides.append(len(np.unique(sample_n[~own_n])))
    if min(sides) < SAMPLES:
        of_others = f" and {sides[1]} of other groups" if averaged else ""
        return (
            f"the cells are of {sides[0]} sample(s) of the group{of_others}, at least {SAMPLES} "
            "are needed; Bayes factors and effects are of the cells at hand"
        )
    if not whole_samples(data, refits.fold_n):
        return (
            "the refits hold out cells, not whole samples: a group has fewer samples than folds, "
            "or they are of a model without sample_key; call cross_fit anew, or with fewer folds"
        )
    if not averaged:  # what slopes are freed from must be fewer columns than there are cells
        for fold, refit in enumerate(refits.refits):
            samples = sample_n[own_n & (refits.fold_n[used] == fold)]
            columns = nuisance_width(refit) + len(np.unique(samples)) - 1
            if 0 < len(samples) < CELLS_PER_NUISANCE * columns:
                return (
                    f"{len(samples)} unseen cells are too few to tell variation within the group "
                    f"from the shared latents, {CELLS_PER_NUISANCE * columns} are needed"
                )
    return ""


def _folds(
    refits: CrossFit,
    data: GroupedCounts,
    named: NamedGroups,
    without: Decoding,
    used: np.ndarray,
    progress: bool = False,
) -> Iterator[Fold]:
    """Yield each fold, its cells, which are of the group, and what the refit says of them."""
    for fold, refit in enumerate(refits.refits):
        tested = data.subset(used[refits.fold_n[used] == fold])
        if len(tested):
            own = named.own(tested.group_n)
            bar = said(fold, len(refits.refits)) if progress else None
            parts = unseen_contrasts(refit, tested, own, without, refits.seed, bar)
            yield fold, tested, own, parts


def _shifts(folds: Iterator[Fold]) -> Units:
    """Return the units of a shift of the group's mean; the design of nested or crossed ones."""
    scores, information, rows = [], [], []
    for fold, data, own, parts in folds:
        units = [(sample, side) for sample in np.unique(data.sample_n) for side in (False, True)]
        member_un = np.array([(data.sample_n == sample) & (own == side) for sample, side in units])
        there_u: np.ndarray = np.any(member_un, axis=1)
        rows += [(fold, *unit) for unit, there in zip(units, there_u) if there]
        score_ug, information_ug = (np.zeros((there_u.sum(), data.shape[1])) for _ in range(2))
        for part, found in parts:
            for u, mine in enumerate(member_un[there_u]):
                score_ug[u, part] = found.residual_ng[mine].sum(0, dtype=float)
                information_ug[u, part] = found.weight_ng[mine].sum(0, dtype=float)
        scores.append(score_ug)
        information.append(information_ug)
    fold_u, sample_u, own_u = map(np.array, zip(*rows))
    crossed = len(np.unique(sample_u)) < len(sample_u)
    levels = sample_u if crossed else fold_u  # a sample's level holds that of its fold
    blocks_ub = levels[:, None] == np.unique(levels)
    design = np.column_stack([blocks_ub, own_u]).astype(float)
    return Units(np.concatenate(scores), np.concatenate(information), design)


def _slopes(folds: Iterator[Fold]) -> Units:
    """Return the units of variation within the group: one-sided, along the prediction."""
    scores, information = [], []
    for _, data, _, parts in folds:
        of_sample_ns = (data.sample_n[:, None] == np.unique(data.sample_n)).astype(float)
        score_sg, information_sg = (
            np.zeros((of_sample_ns.shape[1], data.shape[1])) for _ in range(2)
        )
        for part, found in parts:
            nuisance_nk = np.column_stack([of_sample_ns, found.nuisance_nk[:, 1:]])  # for the 1
            score_ng, information_ng = freed_products(*found[:3], nuisance_nk)
            score_sg[:, part] = of_sample_ns.T @ score_ng
            information_sg[:, part] = of_sample_ns.T @ information_ng
        scores.append(score_sg)
        information.append(information_sg)
    score_ug, information_ug = np.concatenate(scores), np.concatenate(information)
    # Samples whose refit predicts nothing cannot be asked; they had no say in that themselves.
    asked_u: np.ndarray = np.any(information_ug, axis=1)
    if asked_u.sum() < SAMPLES:
        asked_u[:] = True  # no gene is informed: scores of 0
    return Units(score_ug[asked_u], information_ug[asked_u], np.ones((int(asked_u.sum()), 1)))
