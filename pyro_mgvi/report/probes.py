"""What a linear classifier can read from each latent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pyro_mgvi.analysis.diagnosis import ACTIVE, LEAK
from pyro_mgvi.analysis.metrics import FOLDS, active_units, known_labels, probe_and_chance
from pyro_mgvi.core import Copy
from pyro_mgvi.plots.colours import is_number
from pyro_mgvi.report.result import Result, sample

PROBED = 20_000  # cells in a probe; more are sampled


class Probe(NamedTuple):
    """How well a latent tells a column of ``obs``, and what that would be by chance.

    ``elsewhere``: whether cells that do not own the latent have some of the same labels.
    """

    copy: Copy
    column: str
    accuracy: float
    chance: float
    elsewhere: bool = True

    @property
    def tells(self) -> bool:
        """Whether it does better than chance."""
        return self.accuracy - self.chance > LEAK

    def reading(self, *group_columns: str) -> str:
        """Say what it means: shared latents should not know the group, nor private ones labels."""
        if not self.tells:
            return "no"
        if self.copy.shared and self.column not in group_columns:
            return "yes"
        if self.column in group_columns:
            return "yes: a leak"
        if not self.elsewhere:
            return "yes: of labels that only its cells have"
        return f"yes: a leak if {self.column} is shared"


def probes(result: Result) -> Iterator[Probe]:
    """Yield a probe of each latent in use for each column that tells its cells apart."""
    for copy, own_n, own_values in result.copies():
        if not active_units(own_values, ACTIVE):
            continue
        chosen = sample(len(own_values), PROBED)
        for column, values in result.colours(own_n):
            if is_number(values):
                continue
            found = probe_and_chance(own_values[chosen], values[own_n].iloc[chosen])
            if found is not None:
                there = values[own_n].dropna().astype(str)
                elsewhere = there.isin(values[~own_n].dropna().astype(str).unique()).any()
                yield Probe(copy, column, *found, bool(elsewhere))


def left_out(result: Result) -> str:
    """Say which cells and columns are in no probe."""
    missing, rare, numbers = [], [], []
    for name in dict.fromkeys((*result.labels, result.settings.get("batch_key"))):
        if name is None:
            continue
        labels = result.column(name)
        if is_number(labels):
            numbers.append(name)
            continue
        text_n, known_n = known_labels(labels)
        if not known_n.all():
            missing.append(f"{name}: {(~known_n).sum():,}")
        few = int((np.unique(text_n[known_n].astype(str), return_counts=True)[1] < FOLDS).sum())
        if few:
            rare.append(f"{name}: {few:,}")
    text = ""
    if missing:
        text += f" Cells without a label are left out ({', '.join(missing)})."
    if rare:
        text += f" Labels of fewer than {FOLDS} cells are left out ({', '.join(rare)})."
    if numbers:
        text += f" Numbers are not probed for ({', '.join(numbers)})."
    return text
