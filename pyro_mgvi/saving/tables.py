"""Tables that are saved with a model: losses, how well trainings agree, who shares what."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pyro_mgvi.analysis.discovery import COLUMNS
from pyro_mgvi.errors import ModelFileError
from pyro_mgvi.saving.formats import Settings

#: Columns of the agreement of several trainings, and what kind of value they hold.
AGREEMENT = {
    "latent": str,
    "dimension": int,
    "mean_recovery": float,
    "worst_recovery": float,
    "found_by": int,
    "trainings": int,
    "held": str,
}


def history_of(path: Path) -> pd.DataFrame:
    """Return losses per epoch; the parser of pandas may crash on what is damaged."""
    rows = [*csv.reader(path.read_text(encoding="utf-8").splitlines())]
    if not rows:
        raise ModelFileError(f"{path} is damaged: it is empty")
    header, *rows = rows
    if not any(header):
        return pd.DataFrame()
    table = pd.DataFrame([[_loss(text) for text in row] for row in rows], columns=header)
    if not {"epoch", "train"} <= set(header):
        raise ModelFileError(f"{path} is damaged: it is no table with the columns epoch and train")
    numbered = table if "training" in table else table.assign(training=1)  # of earlier versions
    return numbered.astype({"epoch": int, "training": int})


def agreement_of(rows: Sequence[Settings]) -> pd.DataFrame:
    """Return how well several trainings agree, as a table; empty after a single one."""
    return pd.DataFrame(
        [{name: kind(row[name]) for name, kind in AGREEMENT.items()} for row in rows]
    )


def discovery_of(rows: Sequence[Settings]) -> pd.DataFrame:
    """Return the table of programs by groups that a model was discovered by.

    Parameters
    ----------
    rows
        What :func:`rows_of` returned.
    """
    found = [{name: kind(row[name]) for name, kind in COLUMNS.items()} for row in rows]
    return pd.DataFrame(found, columns=list(COLUMNS))


def rows_of(table: pd.DataFrame) -> list[Settings]:
    """Return the rows of a table as plain data; NaN is written as such, and read."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _loss(text: str) -> float | bool:
    if text in ("True", "False"):
        return text == "True"
    return float(text or "nan")
