"""Which cells and genes a comparison of samples is of, how, and what it has too little of."""

from __future__ import annotations

import numpy as np

from pyro_mgvi.analysis.cross_fit import CrossFit
from pyro_mgvi.analysis.efficient_scores import CELLS_PER_NUISANCE
from pyro_mgvi.analysis.folds import whole_samples
from pyro_mgvi.analysis.hidden.contrasts import nuisance_width
from pyro_mgvi.analysis.sample_tests import testable
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.columns.samples import SAMPLES, UNCROSSED, could_be_nested, crossed_few
from pyro_mgvi.data.names import NamedGroups

NEEDED = f"at least {SAMPLES} samples of each side that is compared"


def compared(
    data: GroupedCounts, named: NamedGroups, averaged: bool, cells: np.ndarray
) -> np.ndarray:
    """Return which of the cells are compared: those of crossed samples, where there are some."""
    own_n, sample_n = named.own(data.group_n[cells]), data.sample_n[cells]
    if not averaged:
        return own_n
    crossed = np.intersect1d(sample_n[own_n], sample_n[~own_n])
    return np.isin(sample_n, crossed) if len(crossed) else np.ones(len(cells), bool)


def common_genes(data: GroupedCounts, cells: np.ndarray) -> np.ndarray:
    """Return which genes the groups of all these cells have: in those, samples are compared."""
    measured_bg = data.schema.measured_bg
    if measured_bg is None:
        return np.ones(data.shape[1], bool)
    known_g: np.ndarray = measured_bg[np.unique(data.group_n[cells])].all(0)
    return known_g


def too_few(
    refits: CrossFit,
    data: GroupedCounts,
    named: NamedGroups,
    averaged: bool,
    cells: np.ndarray,
    used: np.ndarray,
) -> str:
    """Return what there is too little of, or an empty text."""
    own_n, sample_n = named.own(data.group_n[used]), data.sample_n[used]
    own, others = set(sample_n[own_n]), set(sample_n[~own_n])
    at_hand = "Bayes factors and effects are of the cells at hand"
    if averaged and own & others and len(own) < SAMPLES:
        names, all_own_n = data.sample_n[cells], named.own(data.group_n[cells])
        sides = (np.isin(np.unique(names), names[side]) for side in (all_own_n, ~all_own_n))
        advice = UNCROSSED if could_be_nested(*sides) else at_hand
        return f"{crossed_few(own, [named.name])}; {advice}"
    if len(own) < SAMPLES or (averaged and len(others) < SAMPLES):
        of_others = f" and {len(others)} of other groups" if averaged else ""
        return (
            f"the cells are of {len(own)} sample(s) of the group{of_others}, at least {SAMPLES} "
            f"are needed; {at_hand}"
        )
    if not whole_samples(data, refits.fold_n):
        return (
            "the refits hold out cells, not whole samples: a group has fewer samples than folds, "
            "or they are of a model without sample_key; call cross_fit anew, or with fewer folds"
        )
    fold_n = refits.fold_n[used]
    if averaged:
        _, code_n = np.unique(sample_n, return_inverse=True)
        if not testable(design(*np.unique([fold_n, code_n, own_n], axis=1))):
            return (
                "samples of the group and samples of others are held out by different refits, and "
                "what the group differs by cannot be told from what refits differ by; choose more "
                "samples, or refits of another split (cross_fit(..., split=1)) or of fewer folds"
            )
        return ""
    for fold, refit in enumerate(refits.refits):
        samples = sample_n[fold_n == fold]
        # What slopes are freed from must be fewer columns than there are cells.
        columns = nuisance_width(refit) + len(np.unique(samples)) - 1
        if 0 < len(samples) < CELLS_PER_NUISANCE * columns:
            return (
                f"{len(samples)} unseen cells are too few to tell variation within the group "
                f"from the shared latents, {CELLS_PER_NUISANCE * columns} are needed"
            )
    return ""


def design(fold_u: np.ndarray, sample_u: np.ndarray, own_u: np.ndarray) -> np.ndarray:
    """Return the levels of units of a shift, and which are of the group."""
    crossed = len(np.unique(sample_u)) < len(sample_u)
    levels = sample_u if crossed else fold_u  # a sample's level holds that of its fold
    blocks_ub = levels[:, None] == np.unique(levels)
    return np.column_stack([blocks_ub, own_u]).astype(float)
