"""Which cells are held out together, and groups shuffled among cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.checks import some
from pyro_mgvi.data.masks import common_absent
from pyro_mgvi.errors import DataError

WITHOUT = "rank_genes and programs do without refits and q-values (calibration=False, --no-q)"


def dealt_out(data: GroupedCounts, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each cell: of its sample, where each group has enough samples.

    Raises
    ------
    DataError
        If a group or batch is not there or too small to be split, or a batch is in samples of one
        fold only.
    """
    codes = ((data.group_n, data.schema.groups), (data.batch_n, data.schema.batches))
    for codes_n, names in codes:
        sizes = np.bincount(codes_n, minlength=len(names))
        if not sizes.all():
            raise DataError(
                f"the data have no cell of {some(np.asarray(names)[sizes == 0])}, which the model "
                "knows: refits need cells of all groups and batches; pass all cells, and choose "
                f"among them by cells= where there is such an argument; {WITHOUT}"
            )
        small = [name for name, size in zip(names, sizes) if size < 2 * folds]
        if small:
            raise DataError(
                f"{', '.join(small)}: fewer than {2 * folds} cells, too few to refit without one "
                f"of {folds} folds; train a model without them, or pass more of them; {WITHOUT}"
            )
    if data.schema.sample_key is not None:
        fold_n = _of_samples(data, folds, np.random.default_rng(seed))
        if _each_has_others(data.group_n, fold_n):
            lost = [
                name
                for code, name in enumerate(data.schema.batches)
                if len(np.unique(fold_n[data.batch_n == code])) == 1
            ]
            if lost:
                raise DataError(
                    f"batch(es) {some(lost)}: all their samples are in one fold, and a refit "
                    "without them would not know the batch; leave out batch_key (differences "
                    f"between samples are in the errors); {WITHOUT}"
                )
            return fold_n
    fold_n = np.empty(len(data), int)
    order = np.random.default_rng(seed).permutation(len(data))
    order = order[np.lexsort((data.group_n[order], data.batch_n[order]))]
    fold_n[order] = np.arange(len(data)) % folds  # groups within batches are dealt out in turn
    return fold_n


def _of_samples(data: GroupedCounts, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Return folds of whole samples; those of the same groups are dealt out in turn."""
    names, sample_n = np.unique(data.sample_n, return_inverse=True)
    in_group_sg = np.zeros((len(names), len(data.schema.groups)), bool)
    in_group_sg[sample_n, data.group_n] = True
    order = rng.permutation(len(names))
    order = order[np.lexsort(in_group_sg[order].T)]
    fold_s = np.empty(len(names), int)
    for kind in np.unique(in_group_sg, axis=0):
        of_kind = order[(in_group_sg[order] == kind).all(1)]
        fold_s[of_kind] = np.arange(len(of_kind)) % folds
    fold_n: np.ndarray = fold_s[sample_n]
    return fold_n


def _each_has_others(group_n: np.ndarray, fold_n: np.ndarray) -> bool:
    """Return whether each group has cells in several folds, so that each refit knows it."""
    return all(len(np.unique(fold_n[group_n == code])) > 1 for code in np.unique(group_n))


def whole_samples(data: GroupedCounts, fold_n: np.ndarray) -> bool:
    """Return whether each sample is held out as a whole."""
    _, sample_n = np.unique(data.sample_n, return_inverse=True)
    pairs = np.unique(np.column_stack([sample_n, fold_n]), axis=0)
    return len(pairs) == sample_n.max() + 1


def shuffled_groups(data: GroupedCounts, seed: int) -> GroupedCounts:
    """Return the data with groups permuted within batches: group sizes stay as they are.

    Where a batch holds one group only, nothing moves within it; groups are then permuted freely.
    Of groups that have not got the same genes (feature masks), the genes that all have are left:
    a cell cannot be given a group some of whose genes nobody has measured in it. Of groups that
    lack modalities, those are permuted that have the same.

    Raises
    ------
    DataError
        If no two groups have the same modalities.
    """
    rng, group_n = np.random.default_rng(seed), data.group_n.copy()
    measured_bg = data.schema.measured_bg
    if data.schema.several is not None and measured_bg is not None:
        _, kind_b = np.unique(measured_bg, axis=0, return_inverse=True)
        kind_n = kind_b.ravel()[data.group_n]
        if np.bincount(kind_b.ravel()).max() < 2:
            raise DataError(
                "no two groups have the same modalities: there is nothing to compare the private "
                "latents with, and they cannot be diagnosed"
            )
        for kind in np.unique(kind_n):
            cells = np.flatnonzero(kind_n == kind)
            group_n[cells] = rng.permutation(group_n[cells])
        return data.with_groups(group_n)
    blocks = [np.flatnonzero(data.batch_n == b) for b in range(len(data.schema.batches))]
    if any(len(set(group_n[block])) == 1 for block in blocks):
        blocks = [np.arange(len(data))]
    for block in blocks:
        group_n[block] = rng.permutation(group_n[block])
    if data.schema.absent:
        data = data.matching(replace(data.schema, absent=common_absent(data.schema)))
    return data.with_groups(group_n)
