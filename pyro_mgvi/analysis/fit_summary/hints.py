"""What in the data makes a fit doubtful, and what to do next, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.checks import some
from pyro_mgvi.data.moments import EXTREME, extreme_cells
from pyro_mgvi.training.plan import SearchSettings, TrainingPlan
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search.residuals import searched_groups

CROWDED = 0.9  # share of its dimensions from which a shared latent may lack room
LARGE = 0.9  # share of the cells from which a group pulls its own program into the shared latents
SHALLOW = 200  # counts of a cell, in the genes of the model
UNEQUAL = 3.0  # times as many counts in the cells of one group as in those of another


def hints(program: Program, data: GroupedCounts, sampled: GroupedCounts) -> Iterator[str]:
    """Yield what makes a fit doubtful.

    Parameters
    ----------
    program
        What was trained.
    data
        On which cells.
    sampled
        Some of each group, whose counts may be looked at.
    """
    groups = np.array(program.schema.groups)
    sizes = np.bincount(data.group_n, minlength=len(groups))
    largest = sizes.argmax()
    if sizes[largest] >= LARGE * sizes.sum():
        yield (
            f"{groups[largest]} holds {sizes[largest] / sizes.sum():.0%} of the cells: its own "
            "variation may be in the shared latents, and noise in the private ones of the others; "
            "fit with fewer cells of it, and compare"
        )
    least = SearchSettings.least_cells
    validation = (program.plan or TrainingPlan()).validation_fraction
    trained_on = sizes - np.round(validation * sizes).astype(int)  # as the search counts them
    searched = searched_groups(program.families.design, trained_on, least)
    small = [f"{groups[i]} ({sizes[i]})" for i in np.flatnonzero((sizes > 0) & ~searched)]
    if small:
        yield (
            f"groups of fewer than {least} cells to train on are not searched for programs, and "
            f"what is found in them is doubtful: {', '.join(small)}"
        )
    if program.schema.batch_key is not None and _nested(data):
        yield (
            f"each batch ({program.schema.batch_key}) is within one group: a shift of a whole "
            "group cannot be told from shifts of its batches; what varies within a group can"
        )
    if program.data_kind is DataKind.COUNTS:
        yield from _depth(groups, sampled)


def _nested(data: GroupedCounts) -> bool:
    pairs = np.unique(np.column_stack([data.batch_n, data.group_n]), axis=0)
    return len(pairs) == len(np.unique(pairs[:, 0]))


def _depth(groups: np.ndarray, sampled: GroupedCounts) -> Iterator[str]:
    """Yield what the cells' counts are too few for, in each of several modalities."""
    several, x = sampled.schema.several, sampled.x
    if several is None:
        yield from _depth_of(groups, sampled, np.asarray(x.sum(1)).ravel(), "")
        return
    for name, columns in several.columns.items():
        total_n = np.asarray(x[:, columns].sum(1)).ravel()
        has = np.flatnonzero(total_n > 0)  # the others have not got it
        if len(has):
            yield from _depth_of(groups, sampled.subset(has), total_n[has], f" of {name}")


def _depth_of(
    groups: np.ndarray, sampled: GroupedCounts, total_n: np.ndarray, what: str
) -> Iterator[str]:
    """Yield what the cells' counts are too few for, given those of each cell."""
    if np.median(total_n) < SHALLOW:
        yield (
            f"the median cell has {np.median(total_n):.0f} counts{what} in these genes: weak "
            "programs cannot be found; use more genes, or deeper cells"
        )
    extreme = extreme_cells(total_n, sampled.group_n, sampled.batch_n)
    if extreme.any():
        yield (
            f"{extreme.sum()} of {len(sampled)} cells looked at have more than {EXTREME:.0f} times "
            f"the counts{what} of the median cell of their group, and cost the fit more than all "
            f"others: leave them out; the first is adata.obs_names[{_first(sampled, extreme)}]"
        )
    present = np.unique(sampled.group_n)
    median_b = np.array([np.median(total_n[sampled.group_n == code]) for code in present])
    low, high = median_b.argmin(), median_b.argmax()
    if median_b[high] > UNEQUAL * max(median_b[low], 1):
        yield (
            f"a cell of {groups[present[high]]} has {median_b[high] / max(median_b[low], 1):.1f} "
            f"times the counts{what} of one of {groups[present[low]]}: what only deep cells show "
            f"may look private; compare with cells of {groups[present[high]]} thinned to the same "
            "depth"
        )


def _first(sampled: GroupedCounts, is_so: np.ndarray) -> int:
    """Return the position of the first of some cells in the data that were read."""
    return int(sampled.cells[is_so.argmax()])


def crowded(program: Program) -> Iterator[str]:
    """Yield which shared latents may lack dimensions: what they have no room for looks private.

    On cell lines of three protocols, with 9 or 10 of 10 dimensions in use, the label was read
    from a private latent at 0.31 and 0.53; with 20 dimensions at 0.22 and 0.24, chance being 0.20
    (benchmarks/notes/RESULTS.md).
    """
    if not program.families.specific:
        return
    for copy in program.families.copies:
        used = int(program.model.active.of(copy).sum())
        if copy.shared and used >= CROWDED * copy.dim:
            yield (
                f"{used} of the {copy.dim} dimensions of {copy.key} are in use: variation that it "
                "has no room for may be in the private latents; compare with a model that has "
                f"{2 * copy.dim} (latents, {copy.key}:{2 * copy.dim})"
            )


def next_step(converged: bool | None, max_epochs: int, used: list[str], trained: bool) -> str:
    """Return what to do next, in one or two sentences.

    Parameters
    ----------
    converged
        Whether training was long enough.
    max_epochs
        Of the plan.
    used
        Keys of the private latents with dimensions in use.
    trained
        Whether there is a history of training.
    """
    if trained and converged is False:
        return f"The loss still falls: fit a new model with max_epochs={2 * max_epochs} or more."
    if trained and converged is None:
        return "That is too short to tell anything: fit a new model with more epochs (max_epochs)."
    if used:
        return (
            f"mgvi.programs(adata) lists the genes of {some(used)}, with q-values. Before "
            "you interpret them, ask mgvi.diagnose(adata) whether they are more than noise."
        )
    return (
        "No private latent is in use: nothing was found that varies within one group alone. "
        "mgvi.rank_genes(adata, GROUP) shows what shifts a whole group, which is no latent."
    )
