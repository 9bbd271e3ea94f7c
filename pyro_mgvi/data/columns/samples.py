"""Which samples there are of which group: too few are refused, or warned of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from pyro_mgvi.data import checks
from pyro_mgvi.errors import DataError, DataWarning, warn

SAMPLES = 3  # of a group, or in both of two; a variance of fewer says nothing
UNCROSSED = (
    "leave out the cells that they have on one side, in all or by cells=..., and samples of a "
    "group are compared with those of others"
)


def check_samples(columns: Mapping[str, pd.Series], sample: pd.Series, sample_key: str) -> None:
    """Refuse samples that say nothing beside the groups, and warn of what they cannot tell.

    Parameters
    ----------
    columns
        Labels of each cell by each column that makes up the groups.
    sample, sample_key
        Samples of the cells, and the name of their column.
    """
    said, alone = [], []
    sizes = sample.value_counts()
    lonely = sorted(sizes.index[sizes == 1])
    if lonely:
        said.append(
            f"sample(s) of one cell, which weigh little, but count: {checks.some(lonely)}; "
            "remove them, if they are leftovers of a filter"
        )
    for key, group in columns.items():
        cells_sg = pd.crosstab(sample, group)
        if (cells_sg > 0).sum(axis=1).max() == 1 and ((cells_sg > 0).sum(axis=0) == 1).all():
            alone.append(key)
        else:
            said += _too_few(cells_sg)
    if len(alone) == len(columns):
        raise DataError(
            f"sample_key {sample_key!r} has one sample in each group of {checks.some(alone)!r}: "
            "nothing tells a sample from its group; name a column with several samples in a "
            "group, or leave it out (q-values then speak of new cells of these samples)"
        )
    said += [f"one sample in each level of {key!r}: no q-value for new samples" for key in alone]
    if said:
        warn(f"sample_key {sample_key!r}: {'; '.join(said)}", DataWarning)


def _too_few(cells_sg: pd.DataFrame) -> list[str]:
    """Return what samples cannot tell of the levels of a column."""
    there_sg = cells_sg > 0
    crossed_s = there_sg.sum(axis=1) > 1
    crossed_g = there_sg[crossed_s].sum(axis=0)  # how many samples of each group are in others, too
    said, estimated = [], "latents, effects and Bayes factors can be estimated, but no q-value"
    idle_s = ~crossed_s & there_sg.loc[:, crossed_g >= SAMPLES].any(axis=1)
    if idle_s.any():
        said.append(
            "sample(s) in one group only, beside others in several: "
            f"{checks.some(cells_sg.index[idle_s])}; the comparison of groups is within "
            "samples, and gains nothing from them"
        )
    few = list(crossed_g.index[(crossed_g == 0) & (there_sg.sum(axis=0) < SAMPLES)])
    if few:
        said.append(
            f"fewer than {SAMPLES} samples of {checks.some(few)}: {estimated} for new samples of "
            "them"
        )
    pairs = crossed_g.index[(crossed_g > 0) & (crossed_g < SAMPLES)]
    by_samples: dict[tuple[str, ...], list[str]] = {}
    for group in pairs:
        of_group = tuple(cells_sg.index[crossed_s & there_sg[group]])
        by_samples.setdefault(of_group, []).append(group)
    for samples, groups in by_samples.items():
        others = [there_sg.drop(columns=name).any(axis=1).to_numpy() for name in groups]
        nested = all(map(could_be_nested, there_sg[groups].to_numpy().T, others))
        said.append(
            f"{crossed_few(samples, groups)}: {estimated} for new samples of them"
            + (f"; {UNCROSSED}" if nested else "")
        )
    return said


def crossed_few(samples: Iterable[str], groups: Iterable[str]) -> str:
    """Return what is said of groups that have too few samples in common with others."""
    names = sorted(samples)
    return (
        f"of {checks.some(groups)}, only {len(names)} sample(s) ({checks.some(names)}) are in "
        f"other groups, too, and the comparison within samples needs at least {SAMPLES}"
    )


def could_be_nested(own_s: np.ndarray, other_s: np.ndarray) -> bool:
    """Return whether enough samples are left on both sides once each is on one of them only."""
    enough = min(own_s.sum(), other_s.sum()) >= SAMPLES
    return bool(enough and (own_s | other_s).sum() >= 2 * SAMPLES)
