"""The gene sets that a user names: checked before any work, and told after it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pyro_mgvi.analysis.gene_sets.enrichment import enrichment, sets_among
from pyro_mgvi.analysis.gene_sets.reading import read_gene_sets
from pyro_mgvi.cli.legends import GENE_SETS, print_legend
from pyro_mgvi.cli.outputs import Output, write_table
from pyro_mgvi.support.files.endings import Kind, unpacked
from pyro_mgvi.support.optional import require
from pyro_mgvi.training.program import Program

SHOWN = 5  # sets of a dimension
CALLED = 0.1  # the largest q-value of a set that is shown


@dataclass(frozen=True)
class GeneSets:
    """Gene sets, where they come from and where the table of them goes; perhaps none.

    Attributes
    ----------
    source
        The GMT file, or None.
    out
        The table.
    sets
        Genes by the name of the set.
    """

    source: Path | None
    out: Path
    sets: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, source: Path | None, beside: Path) -> GeneSets:
        """Read the sets, if there are some, and see that they can be tested.

        Raises
        ------
        DataError, SettingsError
            If the file is no GMT file, or decoupler is not installed.
        """
        out = beside  # a folder has no name, and is refused as what it is
        if beside.name:
            table = unpacked(beside)
            packed = beside.name.removeprefix(table.name)
            out = beside.with_name(f"{table.stem}_gene_sets{table.suffix}{packed}")
        if source is None:
            return cls(None, out, {})
        sets = read_gene_sets(source)
        require("decoupler", "enrich")
        return cls(source, out, sets)

    @property
    def outputs(self) -> list[Output]:
        """What will be written."""
        return [Output("--gene-sets", self.out, Kind.TABLE)] if self.sets else []

    @property
    def inputs(self) -> list[Path]:
        """What is read."""
        return [] if self.source is None else [self.source]

    def check(self, mgvi: Program) -> None:
        """Refuse sets of other genes than the model's, before it is refitted."""
        if self.sets:
            sets_among(self.sets, mgvi.schema.genes)

    def write(self, table: pd.DataFrame) -> None:
        """Write and print which sets the genes of a table belong to."""
        if not self.sets:
            return
        found = enrichment(table, self.sets)
        write_table(found, self.out, index=False)
        keys = [key for key in ("latent", "dimension", "label") if key in found]
        parts = found.groupby(keys, sort=False) if keys else [((), found)]
        for values, rows in parts:
            called = rows[rows["q_value"] < CALLED]
            of = "".join(f"{key} {value}, " for key, value in zip(keys, values))
            print(f"{of}{len(called)} of {len(rows)} gene sets at q < {CALLED:g}")
            if len(called):
                shown = called.head(SHOWN)[["gene_set", *GENE_SETS]]
                print(shown.to_string(index=False, float_format="{:.3g}".format))
        print_legend(GENE_SETS)
        print(f"written to {self.out}")
