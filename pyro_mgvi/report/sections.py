"""The sections of the report, one function each: what was found, in words, tables and pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from pyro_mgvi import checks, plots
from pyro_mgvi.diagnostics import ACTIVE, LEAK
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.metrics import active_units, probe
from pyro_mgvi.report.blocks import Hint, Paragraph, Picture, Row, Section, Table, Verdict
from pyro_mgvi.report.result import Copy, Result

DRAWN = 20_000  # cells in a picture or a probe; more are sampled
CHECKED = 2_000  # cells in predictive checks
NEEDS_MODEL = "pyro-mgvi fit IN.h5ad --group-key {} --out RESULT.h5ad --model MODEL"
WITH_MODEL = "pyro-mgvi report RESULT.h5ad --model MODEL --out report.html"


def data(result: Result) -> Section:
    """Show how many cells each group has, and how deep they are."""
    adata, group = result.adata, result.group
    key = result.settings["group_key"]
    sizes = group.value_counts().reindex(list(result.groups))
    table = pd.DataFrame({key: list(sizes.index), "cells": sizes.to_numpy()})
    blocks, items = [], []
    try:
        x = checks.counts(adata, result.settings.get("layer"), counts_only=False)
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
        best = history["validation"].idxmin()
        text = (
            f"{len(history)} epochs. The weights kept are those of epoch "
            f"{history['epoch'][best]:.0f}, with the lowest loss on held-out cells: "
            f"{history['validation'][best]:,.2f} nats per cell."
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


def latents(result: Result) -> Section:
    """Show every latent, by group and labels."""
    rows, blocks = [], []
    for copy in result.copies():
        used = active_units(copy.values, ACTIVE)
        owners = "all groups" if copy.shared else " and ".join(copy.groups)
        rows.append((copy.key, owners, int(copy.own_n.sum()), copy.values.shape[1], used))
        if not used:
            blocks.append(
                Paragraph(
                    f"{copy.key}: none of its dimensions is in use. It holds nothing about a cell, "
                    "so there is nothing to draw."
                )
            )
            continue
        pictures = tuple(
            _latent(copy, column, values, result) for column, values in result.colours(copy.own_n)
        )
        blocks.append(Row(pictures or (_latent(copy, None, None, result),)))
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


def _latent(copy: Copy, column: str | None, values, result: Result) -> Picture:
    chosen = _sample(len(copy.values), DRAWN)
    labels = np.full(len(copy.values), "cells") if values is None else values
    by = "" if column is None else f" by {column}"

    def draw(ax):
        plots.scatter(ax, copy.values[chosen], labels[chosen], copy.key + by)
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


def genes(result: Result, refits=None, top: int = 15) -> Section:
    """Show the first genes of each group's ranking."""
    title, question = "Top genes", "Which genes does each group's own variation explain?"
    if result.mgvi is None:
        return Section("genes", title, question, (_without_model(result, "Genes"),))
    blocks = [
        Paragraph(
            "Genes are ranked by how much better their counts are explained with the group's own "
            "latents and mean shift than with the shared latents alone: the Bayes factor of "
            "multiGroupVI's equation 12, over all cells of the group. Expected counts are per "
            "10,000."
        )
    ]
    for group in result.groups:
        try:
            table = result.mgvi.rank_genes(result.data, group, calibration=refits or False)
        except SettingsError as error:
            return Section("genes", title, question, (Hint(f"No ranking: {error}."),))
        called = table["q_value"].notna().any()

        def draw(ax, table=table, called=called, group=group):
            plots.ranking(table, top, ax=ax)
            ax.set_title(group)
            if not called:  # hollow would say that they were tested
                ax.get_legend().remove()
                for bar in ax.patches:
                    bar.set_facecolor(plots.PALETTE[0])

        head = table.head(top)
        shown = pd.DataFrame(
            {
                "gene": head["gene"],
                "nats per cell": head["per_cell"],
                "expected": head["mean_all"],
                "shared only": head["mean_shared"],
                "log2 change": head["log_fold_change"],
            }
        )
        if called:
            shown["q"] = head["q_value"]
        found = f" {(table['q_value'] < 0.1).sum():,} genes have q < 0.1." if called else ""
        caption = f"Which genes does the own variation of {group} explain best?{found}"
        height = 1.1 + 0.24 * len(head)
        picture = Picture.drawn(draw, caption, (3.8, height))
        blocks.append(Row((picture, Table(shown, f"The first {len(head)} genes of {group}.", 2))))
    if refits is not None and not called:
        blocks.append(Hint("There are too few cells for q-values."))
    if refits is None:
        text = "Whether these genes exceed noise is not tested here; q-values need refits."
        blocks.append(Hint(text, f"{WITH_MODEL} --diagnose"))
    return Section("genes", title, question, tuple(blocks))


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
            _table(
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
            _table(
                pd.DataFrame(rows, columns=columns),
                "Balanced accuracy of a linear classifier, cross-validated over cells. "
                f"More than {LEAK} above chance counts as telling.",
                2,
            )
        )
    if result.mgvi is None:
        blocks.append(_without_model(result, "Whether a latent is more than noise"))
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
    for copy in result.copies():
        if not active_units(copy.values, ACTIVE):
            continue
        chosen = _sample(len(copy.values), DRAWN)
        for column, values in result.colours(copy.own_n):
            target, latent = values[chosen], copy.values[chosen]
            levels, sizes = np.unique(target, return_counts=True)
            kept = np.isin(target, levels[sizes >= 3])  # a class needs a cell in each fold
            n_levels = int((sizes >= 3).sum())
            if n_levels < 2:
                continue
            accuracy, chance = probe(latent[kept], target[kept]), 1 / n_levels
            if accuracy - chance <= LEAK:
                reading = "no"
            elif copy.shared and column != key:
                reading = "yes"
            else:  # a shared latent should not know the group, nor a private one a shared label
                reading = "yes: a leak" if column == key else f"yes: a leak if {column} is shared"
            yield copy.key, column, accuracy, chance, reading


def predictive(result: Result, progress: bool = False, draws: int = 50) -> Section:
    """Show counts drawn from the model beside the observed ones."""
    title, question = "Predictive checks", "Would the model produce such data?"
    if result.mgvi is None:
        return Section("checks", title, question, (_without_model(result, "Predictive checks"),))
    from pyro_mgvi.criticism import predictive_checks

    cells = _sample(len(result.data), CHECKED)
    try:
        found = predictive_checks(
            result.mgvi, result.data.subset(cells), draws=draws, progress=progress
        )
    except SettingsError as error:
        return Section("checks", title, question, (Hint(f"No checks: {error}."),))
    sampled = f" {CHECKED:,} cells, drawn at random." if len(cells) < len(result.data) else ""
    pictures = (
        _against(found.genes, "variance", "variance of a gene", True,
                 "Is every gene as variable as the model says?"),
        _against(found.genes, "zeros", "share of cells without the gene", False,
                 "Are there as many zeros as the model says?"),
        _against(found.cells, "library", "counts of a cell", True,
                 "Are cells as deep as the model says?"),
    )  # fmt: skip
    summary = found.summary()
    table = pd.DataFrame(
        {
            "statistic": summary.index,
            "observed": summary["observed"].to_numpy(),
            "predicted": summary["predicted"].to_numpy(),
            "inside 90 %": [f"{100 * share:.0f} %" for share in summary["inside"]],
        }
    )
    words = Paragraph(
        f"{draws} times, counts of all cells were drawn from the model given each cell's latents, "
        f"and compared with the observed ones.{sampled} Points far from the line are what the "
        "model gets wrong; points on it are no proof, for the model has seen these cells."
    )
    caption = (
        "Means over genes or cells, and the share of them inside the central 90 % of the draws: "
        "about 90 % or more where the model fits."
    )
    return Section("checks", title, question, (words, Row(pictures), _table(table, caption)))


def _against(table: pd.DataFrame, name: str, label: str, log: bool, question: str) -> Picture:
    observed, predicted = (table[f"{name}_{side}"].to_numpy() for side in ("observed", "predicted"))
    inside = table[f"{name}_observed"].between(table[f"{name}_lower"], table[f"{name}_upper"])

    def draw(ax):
        positive = (observed > 0) & (predicted > 0) if log else np.ones(len(observed), bool)
        for kept, colour, marker, text in (
            (inside, plots.PALETTE[0], "o", "inside 90 %"),
            (~inside, plots.PALETTE[4], "x", "outside"),
        ):
            shown = kept.to_numpy() & positive
            ax.scatter(predicted[shown], observed[shown], s=10, c=colour, marker=marker,
                       linewidths=0.8 if marker == "x" else 0, alpha=0.6, label=text)  # fmt: skip
        both = np.concatenate([predicted[positive], observed[positive]])
        ends = [both.min(), both.max()] if len(both) else [1, 1]
        ax.plot(ends, ends, color="black", linewidth=0.8)
        if log:
            ax.set(xscale="log", yscale="log")
            for axis in (ax.xaxis, ax.yaxis):  # 1000, not a power that needs mathematics
                axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
                axis.set_minor_formatter(NullFormatter())
                if ends[1] < 100 * ends[0]:
                    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.set(xlabel="predicted", ylabel="observed", title=label)
        ax.legend(frameon=False, fontsize=9, loc="upper left")

    return Picture.drawn(draw, f"{question} On the line: yes.", (4.9, 3.8))


def _table(*arguments) -> Row:
    return Row((Table(*arguments),))


def _sample(n: int, most: int) -> np.ndarray:
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))


def _without_model(result: Result, what: str) -> Hint:
    return Hint(
        f"{what}: not here, because this report was made without the trained model. Save the "
        "model with the fit, and name it:",
        NEEDS_MODEL.format(result.settings["group_key"]) + "\n" + WITH_MODEL,
    )
