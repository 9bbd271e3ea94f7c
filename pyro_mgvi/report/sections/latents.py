"""Sections of the report that the latents alone can answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pyro_mgvi import plots
from pyro_mgvi.analysis import Diagnosis
from pyro_mgvi.analysis.diagnosis import ACTIVE, LEAK
from pyro_mgvi.analysis.metrics import active_units
from pyro_mgvi.core import Copy
from pyro_mgvi.plots.colours import colours_in
from pyro_mgvi.plots.panels import Panel, Place
from pyro_mgvi.report.blocks import (
    Block,
    Hint,
    Paragraph,
    Picture,
    Row,
    Section,
    Still,
    Table,
    Verdict,
    alone,
)
from pyro_mgvi.report.probes import Probe, left_out
from pyro_mgvi.report.result import OwnCells, Result, sample, with_model, without_model

DRAWN = 20_000  # cells in a picture; more are sampled


def latents(result: Result) -> Section:
    """Show every latent, by group and labels."""
    rows = []
    blocks: list[Block] = []
    for cells in result.copies():
        copy, used = cells.copy, active_units(cells.values, ACTIVE)
        reach = (result.alone(copy) or "all",) if result.modalities is not None else ()
        rows.append((copy.key, copy.owners, *reach, int(cells.own_n.sum()), copy.dim, used))
        if not used:
            blocks.append(Paragraph(f"{copy.key}: {_not_drawn(cells)}"))
            continue
        place = _place(cells, result)
        pictures = tuple(
            _latent(cells, place, column, labels, result)
            for column, labels in result.colours(cells.own_n)
        )
        if not pictures:
            everything = pd.Series("cells", index=result.adata.obs_names)
            pictures = (_latent(cells, place, None, everything, result),)
        blocks.append(Still(pictures))
    reaches = [] if result.modalities is None else ["reaches"]
    columns = ["latent", "belongs to", *reaches, "cells", "dimensions", "in use"]
    table = Table(
        pd.DataFrame(rows, columns=columns),
        f"Dimensions are in use if the cells' positions vary along them (variance above {ACTIVE}).",
    )
    several = ""
    if result.modalities is not None:
        several = (
            "A latent that reaches one modality describes what shows in that one alone; what "
            "several show is in a latent that reaches all. "
        )
    words = Paragraph(
        "Shared latents describe what all groups have in common, such as cell types; a latent of "
        f"one group describes what varies in its cells beyond that. {several}"
        "The explorer draws them. In print, and without it, each picture shows the first two "
        "principal components of one latent, for the cells that own it. A latent with a single "
        "dimension in use is drawn along that dimension instead, with a row for each label."
    )
    return Section(
        "latents",
        "Latents",
        "What is shared, and what belongs to each group?",
        (words, Row((table,)), *blocks),
    )


def _not_drawn(cells: OwnCells) -> str:
    """Return why there is no picture of a latent along which cells hardly vary."""
    if not cells.values.any():
        return "none of its dimensions is in use. It holds nothing about a cell: no picture."
    return (
        f"the positions of its cells hardly vary (variance at most {ACTIVE}), although a dimension "
        "of it is open: it says very little, and is not drawn."
    )


def _place(cells: OwnCells, result: Result) -> Place:
    """Return where the cells that own a copy are drawn, or a sample of them."""
    chosen = sample(len(cells.values), DRAWN)
    latent_nk = np.full((len(cells.own_n), cells.copy.dim), np.nan)
    latent_nk[np.flatnonzero(cells.own_n)[chosen]] = cells.values[chosen]
    return Place.of(latent_nk, plots.pca)


def _latent(
    cells: OwnCells, place: Place, column: str | None, labels: pd.Series, result: Result
) -> Picture:
    title, palette = cells.copy.key, None
    if column is not None:
        title, palette = f"{title} by {column}", colours_in(result.adata, column)
    panel = Panel.of(place, labels, title, palette, font=10)
    caption = _reading(cells.copy, column, panel, result)
    missing = int(panel.labels.isna().sum())
    if missing:
        caption += f" Grey: {missing:,} cells without {column}."
    if place.known_n.sum() < len(cells.values):
        caption += f" {DRAWN:,} cells, drawn at random."
    return Picture.drawn(panel.draw, caption, panel.size(4.9, 3.3))


def _reading(copy: Copy, column: str | None, panel: Panel, result: Result) -> str:
    """Say what a picture means."""
    number = panel.levels is None
    alike, apart = "Mixed colours mean", "Colours apart mean"
    if panel.dims == 1:
        alike, apart = "Rows alike mean", "Rows apart mean"
        if number:
            alike, apart = "No trend means", "A trend means"
    if copy.shared and column in result.group_columns:
        text = f"{alike} that the groups share this latent, as they should."
    elif copy.shared and column is not None and column == result.settings.get("batch_key"):
        text = f"{alike} that the batch does not show, as it should be."
    elif copy.shared:
        text = f"{apart} that this latent tells {column or 'them'} in all groups."
    else:
        text = f"Cells of {copy.owners} only."
        if column is not None:
            text += f" {alike} that this latent says something other than {column}."
    if panel.dims == 1 and not number:
        text += " Lines are medians; the height within a row means nothing."
    return text


def diagnostics(result: Result, probes: Sequence[Probe], found: Diagnosis | None = None) -> Section:
    """Probe every latent, and show what refits say, if they were made."""
    title, question = "Diagnostics", "What may the latents be read for?"
    blocks: list[Block] = []
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
    keys = result.group_columns
    rows = [(p.copy.key, p.column, p.accuracy, p.chance, p.reading(*keys)) for p in probes]
    if rows:
        columns = ["latent", "can it tell", "accuracy", "chance", "reading"]
        blocks.append(
            alone(
                pd.DataFrame(rows, columns=columns),
                "Balanced accuracy of a linear classifier, cross-validated over cells. "
                f"More than {LEAK} above chance counts as telling.{left_out(result)}",
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
                with_model(result, "--diagnose"),
            )
        )
    return Section("diagnostics", title, question, tuple(blocks))
