"""Simulated donors nested in two groups: false calls where nothing differs, and power."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pandas as pd

from benchmarks.donors.cells import PLANTED, nested_donors
from benchmarks.donors.rows import run

NAME = "simulated"


def simulated(arguments: argparse.Namespace) -> None:
    """Compare simulated groups of donors, without and with effects; print a table."""
    for split in range(arguments.datasets):
        for n in arguments.donors:
            for planted in (False, True):
                key = (NAME, 2 * n, 2 * PLANTED * planted, split)
                run(nested_donors(n, split, planted), "first", "donor", key, arguments)
    table(arguments)


def table(arguments: argparse.Namespace) -> None:
    """Print the table of the simulated donors that are there."""
    print("\n".join(_markdown(by_donors(pd.read_csv(arguments.out / "donors.csv")))))


def _markdown(frame: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of a table for the notes."""
    for row in (frame.columns, ["---"] * frame.shape[1], *frame.to_numpy()):
        yield f"| {' | '.join(map(str, row))} |"


def by_donors(found: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each number of donors and method.

    "false" are genes to which nothing was done. "ranked" are the genes of a kind with which a
    ranking begins, while at most 5 % of them are false: this compares methods at one realised rate.

    Parameters
    ----------
    found
        The rows of ``donors.csv``.
    """
    found = found[found["data"] == NAME]
    rows = []
    for (donors, method), mine in found.groupby(["donors", "method"], sort=False):
        null, planted = mine[mine["planted"] == 0], mine[mine["planted"] > 0]
        false = planted["q < 0.05"] - planted["true"]
        rows.append(
            {
                "donors": f"2 x {donors // 2}",
                "method": method,
                "null: with a call": f"{(null['q < 0.05'] > 0).sum()} of {len(null)}",
                "null: p < 0.05": f"{null['p < 0.05'].mean():.3f}",
                f"shift, of {PLANTED}": f"{planted['shift'].mean():.1f}",
                f"program, of {PLANTED}": f"{planted['program'].mean():.1f}",
                "false": f"{false.mean():.1f}",
                "shift, ranked": f"{planted['first shift'].mean():.1f}",
                "program, ranked": f"{planted['first program'].mean():.1f}",
                "data sets": len(planted),
            }
        )
    return pd.DataFrame(rows)
