"""Sections of the report that need the trained model: genes and predictive checks."""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from pyro_mgvi import plots
from pyro_mgvi.criticism import predictive_checks
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.plots.checks import observed_against_predicted
from pyro_mgvi.report.blocks import Block, Hint, Paragraph, Picture, Row, Section, alone
from pyro_mgvi.report.rankings import Rankings
from pyro_mgvi.report.result import Result, sample, with_model, without_model

CHECKED = 2_000  # cells in predictive checks; of more, a sample
CHECKED_VALUES = 6_000_000  # cells x genes in them: a draw of many genes takes long


def genes(result: Result, rankings: Rankings, tested: bool = False, top: int = 15) -> Section:
    """Show the first genes of each group's ranking."""
    title, question = "Top genes", "Which genes does each group's own variation explain?"
    if result.mgvi is None or result.data is None:
        return Section("genes", title, question, (without_model(result, "Genes"),))
    blocks: list[Block] = [
        Paragraph(
            "Genes are ranked by how much better their counts are explained with the group's own "
            "latents and mean shift than with the shared latents alone: the Bayes factor of "
            "multiGroupVI's equation 12, over all cells of the group. Expected counts are per "
            "10,000."
        )
    ]
    if rankings.problem:
        return Section("genes", title, question, (Hint(f"No ranking: {rankings.problem}."),))
    pictures, tables = [], []
    for group, table in rankings.groups.items():
        called = bool(table["q_value"].notna().any())

        def draw(
            ax: Axes, table: pd.DataFrame = table, called: bool = called, group: str = group
        ) -> None:
            plots.ranking(table, top, ax=ax)
            ax.set(title=group, xlabel="nats per cell")
            ax.set_yticks(range(min(top, len(table))), map(_short, table.index[:top]))
            legend = ax.get_legend()
            if not called:  # hollow would say that they were tested
                if legend is not None:
                    legend.remove()
                for bar in ax.patches:
                    bar.set_facecolor(plots.PALETTE[0])

        head = table.head(top)
        shown = pd.DataFrame(
            {
                "group": group,
                "gene": head.index,
                "nats per cell": head["per_cell"].to_numpy(),
                "expected": head["mean_all"].to_numpy(),
                "shared only": head["mean_shared"].to_numpy(),
                "log2 change": head["log_fold_change"].to_numpy(),
            }
        )
        if called:
            shown["q"] = head["q_value"].to_numpy()
        tables.append(shown)
        found = ""
        if called:
            n_called = int((table["q_value"] < 0.1).sum())
            found = f" {n_called:,} genes have q < 0.1 (for {table.attrs['q_value_of']})."
        caption = f"Which genes does the own variation of {group} explain best?{found}"
        height = 1.1 + 0.24 * len(head)
        pictures.append(Picture.drawn(draw, caption, (3.7, height)))
    blocks.append(Row(tuple(pictures)))
    caption = f"The first {top} genes of each group. Sort, search or download them."
    blocks.append(alone(pd.concat(tables, ignore_index=True), caption, 2))
    if tested and not any("q" in shown for shown in tables):
        units = "cells" if result.mgvi.schema.sample_key is None else "samples, or cells of them,"
        blocks.append(Hint(f"There are too few {units} for q-values."))
    if not tested:
        text = "Whether these genes exceed noise is not tested here; q-values need refits."
        blocks.append(Hint(text, with_model(result, "--diagnose")))
    return Section("genes", title, question, tuple(blocks))


def _short(name: str, most: int = 17) -> str:
    """Return a name with its middle left out if it is long: what tells it may be at either end."""
    return name if len(name) <= most else f"{name[: most - 8]}…{name[-7:]}"


def predictive(result: Result, progress: bool = False, n_draws: int = 50) -> Section:
    """Show counts drawn from the model beside the observed ones."""
    title, question = "Predictive checks", "Would the model produce such data?"
    if result.mgvi is None or result.data is None:
        return Section("checks", title, question, (without_model(result, "Predictive checks"),))
    cells = sample(len(result.data), min(CHECKED, max(50, CHECKED_VALUES // result.data.shape[1])))
    try:
        found = predictive_checks(
            result.mgvi, result.data.subset(cells), n_draws=n_draws, progress=progress
        )
    except SettingsError as error:
        return Section("checks", title, question, (Hint(f"No checks: {error}."),))
    sampled = f" {len(cells):,} cells, drawn at random." if len(cells) < len(result.data) else ""
    pictures = tuple(
        Picture.drawn(
            partial(observed_against_predicted, table=table, name=name, title=label, log=log),
            caption,
        )
        for table, name, label, log, caption in (
            (found.genes, "variance", "variance of a gene", True,
             "Is every gene as variable as the model says?"),
            (found.genes, "zeros", "share of cells without a gene", False,
             "Are there as many zeros of each gene as the model says?"),
            (found.cells, "library", "counts of a cell", True,
             "Are cells as deep as the model says?"),
            (found.cells, "zeros", "share of genes that a cell lacks", False,
             "Do cells lack as many genes as the model says?"),
        )
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
        f"{n_draws} times, counts of all cells were drawn from the model given each cell's "
        f"latents, and compared with the observed ones.{sampled} Points far from the line are what "
        "the model gets wrong (orange: outside the central 90 % of the draws, the bars); points on "
        "it are no proof, for the model has seen these cells."
    )
    caption = (
        "Means over genes or cells, and the share of them inside the central 90 % of the draws: "
        "about 90 % or more where the model fits."
    )
    return Section("checks", title, question, (words, Row(pictures), alone(table, caption)))
