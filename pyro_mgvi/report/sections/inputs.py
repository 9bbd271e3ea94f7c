"""Sections of the report on what went into the fit, and how it went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pyro_mgvi import plots
from pyro_mgvi.core import DataKind
from pyro_mgvi.core.modalities import Modalities
from pyro_mgvi.data.counts import checked, matrix
from pyro_mgvi.data.schema import Source
from pyro_mgvi.data.stores.in_memory import Counts, rounded
from pyro_mgvi.data.stores.on_disk import entries, in_memory
from pyro_mgvi.errors import DataError
from pyro_mgvi.plots.colours import Levels
from pyro_mgvi.report.blocks import Block, Hint, Paragraph, Picture, Row, Section, Table
from pyro_mgvi.report.result import Result

WIDE = 8  # groups that are columns of a table; more are rows, if labels are fewer


def data(result: Result) -> Section:
    """Show how many cells each group has, and how deep they are."""
    group = result.group
    key = result.settings["group_key"]
    sizes = group.value_counts().reindex(list(result.groups))
    table = pd.DataFrame({"cells": sizes.to_numpy()})
    blocks: list[Block] = []
    items: list[Picture | Table] = []
    try:
        x = _values(result)
    except DataError as error:
        blocks.append(Hint(f"Depth cannot be shown: {error}."))
    else:
        group_n = group.cat.codes.to_numpy()
        if (entries(x) % 1).any():
            blocks.append(Paragraph("The values are transformed: they have no depth."))
        elif result.modalities is None:
            columns, picture = _depth(x, group_n, result.groups)
            items.append(picture)
            table = table.assign(**columns)
        else:
            items += _of_modalities(result.modalities, x, group_n, result)
    if result.n_left_out:
        blocks.append(Paragraph(f"{result.n_left_out:,} cells without a count were left out."))
    table.insert(0, key, list(sizes.index), allow_duplicates=True)  # it may be called "cells"
    medians = "" if len(table.columns) < 3 else "; counts and genes per cell are medians"
    items.append(Table(table, f"Cells of each group{medians}."))
    if result.first_label is not None:
        items.append(_by_group(result, result.first_label))
    return Section("data", "Data", "What went in?", (*blocks, Row(tuple(items))))


def _values(result: Result) -> Counts:
    """Return what was fitted; of genes that a group has not got, nothing, if the model says so."""
    if result.data is not None and result.data.schema.absent:
        return in_memory(result.data.x)
    if result.settings.get("genes_absent"):
        raise DataError("groups have not got the same genes, and the model knows which")
    adata = result.adata
    where = Source(result.settings.get("layer"), bool(result.settings.get("use_raw")))
    where = where.resolved(adata)
    found = matrix(adata, where)
    genes = where.var_names(adata)
    x = in_memory(checked(found, adata, genes, where, DataKind.VALUES, known=True))
    return rounded(x) if result.settings.get("round_counts") else x


def _of_modalities(
    modalities: Modalities, x: Counts, group_n: np.ndarray, result: Result
) -> Iterator[Picture | Table]:
    """Yield how deep the cells are in each of several modalities, those that have it."""
    for name, place in modalities.columns.items():
        part = x[:, place]
        has_n = np.asarray(part.sum(1)).ravel() > 0
        codes = np.unique(group_n[has_n])
        groups = [result.groups[code] for code in codes]
        if not groups:
            continue
        columns, picture = _depth(part[has_n], np.searchsorted(codes, group_n[has_n]), groups, name)
        cells = np.bincount(group_n[has_n], minlength=len(result.groups))[codes]
        table = pd.DataFrame({"cells": cells}).assign(**columns)
        table.insert(0, result.settings["group_key"], groups, allow_duplicates=True)
        yield picture
        yield Table(table, f"Cells of each group that have {name}; medians of counts and features.")


def _depth(
    x: Counts, group_n: np.ndarray, groups: Sequence[str], of: str = ""
) -> tuple[dict[str, list[Any]], Picture]:
    """Return how deep the cells of each group are: columns of a table, and a picture.

    Parameters
    ----------
    x
        Counts of the cells.
    group_n, groups
        Their groups, as codes, and the names of these; none is without a cell.
    of
        The modality, of several.
    """
    depth = np.asarray(x.sum(axis=1), float).ravel()
    found = np.asarray((x > 0).sum(axis=1)).ravel()
    by_group = [depth[group_n == code] for code in range(len(groups))]
    columns: dict[str, list[Any]] = {
        "counts per cell": [round(np.median(part)) for part in by_group],
        "10 % to 90 %": [
            " to ".join(f"{value:,.0f}" for value in np.quantile(part, [0.1, 0.9]))
            for part in by_group
        ],
        f"{'features' if of else 'genes'} per cell": [
            round(np.median(found[group_n == code])) for code in range(len(groups))
        ],
    }

    def draw(ax: Axes) -> None:
        for y, part in enumerate(by_group):
            low, first, middle, third, high = np.quantile(part, [0.05, 0.25, 0.5, 0.75, 0.95])
            ax.plot([low, high], [y, y], color=plots.PALETTE[0], linewidth=1.2)
            ax.plot([first, third], [y, y], color=plots.PALETTE[5], linewidth=9)
            ax.plot(middle, y, "o", color="black", markersize=5)
        ax.set_yticks(range(len(by_group)), groups)
        ax.invert_yaxis()
        ax.margins(y=0.4 / len(by_group) + 0.1)
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.set_xlabel(f"counts of {of} per cell" if of else "counts per cell")

    caption = (
        f"Are the groups equally deep{f' in {of}' if of else ''}? Dot: median cell; thick line: "
        "the middle half of the cells; thin line: the middle 90 %."
    )
    height = min(8.0, 1.2 + 0.42 * len(by_group))
    return columns, Picture.drawn(draw, caption, (4.9, height))


def _by_group(result: Result, column: str) -> Table:
    """Return how many cells of each level every group has."""
    levels = Levels.of(result.column(column))
    group_n = pd.Categorical(result.group, categories=list(result.groups)).codes
    known = levels.code_n >= 0
    cells = np.zeros((len(levels.names), len(result.groups)), int)
    np.add.at(cells, (levels.code_n[known], group_n[known]), 1)
    key = result.settings["group_key"]
    heads, rows, corner = result.groups, levels.names, column
    if len(heads) > max(WIDE, len(rows)):  # long rather than wide
        cells, heads, rows, corner = cells.T, rows, heads, key
    counts = pd.DataFrame(cells, columns=list(heads))
    counts.insert(0, corner, rows, allow_duplicates=True)  # a group may have its name
    missing = int((~known).sum())
    left_out = f" {missing:,} cells have none and are left out." if missing else ""
    return Table(counts, f"Cells of each {column}, by {key}.{left_out}")


def settings(result: Result) -> Section:
    """Show the settings of the fit, and versions."""
    names = {
        "group_key": "groups (column of obs)",
        "layer": "counts (layer)",
        "layers": "counts (layers)",
        "batch_key": "batch (column of obs)",
        "covariate_keys": "covariates",
        "sample_key": "samples (column of obs)",
        "foreign": "latents of other groups' cells",
    }
    rows = []
    for key, value in result.settings.items():
        if key in ("groups", "having"):  # these, and which has which modality: the data say so
            continue
        if key == "layers":
            value = [f"{layer} (of {name})" for name, layer in value.items()]
        text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        if value is None:
            text = "X" if key == "layer" else "none"
        elif key == "foreign":
            text = {"nan": "left out (NaN)", "encode": "as encoded"}.get(text, text)
        rows.append((names.get(key, key.replace("_", " ")), text or "none"))
    packages = sorted((name.replace("_", "-"), str(v)) for name, v in result.versions.items())
    return Section(
        "settings",
        "Settings",
        "How was it fitted, and with what?",
        (
            Row(
                (
                    Table(pd.DataFrame(rows, columns=["setting", "value"]), "Settings of the fit."),
                    Table(pd.DataFrame(packages, columns=["package", "version"]), "Versions."),
                )
            ),
        ),
    )


def _kept(history: pd.DataFrame) -> np.ndarray:
    """Return which epoch's weights the model has; of earlier versions, that of the lowest loss."""
    lowest = history["validation"] == history["validation"].min()
    known = "kept" in history and history["kept"].any()
    kept: np.ndarray = (history["kept"] if known else lowest).to_numpy(bool)
    return kept


def training(result: Result) -> Section:
    """Show the loss per epoch."""
    history = result.history
    if not len(history):
        return Section(
            "training",
            "Training",
            "Had it converged?",
            (Hint("The model has no history: it was not trained by MGVI.fit."),),
        )
    text = f"{len(history)} epochs."
    if "validation" in history and history["validation"].notna().any():
        kept = history.index[_kept(history)][-1]
        text = (
            f"{len(history)} epochs. The weights kept are those of epoch "
            f"{history['epoch'][kept]:.0f}, whose loss on held-out cells is "
            f"{history['validation'][kept]:,.2f} nats per cell."
        )
    if result.interrupted:
        text += (
            " Training was interrupted (Ctrl-C or an error): these are the best weights of what "
            "was done."
        )

    def draw(ax: Axes) -> None:
        plots.history(history, ax)
        values = history[[c for c in ("train", "validation") if c in history]].to_numpy(float)
        values = values[np.isfinite(values).all(1)]
        if len(values) > 10:  # the first epochs, and those after the search, would hide the others
            low, high = values.min(), np.quantile(values[min(5, len(values) // 5) :], 0.85)
            ax.set_ylim(low - 0.05 * (high - low), high + 0.25 * (high - low))

    caption = (
        "Had training converged? Both curves should be flat at the end; a validation curve that "
        "rises while training falls means that the model learns noise. The steep start, and "
        "the epochs after the search for what is missing, may lie above the picture."
    )
    return Section(
        "training",
        "Training",
        "Had it converged?",
        (Paragraph(text), Row((Picture.drawn(draw, caption, (6.4, 3.3)),))),
    )
