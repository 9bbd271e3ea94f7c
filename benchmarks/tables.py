"""The tables of the docs, from what benchmarks have written: means and worst over seeds.

    python -m benchmarks.tables

Reads the tidy CSV files in ``benchmarks/notes/data`` and writes ``docs/tables``. Copy the CSV of a
run that is to be shown to ``notes/data`` first; a test holds that the tables are those of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.peers.page import cells

Maker = Callable[[pd.DataFrame], pd.DataFrame]
ROOT = Path(__file__).resolve().parents[1]
DATA, TABLES = ROOT / "benchmarks/notes/data", ROOT / "docs/tables"

NAMES = {
    "Kang, interferon": "blood, stimulated or not (Kang)",
    "cell lines, protocols": "cell lines, three protocols",
    "kang_pbmc_muscat": "blood, stimulated or not (Kang)",
    "sc_mixology_celllines": "cell lines, three protocols",
    "splatter_clear_seed21": "simulated, clear programs",
    "splatter_paper_seed1_3k": "simulated, the paper's recipe",
}
#: Column of the table: metric, and whether the worst is the largest.
SEPARATION = {
    "types from z": ("shared -> label", False),
    "group from z": ("shared -> group", True),
    "own program from t": ("private -> program", False),
    "types from t": ("private -> label (draws)", True),
}
#: Scores of peers that the docs show, and whether more is better.
COMPARED = {
    "harmonic mean": True,
    "label ARI": True,
    "mixing": True,
    "scib": True,
    "program in t": True,
    "label in t": False,
    "CPU seconds": False,
}


def separation(found: pd.DataFrame) -> pd.DataFrame:
    """Return how well shared and private variation come apart, a row per data set."""
    parts = found["metric"].str.split(", ", n=1, expand=True)
    found = found.assign(metric=parts[0], seed=found["seed"].astype(int))
    runs, ceilings = found[found["seed"] >= 0], found[found["setting"] == "ceiling"]
    rows = []
    for dataset in runs["dataset"].unique():
        row = {"data": NAMES[dataset]}
        for column, (metric, upwards) in SEPARATION.items():
            mine = runs[(runs["dataset"] == dataset) & (runs["metric"] == metric)]["value"]
            best = ceilings[(ceilings["dataset"] == dataset) & (ceilings["metric"] == metric)]
            row[column] = _shown(mine, mine.max() if upwards else mine.min())
            if len(best):
                row[column] += f"; at best {best['value'].mean():.2f}"
        row["seeds"] = str(runs[runs["dataset"] == dataset]["seed"].nunique())
        rows.append(row)
    return pd.DataFrame(rows)


def completeness(found: pd.DataFrame) -> pd.DataFrame:
    """Return what latents foretell of held-out genes, beside as many principal components."""
    found = found[found["line"] == "straight"]
    rows = []
    for (dataset, group, genes), part in found.groupby(["dataset", "group", "genes"], sort=False):
        row = {"data": NAMES[dataset], "cells of": group, "held-out genes": genes}
        for column, source in (("z", "z"), ("z and t", "both")):
            mine = part[part["from"] == source]["ratio"].dropna()
            row[column] = _shown(mine, mine.min())
        rows.append(row)
    return pd.DataFrame(rows)


def _shown(values: pd.Series, worst: float) -> str:
    return f"{values.mean():.2f} ({worst:.2f})" if len(values) else "-"


def compared(metric: str, more: bool) -> Maker:
    """Return what shows a score of all methods, a row each, with the best of each set in bold."""

    def make(found: pd.DataFrame) -> pd.DataFrame:
        return cells(found[found["metric"] == metric], more).reset_index()

    return make


MADE: dict[str, tuple[str, Maker]] = {  # table: its data, and what makes it
    "disentangle": ("disentangle", separation),
    "completeness": ("completeness", completeness),
    **{
        f"compare_{metric.replace(' ', '_')}": ("peers", compared(metric, more))
        for metric, more in COMPARED.items()
    },
}


def tables() -> dict[str, str]:
    """Return each table as CSV, by the name of its data."""
    return {
        name: make(pd.read_csv(DATA / f"{data}.csv")).to_csv(index=False)
        for name, (data, make) in MADE.items()
    }


def main() -> None:
    """Write all tables."""
    TABLES.mkdir(exist_ok=True)
    for name, text in tables().items():
        (TABLES / f"{name}.csv").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
