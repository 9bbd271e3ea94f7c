"""Scores of genes that hold for new samples: these are held out whole, and compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pyro_mgvi.analysis.cross_fit import CrossFit
from pyro_mgvi.analysis.efficient_scores import CELLS_PER_NUISANCE, freed_products
from pyro_mgvi.analysis.gene_effects.unseen import shrunk
from pyro_mgvi.analysis.hidden.contrasts import (
    Contrast,
    said,
    unseen_contrasts,
)
from pyro_mgvi.analysis.sample_tests import Units, sample_scores
from pyro_mgvi.analysis.samples.compared import (
    NEEDED,
    common_genes,
    compared,
    design,
    too_few,
)
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.columns.samples import SAMPLES
from pyro_mgvi.data.names import NamedGroups, named_groups
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
    r"""Return each gene's normal score across samples, or NaN where they are too few.

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

    A sample without a cell that has a gene (it may lack a modality) is left out for it, and a gene
    that too few are left for has no score. A gene that no refit predicts to vary within the group
    has a score of 0.

    Both are centred and scaled by their bulk, never away from zero (Efron 2004): most genes are
    not affected.

    Parameters
    ----------
    refits, data, group, without, cells, progress
        As for :meth:`CrossFit.z_scores`.

    Warns
    -----
    DataWarning
        If no gene has a score, and what would be needed: more samples or cells, samples of either
        side in one fold, or genes that enough of them have.
    """
    return scores_of_splits((refits,), data, group, without, cells, progress)[0]


def scores_of_splits(
    splits: Sequence[CrossFit],
    data: GroupedCounts,
    group: str,
    without: Decoding,
    cells: np.ndarray,
    progress: bool = False,
) -> np.ndarray:
    """Return the scores by refits of each split of the cells, (splits, genes).

    They are those of :func:`new_sample_scores` if the data know samples, and those of
    :meth:`CrossFit.z_scores` if not. Parameters are theirs.

    Warns
    -----
    DataWarning
        If splits have no score at all, and why.
    """
    across_samples = data.schema.sample_key is not None
    score = _across_samples if across_samples else _across_cells
    found = [score(split, data, group, without, cells, progress) for split in splits]
    reasons = [why for _, why in found if why]
    if reasons and len(reasons) < len(found):
        n = len(found) - len(reasons)
        warn(
            f"q-values of {group} are of {n} of {len(found)} splits of the cells; of the others "
            f"there is no score: {reasons[0]}",
            DataWarning,
        )
    elif reasons and across_samples:
        warn(f"no q-value of {group} for {NEW}: {reasons[0]}", DataWarning)
    return np.array([z_g for z_g, _ in found]).reshape(-1, data.shape[1])


Scored = tuple[np.ndarray, str]  # each gene's score, and why none has one


def _across_cells(
    refits: CrossFit,
    data: GroupedCounts,
    group: str,
    without: Decoding,
    cells: np.ndarray,
    progress: bool,
) -> Scored:
    z_g = refits.z_scores(data, group, without, cells, progress)
    few = "a fold has too few cells of the group, or of others to compare with"
    return z_g, few if np.isnan(z_g).all() else ""


def _across_samples(
    refits: CrossFit,
    data: GroupedCounts,
    group: str,
    without: Decoding,
    cells: np.ndarray,
    progress: bool,
) -> Scored:
    refits.check(data)
    named = named_groups(refits.refits[0].families, group)
    used = cells[compared(data, named, without.averaged, cells)]
    z_g, known_g = np.full(data.shape[1], np.nan), common_genes(data, used)
    if few := too_few(refits, data, named, without.averaged, cells, used):
        return z_g, few
    if not known_g.any():
        return z_g, (
            "no gene is in all groups of the cells that are compared; choose cells of groups that "
            "have genes in common (cells=...)"
        )
    folds = _folds(refits, data, named, without, used, progress)
    units = _shifts(folds) if without.averaged else _slopes(folds)
    z_g[known_g] = sample_scores(units)[known_g]
    if not without.averaged:
        n_asked_g = (~np.isnan(units.information_ug)).sum(0)
        silent_g = (n_asked_g >= SAMPLES) & ~np.nan_to_num(units.information_ug).any(0)
        z_g[known_g & silent_g] = 0.0  # no refit predicts that they vary: nothing is found
    if np.isnan(z_g).all():
        return z_g, f"no gene has information in {NEEDED}"
    return shrunk(z_g), ""


Parts = Iterable[tuple[np.ndarray, Contrast]]  # genes, and what a refit says of them
Fold = tuple[int, GroupedCounts, np.ndarray, Parts]


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
    information_ug, design_uk = np.concatenate(information), design(fold_u, sample_u, own_u)
    if len(np.unique(sample_u)) < len(sample_u):  # a sample counts if both of its units are known
        known_bg = design_uk[:, :-1].T @ (information_ug > 0)
        information_ug *= design_uk[:, :-1] @ (known_bg == 2)
    return Units(np.concatenate(scores), information_ug, design_uk)


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
            has_sg = of_sample_ns.T @ (found.weight_ng > 0)  # how many cells of each have the gene
            columns_g = found.nuisance_nk.shape[1] - 1 + (has_sg > 0).sum(0)
            asked_sg = (has_sg > 0) & (has_sg.sum(0) >= CELLS_PER_NUISANCE * columns_g)
            information_sg[:, part] = np.where(asked_sg, of_sample_ns.T @ information_ng, np.nan)
        scores.append(score_sg)
        information.append(information_sg)
    score_ug, information_ug = np.concatenate(scores), np.concatenate(information)
    return Units(score_ug, information_ug, np.ones((len(score_ug), 1)))
