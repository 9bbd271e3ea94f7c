"""Sections of the report on what went into the fit, and how it went."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pyro_mgvi import plots
from pyro_mgvi.core import DataKind
from pyro_mgvi.data import checks
from pyro_mgvi.errors import DataError
from pyro_mgvi.report.blocks import Hint, Paragraph, Picture, Row, Section, Table
from pyro_mgvi.report.result import Result


def data(result: Result) -> Section:
    """Show how many cells each group has, and how deep they are."""
    adata, group = result.adata, result.group
    key = result.settings["group_key"]
    sizes = group.value_counts().reindex(list(result.groups))
    table = pd.DataFrame({key: list(sizes.index), "cells": sizes.to_numpy()})
    blocks, items = [], []
    try:
        x = checks.counts(adata, result.settings.get("layer"), DataKind.VALUES)
    except DataError as error:
        blocks.append(Hint(f"Depth cannot be shown: {error}."))
    else:
        depth = np.asarray(x.sum(axis=1), float).ravel()
        found = np.asarray((x > 0).sum(axis=1)).ravel()
        by_group = [depth[(group == name).to_numpy()] for name in result.groups]
        table["counts per cell"] = [round(np.median(part)) for part in by_group]
        table["10 % to 90 %"] = [
            " to ".join(f"{value:,.0f}" for value in np.quantile(part, [0.1, 0.9]))
            for part in by_group
        ]
        table["genes per cell"] = [
            round(np.median(found[(group == name).to_numpy()])) for name in result.groups
        ]

        def draw(ax):
            for y, part in enumerate(by_group):
                low, first, middle, third, high = np.quantile(part, [0.05, 0.25, 0.5, 0.75, 0.95])
                ax.plot([low, high], [y, y], color=plots.PALETTE[0], linewidth=1.2)
                ax.plot([first, third], [y, y], color=plots.PALETTE[5], linewidth=9)
                ax.plot(middle, y, "o", color="black", markersize=5)
            ax.set_yticks(range(len(by_group)), result.groups)
            ax.invert_yaxis()
            ax.margins(y=0.4 / len(by_group) + 0.1)
            ax.set_xlabel("counts per cell")

        caption = (
            "Are the groups equally deep? Dot: median cell; thick line: the middle half of the "
            "cells; thin line: the middle 90 %."
        )
        height = min(8.0, 1.2 + 0.42 * len(by_group))
        items.append(Picture.drawn(draw, caption, (4.9, height)))
    items.append(Table(table, "Cells of each group; counts and genes per cell are medians."))
    for column in result.labels[:1]:
        counts = pd.crosstab(adata.obs[column].astype(str).to_numpy(), group.to_numpy())
        counts = counts.reindex(columns=list(result.groups), fill_value=0)
        counts.insert(0, column, counts.index)
        items.append(Table(counts, f"Cells of each {column}, by {key}."))
    return Section("data", "Data", "What went in?", (*blocks, Row(tuple(items))))


def settings(result: Result) -> Section:
    """Show the settings of the fit, and versions."""
    names = {
        "group_key": "groups (column of obs)",
        "layer": "counts (layer)",
        "batch_key": "batch (column of obs)",
        "covariate_keys": "covariates",
        "foreign": "latents of other groups' cells",
    }
    rows = []
    for key, value in result.settings.items():
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
    if "kept" in history and history["kept"].any():
        return history["kept"].to_numpy(bool)
    return (history["validation"] == history["validation"].min()).to_numpy()


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

    def draw(ax):
        plots.history(history, ax)
        values = history[[c for c in ("train", "validation") if c in history]].to_numpy(float)
        values = values[np.isfinite(values).all(1)]
        if len(values) > 10:  # the first epochs would hide the others
            low, high = values.min(), values[min(5, len(values) // 5) :].max()
            ax.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))

    caption = (
        "Had training converged? Both curves should be flat at the end; a validation curve that "
        "rises while training falls means that the model learns noise. The steep start may lie "
        "above the picture."
    )
    return Section(
        "training",
        "Training",
        "Had it converged?",
        (Paragraph(text), Row((Picture.drawn(draw, caption, (6.4, 3.3)),))),
    )
