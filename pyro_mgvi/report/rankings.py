"""The tables of genes that several parts of the report show, made once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from pyro_mgvi.analysis import CrossFit, programs, rank_genes
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.report.result import Result


@dataclass(frozen=True)
class Rankings:
    """What the model says of genes.

    Attributes
    ----------
    groups
        The ranking of each group (:func:`~pyro_mgvi.rank_genes`); empty where there is none.
    programs
        The genes of each private dimension in use (:func:`~pyro_mgvi.programs`).
    problem
        Why groups have no ranking; empty if they have.
    """

    groups: dict[str, pd.DataFrame]
    programs: pd.DataFrame
    problem: str = ""

    @classmethod
    def of(cls, result: Result, refits: CrossFit | None = None, progress: bool = False) -> Rankings:
        """Return them; without a model there are none."""
        if result.mgvi is None or result.data is None:
            return cls({}, pd.DataFrame(columns=["latent", "dimension", "gene"]))
        how: dict[str, Any] = {"calibration": refits or False, "progress": progress}
        found = programs(result.mgvi, result.data, **how)
        try:
            groups = {
                group: rank_genes(result.mgvi, result.data, group, **how) for group in result.groups
            }
        except SettingsError as error:
            return cls({}, found, str(error))
        return cls(groups, found)

    def listed(self, most: int) -> list[str]:
        """Return at most ``most`` genes: the first of every list, then the second ones, and so on.

        Those of private dimensions go first.
        """
        dimensions = self.programs.groupby(["latent", "dimension"], sort=False)["gene"]
        lists = [list(genes[:most]) for _, genes in dimensions]
        lists += [list(table.index[:most]) for table in self.groups.values()]
        longest = max(map(len, lists), default=0)
        names = dict.fromkeys(names[i] for i in range(longest) for names in lists if i < len(names))
        return list(names)[:most]
