"""The section of the report on samples: how they differ, and of whom q-values speak."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pyro_mgvi.analysis import sample_effects
from pyro_mgvi.core import DataKind
from pyro_mgvi.data.checks import some
from pyro_mgvi.data.columns.samples import SAMPLES
from pyro_mgvi.report.blocks import Block, Paragraph, Row, Section, Table, Verdict
from pyro_mgvi.report.result import Result, without_model
from pyro_mgvi.training.program import Program

NAMED = 5  # genes in the sentence
LISTED = 10  # genes in the table


def samples(result: Result) -> Section | None:
    """Show how many samples there are and in which genes they differ; None if none are known."""
    if result.mgvi is None or result.data is None:
        if result.settings.get("sample_key") is None:
            return None
        return _section(without_model(result, "What samples differ by"))
    schema = result.mgvi.schema
    if schema.sample_key is None:
        return None
    sample_n = result.data.sample_n
    group_n = np.array(schema.groups)[result.data.group_n]
    cells_sb = pd.crosstab(sample_n, group_n)[[g for g in schema.groups if g in set(group_n)]]
    blocks: list[Block] = [
        Paragraph(f"The column {schema.sample_key} names {_how_many(cells_sb)}"),
        Verdict(tuple(_of_whom(cells_sb))),
    ]
    tables = [_by_group(cells_sb, result.settings["group_key"])]
    if schema.samples:
        words, table = _effects(result.mgvi)
        blocks.append(Paragraph(words))
        tables.append(table)
    else:
        blocks.append(
            Paragraph("The model has no effects of samples: what they differ by may be in latents.")
        )
    return _section(*blocks, Row(tuple(tables)))


def _section(*blocks: Block) -> Section:
    question = "What do samples differ by, and whom do q-values speak of?"
    return Section("samples", "Samples", question, blocks)


def _how_many(cells_sb: pd.DataFrame) -> str:
    """Say how many samples there are, and whether they are nested in groups."""
    crossed = int(((cells_sb > 0).sum(axis=1) > 1).sum())
    n = len(cells_sb)
    text = f"{n:,} {_plural(n)}"
    if cells_sb.shape[1] < 2:
        return f"{text}."
    if not crossed:
        return f"{text}, each in one group only (nested)."
    if crossed == n:
        return f"{text}, each in several groups (paired: groups are compared within samples)."
    return (
        f"{text}, of which {crossed:,} {'is' if crossed == 1 else 'are'} in several groups: groups "
        "are compared within these."
    )


def _plural(n: int) -> str:
    return "sample" if n == 1 else "samples"


def _by_group(cells_sb: pd.DataFrame, key: str) -> Table:
    """Return how many samples each group has, and of how many cells."""
    there_sb = cells_sb.where(cells_sb > 0)
    frame = pd.DataFrame(
        {
            "samples": there_sb.notna().sum().to_numpy(),
            "cells, fewest": there_sb.min().astype(int).to_numpy(),
            "cells, median": there_sb.median().round().astype(int).to_numpy(),
            "cells, most": there_sb.max().astype(int).to_numpy(),
        }
    )
    frame.insert(0, key, list(cells_sb.columns), allow_duplicates=True)
    return Table(frame, "Samples of each group, and how many cells each sample has there.")


def _effects(mgvi: Program) -> tuple[str, Table]:
    """Say in which genes samples differ most, and return the table of these."""
    effects = sample_effects(mgvi)
    counts = mgvi.data_kind is DataKind.COUNTS
    effect_sg = effects / np.log(2) if counts else effects
    spread_g = effect_sg.pow(2).mean().pow(0.5)
    first = spread_g.sort_values(ascending=False, kind="stable").index[:LISTED]
    scale = "log2 expression" if counts else "their own scale"
    words = (
        "Each sample has an effect of its own on each gene, so that what samples differ by is in "
        "no latent. Effects are shrunken: the less there is to learn one from, the nearer it is to "
        f"zero. Samples differ most in {', '.join(first[:NAMED])}: by {spread_g[first[0]]:.2g} in "
        f"the first of these, and by {spread_g.median():.2g} in a typical gene (standard "
        f"deviations, {scale})."
    )
    frame = pd.DataFrame(
        {
            "gene": first,
            "differ by": spread_g[first].to_numpy(),
            "lowest": effect_sg[first].min().to_numpy(),
            "lowest in": effect_sg[first].idxmin().to_numpy(),
            "highest": effect_sg[first].max().to_numpy(),
            "highest in": effect_sg[first].idxmax().to_numpy(),
        }
    )
    caption = (
        f"Genes in which samples differ most, {scale}: the standard deviation over samples, and "
        "the samples with the lowest and the highest effect. Effects are relative to the mean of "
        "the samples of a group (of all groups, where samples are in several)."
    )
    return words, Table(frame, caption, 2)


def _of_whom(cells_sb: pd.DataFrame) -> Iterator[str]:
    """Say what q-values of the rankings are about."""
    yield (
        "q-values of the rankings of groups (Top genes) speak of new samples, not only of these: "
        "refits hold out whole samples, and the differences between groups are held against those "
        "between samples."
    )
    few = [group for group in map(str, cells_sb.columns) if _compared(cells_sb, group) < SAMPLES]
    if few and cells_sb.shape[1] > 1:
        yield (
            f"For that, {SAMPLES} samples of a group are needed, and {SAMPLES} to compare with: "
            f"{some(few)} cannot be told from the other groups like this, and genes have no "
            "q-value there. What is said of such a group is said of these samples."
        )


def _compared(cells_sb: pd.DataFrame, group: str) -> int:
    """Return how many samples a group is compared in: those in it and in others, if there are."""
    own_s = cells_sb[group] > 0
    others_s = cells_sb.drop(columns=group).sum(axis=1) > 0
    n_crossed = int((own_s & others_s).sum())
    return n_crossed or min(int(own_s.sum()), int(others_s.sum()))
