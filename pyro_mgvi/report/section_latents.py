"""Sections of the report that the latents alone can answer."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pyro_mgvi import plots
from pyro_mgvi.analysis.metrics import active_units, probe_and_chance
from pyro_mgvi.analysis.verdict import ACTIVE, LEAK
from pyro_mgvi.report.blocks import Hint, Paragraph, Picture, Row, Section, Table, Verdict, alone
from pyro_mgvi.report.result import WITH_MODEL, OwnCells, Result, sample, without_model

DRAWN = 20_000  # cells in a picture or a probe; more are sampled


def latents(result: Result) -> Section:
    """Show every latent, by group and labels."""
    rows, blocks = [], []
    for cells in result.copies():
        copy, used = cells.copy, active_units(cells.values, ACTIVE)
        owners = "all groups" if copy.shared else " and ".join(copy.groups)
        rows.append((copy.key, owners, int(cells.own_n.sum()), copy.dim, used))
        if not used:
            blocks.append(
                Paragraph(
                    f"{copy.key}: none of its dimensions is in use. It holds nothing about a cell, "
                    "so there is nothing to draw."
                )
            )
            continue
        pictures = tuple(
            _latent(cells, column, values, result) for column, values in result.colours(cells.own_n)
        )
        blocks.append(Row(pictures or (_latent(cells, None, None, result),)))
    columns = ["latent", "belongs to", "cells", "dimensions", "in use"]
    table = Table(
        pd.DataFrame(rows, columns=columns),
        f"Dimensions are in use if the cells' positions vary along them (variance above {ACTIVE}).",
    )
    words = Paragraph(
        "Shared latents describe what all groups have in common, such as cell types; a latent of "
        "one group describes what varies in its cells beyond that. Each picture shows the first "
        "two principal components of one latent, for the cells that own it."
    )
    return Section(
        "latents",
        "Latents",
        "What is shared, and what belongs to each group?",
        (words, Row((table,)), *blocks),
    )


def _latent(
    cells: OwnCells, column: str | None, values: np.ndarray | None, result: Result
) -> Picture:
    copy, chosen = cells.copy, sample(len(cells.values), DRAWN)
    labels = np.full(len(cells.values), "cells") if values is None else values
    by = "" if column is None else f" by {column}"

    def draw(ax):
        plots.scatter(ax, cells.values[chosen], labels[chosen], copy.key + by)
        for text in ax.get_legend().get_texts():
            text.set_fontsize(10)

    if copy.shared and column == result.settings["group_key"]:
        reading = "Mixed colours mean that the groups share this latent, as they should."
    elif copy.shared and column == result.settings.get("batch_key"):
        reading = "Mixed colours mean that the batch does not show, as it should be."
    elif copy.shared:
        reading = "Colours apart mean that this latent tells them apart in all groups."
    else:
        reading = f"Cells of {' and '.join(copy.groups)} only."
        if column is not None:
            reading += f" Mixed colours mean that this latent says something other than {column}."
    sampled = f" {DRAWN:,} cells, drawn at random." if len(chosen) < len(labels) else ""
    return Picture.drawn(draw, reading + sampled, (4.9, 3.3))


def diagnostics(result: Result, found=None) -> Section:
    """Probe every latent, and show what refits say, if they were made."""
    title, question = "Diagnostics", "What may the latents be read for?"
    blocks = []
    if found is not None:
        blocks.append(Verdict(found.verdict))
        copies = found.copies.reset_index(names="latent")
        copies.columns = [
            "latent", "worth", "error", "worth, shuffled", "error, shuffled", "agreement"
        ]  # fmt: skip
        blocks.append(
            alone(
                copies,
                "Worth: nats that a latent adds for a cell that the refit has not seen; shuffled: "
                "the same after the groups were shuffled among the cells, where nothing can be "
                "found. Errors are standard errors over cells. Agreement: linear CKA of two refits "
                "(1 is the same).",
            )
        )
    rows = list(_probes(result))
    if rows:
        columns = ["latent", "can it tell", "accuracy", "chance", "reading"]
        blocks.append(
            alone(
                pd.DataFrame(rows, columns=columns),
                "Balanced accuracy of a linear classifier, cross-validated over cells. "
                f"More than {LEAK} above chance counts as telling.",
                2,
            )
        )
    if result.mgvi is None:
        blocks.append(without_model(result, "Whether a latent is more than noise"))
    elif found is None:
        blocks.append(
            Hint(
                "Whether a latent is more than noise shows in refits, with and without shuffled "
                "groups; they take about as long as two trainings.",
                f"{WITH_MODEL} --diagnose",
            )
        )
    return Section("diagnostics", title, question, tuple(blocks))


def _probes(result: Result):
    key = result.settings["group_key"]
    for copy, own_n, own_values in result.copies():
        if not active_units(own_values, ACTIVE):
            continue
        chosen = sample(len(own_values), DRAWN)
        for column, values in result.colours(own_n):
            found = probe_and_chance(own_values[chosen], values[chosen])
            if found is None:
                continue
            accuracy, chance = found
            if accuracy - chance <= LEAK:
                reading = "no"
            elif copy.shared and column != key:
                reading = "yes"
            else:  # a shared latent should not know the group, nor a private one a shared label
                reading = "yes: a leak" if column == key else f"yes: a leak if {column} is shared"
            yield copy.key, column, accuracy, chance, reading
