"""The section of the report on the genes of each private dimension."""

from __future__ import annotations

import numpy as np

from pyro_mgvi.report.blocks import Block, Hint, Paragraph, Section, alone
from pyro_mgvi.report.rankings import Rankings
from pyro_mgvi.report.result import Result, with_model, without_model


def programs_of(result: Result, rankings: Rankings, tested: bool = False, top: int = 10) -> Section:
    """Show the first genes of each dimension in use of the latents that some groups only own."""
    title, question = "Programs", "Which genes vary along each private dimension?"
    several = result.modalities
    if several is not None:
        question = "Which features vary along the dimensions of one group or of one modality?"
    if result.mgvi is None or result.data is None:
        return Section("programs", title, question, (without_model(result, "Programs"),))
    table = rankings.programs
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
            + ("" if several is None else " Each modality is at 10,000 counts a cell.")
        )
    ]
    keys = ["latent", "dimension"]
    if several is not None:  # counts of different modalities do not compare
        of_each = np.repeat(several.names, several.sizes)
        known = dict(zip(result.adata.var_names, of_each))
        table = table.assign(modality=table["gene"].map(known))
        keys.append("modality")
    head = table.groupby(keys, sort=False).head(top)
    shown = head[["latent", "dimension", "gene", "effect"]].assign(expected=head["mean"])
    if called:
        shown["q"] = head["q_value"]
        counts = (table["q_value"] < 0.1).groupby([table["latent"], table["dimension"]], sort=False)
        caption = "How many genes have q < 0.1 for each dimension?"
        blocks.append(alone(counts.sum().reset_index(name="genes with q < 0.1"), caption))
    first = f"The first {top} genes of each dimension in use"
    if several is not None:
        first = f"The first {top} features of each modality along each dimension in use"
    caption = f"{first}. Sort, search or download them."
    blocks.append(alone(shown.reset_index(drop=True), caption, 2))
    if not tested:
        text = "Whether these genes exceed noise is not tested here; q-values need refits."
        blocks.append(Hint(text, with_model(result, "--diagnose")))
    return Section("programs", title, question, tuple(blocks))
