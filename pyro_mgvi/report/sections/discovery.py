"""The section of the report on which groups share which program."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pyro_mgvi import plots
from pyro_mgvi.analysis import Discovery
from pyro_mgvi.analysis.discovery import COLUMNS
from pyro_mgvi.data.checks import some
from pyro_mgvi.errors import DataError
from pyro_mgvi.fitting import Fits
from pyro_mgvi.report.blocks import Paragraph, Picture, Row, Section, Table
from pyro_mgvi.report.result import Result

LISTED = 8  # groups that a row names
NAMED = 4  # genes


def who_shares_what(result: Result) -> Section | None:
    """Show programs by groups, of a model whose latents were discovered; None of any other."""
    found = _found(result)
    if found is None:
        return None
    title, question = "Who shares what", "Which groups share which program?"
    if not len(found.table):
        words = Paragraph("No program was found along which the cells of any group vary.")
        return Section("discovery", title, question, (words,))
    rows = [
        {
            "program": number,
            "groups that vary": _names(mine, "varies"),
            "undecided": _names(mine, "undecided", "too few cells") or "none",
            "latent": mine["latent"].iloc[0],
            "genes": int(mine["n_genes"].iloc[0]),
            "first genes": ", ".join(mine["genes"].iloc[0].split(", ")[:NAMED]),
        }
        for number, mine in found.table.groupby("program", sort=False)
    ]
    new = [group for group in result.groups if group not in set(found.table["group"])]
    beside = f" Added afterwards, and not searched: {some(new, LISTED)}." if new else ""
    of_some = found.table.loc[found.table["verdict"] == "absent", "program"].nunique()
    words = Paragraph(
        f"{_counted(len(rows), 'program was', 'programs were')} found, of which "
        f"{_counted(of_some, 'is', 'are')} absent from some groups. "
        "Directions were found in half of the cells, and the other half says in which groups "
        "cells vary along them, at a false discovery rate over programs and groups. A group is "
        "undecided where its cells say neither that it varies nor that it does not. Verdicts speak "
        f"of new cells of these samples, not of new donors.{beside}"
    )
    not_all = found.table.loc[found.table["verdict"] != "varies", "program"].nunique()
    n_groups, n_drawn = found.table["group"].nunique(), not_all or len(rows)
    size = min(12.0, 3.8 + 0.4 * n_groups), min(9.0, 2.2 + 0.3 * n_drawn)  # of the bar's words
    picture = Picture.drawn(
        lambda ax: plots.discovery(found, ax=ax, show=False),
        "Which groups vary along which program? Colour: variance as a share of that of the group "
        "that varies most. A dot: it varies; a question mark: undecided; a dash: too few cells. "
        "Programs of all groups are left out if there are others.",
        size,
    )
    caption = "Programs, the groups whose cells vary along them, and the genes that tell most."
    return Section(
        "discovery",
        title,
        question,
        (words, Row((picture,)), Row((Table(pd.DataFrame(rows), caption),))),
    )


def _counted(n: int, one: str, more: str) -> str:
    return f"{n:,} {one if n == 1 else more}"


def _names(rows: pd.DataFrame, *verdicts: str) -> str:
    groups = list(rows.loc[rows["verdict"].isin(verdicts), "group"])
    return "all" if len(groups) == len(rows) else some(groups, LISTED) if groups else ""


def _found(result: Result) -> Discovery | None:
    """Return what the model was discovered by, or what the fit recorded of it."""
    mgvi = result.mgvi
    if isinstance(mgvi, Fits) and mgvi.discovery is not None:
        return mgvi.discovery
    recorded = result.adata.uns.get("mgvi", {}).get("discovery")
    if recorded is None:
        return None
    try:
        table = pd.DataFrame(recorded)[list(COLUMNS)].astype(COLUMNS)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"uns['mgvi']['discovery'] is damaged: {error!r}; fit again, or delete it"
        ) from error
    return Discovery(table, (), {}, np.zeros(0, dtype=int))
