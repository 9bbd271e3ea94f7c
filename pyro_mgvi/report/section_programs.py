"""The section of the report on the genes of each private dimension."""

from __future__ import annotations

import pandas as pd

from pyro_mgvi.analysis import CrossFit, programs
from pyro_mgvi.report.blocks import Block, Hint, Paragraph, Row, Section, Table
from pyro_mgvi.report.result import WITH_MODEL, Result, without_model


def programs_of(result: Result, refits: CrossFit | None = None, top: int = 10) -> Section:
    """Show the first genes of each dimension in use of the latents that some groups only own."""
    title, question = "Programs", "Which genes vary along each private dimension?"
    if result.mgvi is None or result.data is None:
        return Section("programs", title, question, (without_model(result, "Programs"),))
    table = programs(result.mgvi, result.data, calibration=refits or False, progress=False)
    if not len(table):
        nothing = Paragraph(
            "None of the private dimensions is in use: there is no program to show."
        )
        return Section("programs", title, question, (nothing,))
    called = bool(table["q_value"].notna().any())
    blocks: list[Block] = [
        Paragraph(
            "The effect of a dimension on a gene is the change of its log2 expression when a cell "
            "moves by one standard deviation along it, other latents kept (of its expected value, "
            "for transformed data). Expected counts are per 10,000. Genes are in the order of what "
            "their counts tell of the dimension. A sign of a dimension means nothing: the first "
            "gene is made to rise."
        )
    ]
    tables = []
    for (latent, dimension), genes in table.groupby(["latent", "dimension"], sort=False):
        head = genes.head(top)
        shown = pd.DataFrame(
            {"gene": head["gene"], "effect": head["effect"], "expected": head["mean"]}
        )
        caption = f"{latent}, dimension {dimension}: the first {len(head)} genes."
        if called:
            shown["q"] = head["q_value"]
            caption += f" {(genes['q_value'] < 0.1).sum():,} genes have q < 0.1."
        tables.append(Table(shown, caption, 2))
    blocks.append(Row(tuple(tables)))
    if refits is None:
        text = "Whether these genes exceed noise is not tested here; q-values need refits."
        blocks.append(Hint(text, f"{WITH_MODEL} --diagnose"))
    return Section("programs", title, question, tuple(blocks))
