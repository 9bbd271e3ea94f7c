"""What was discovered: a table of programs by groups, and the latents that follow from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pyro_mgvi.core.latents import Latent, subsets
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.cells.marks import differing, marks
from pyro_mgvi.training.search.residuals import Direction

DISCOVER = "discover"  # in place of latents
NAMED = 3  # groups that the key of a latent names, at most
VARIES, ABSENT, UNDECIDED, FEW = "varies", "absent", "undecided", "too few cells"
#: Columns of the table, and what kind of value they hold.
COLUMNS = {
    "program": int,
    "group": str,
    "verdict": str,
    "share": float,
    "z_score": float,
    "q_value": float,
    "cells": int,
    "latent": str,
    "n_genes": int,
    "genes": str,
}

Groups = tuple[str, ...]


@dataclass(frozen=True)
class Discovery:
    """Programs, and the groups whose cells vary along each; made by :func:`discover`.

    Attributes
    ----------
    table
        A row for each program and group, see :func:`discover`.
    latents
        Families for a model: the shared ones, and copies for the subsets of groups that were found.
    programs
        For each program, from 1: the groups that own its latent, and its direction. Empty in a
        model that was saved and loaded: directions are where a training begins, and are not saved.
    marks_nk
        What tells the cells apart (:func:`~pyro_mgvi.data.cells.marks.marks`); of a loaded model
        none.
    """

    table: pd.DataFrame
    latents: tuple[Latent, ...]
    programs: dict[int, tuple[Groups, Direction]]
    marks_nk: np.ndarray

    def __repr__(self) -> str:
        if not len(self.table):
            return "Discovery(no program)"
        lines = []
        for number, rows in self.table.groupby("program", sort=False):
            owners = rows.loc[rows["verdict"] == VARIES, "group"]
            who = f"all {len(rows)} groups" if len(owners) == len(rows) else ", ".join(owners)
            unsure = rows.loc[rows["verdict"].isin([UNDECIDED, FEW]), "group"]
            beside = f" (undecided: {', '.join(unsure)})" if len(unsure) else ""
            lines.append(f"program {number}: {who}{beside}; {rows['genes'].iloc[0]}")
        return "\n".join(lines)

    @property
    def forgotten(self) -> bool:
        """Whether directions of programs of some groups were known, and are no longer."""
        if self.programs or not len(self.table):
            return False
        all_vary = self.table["verdict"].eq(VARIES).groupby(self.table["program"]).all()
        return not bool(all_vary.all())

    def directions(self, data: GroupedCounts) -> dict[Groups, list[Direction]]:
        """Return the directions that the search of a fit starts with, by the groups that own them.

        None if the data are not the cells in which they were discovered, in the same order and with
        the same genes.

        Parameters
        ----------
        data
            What is trained on.
        """
        found: dict[Groups, list[Direction]] = {}
        if not self.programs or differing(self.marks_nk, marks(data)):
            return found
        for owners, direction in self.programs.values():
            if len(owners) < len(data.schema.groups):
                found.setdefault(owners, []).append(direction)
        return found


def latents_of(
    shared: Sequence[Latent], owners: Sequence[Groups], groups: Sequence[str]
) -> tuple[Latent, ...]:
    """Return families with one copy for each subset of groups that owns a program.

    A copy is named by its groups, or by their number where these are many; it has a dimension for
    each of its programs, and one for what else a search finds.

    Examples
    --------
    >>> from pyro_mgvi import shared
    >>> found = latents_of([shared(10)], [("a",), ("a", "b"), ("a",)], ("a", "b", "c"))
    >>> found[1].keys, found[1].dim
    (('t_a', 't_a+b'), 3)
    """
    counts = Counter(each for each in owners if len(each) < len(groups))
    if not counts:
        return tuple(shared)
    names: dict[str, Groups] = {}
    for subset in counts:
        name = "+".join(subset)
        if len(subset) > NAMED:
            alike = sum(len(other) == len(subset) for other in names.values())
            name = f"{len(subset)}_groups_{alike + 1}"
        names[name] = subset
    return (*shared, subsets("t", names, max(counts.values()) + 1))


def verdicts(q_varies: np.ndarray, q_absent: np.ndarray, rate: float) -> np.ndarray:
    """Return whether a group varies along a program, does not, or whether that is undecided.

    Examples
    --------
    >>> verdicts(np.array([0.01, 0.9, 0.2, np.nan]), np.array([1.0, 0.01, 0.2, np.nan]), 0.05)
    array(['varies', 'absent', 'undecided', 'undecided'], dtype='<U9')
    """
    absent = np.where(q_absent < rate, ABSENT, UNDECIDED)
    return np.where(q_varies < rate, VARIES, absent)
