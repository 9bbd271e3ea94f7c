"""The findings of a fit in plain words, from what the other sections know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from pyro_mgvi.analysis import Diagnosis, FitSummary, summary
from pyro_mgvi.analysis.diagnosis import ACTIVE
from pyro_mgvi.data.checks import some
from pyro_mgvi.plots.colours import Levels
from pyro_mgvi.report.blocks import Block, Doubts, Hint, Paragraph, Section, Verdict
from pyro_mgvi.report.probes import Probe
from pyro_mgvi.report.rankings import Rankings
from pyro_mgvi.report.result import OwnCells, Result, with_model, without_model

SAID = 5  # latents that are told one by one
LISTED = 6  # groups that are told one by one
NAMED = 5  # genes of a group
CLEAR = 0.1  # share of a latent's variance between labels above which it is told
FEW = 10  # cells of a label below which nothing is said of it


def findings(
    result: Result,
    rankings: Rankings,
    probes: Sequence[Probe],
    found: Diagnosis | None = None,
) -> Section:
    """Say what the fit found, how well groups mix, and what is doubtful.

    Parameters
    ----------
    result
        The fit.
    rankings
        Its tables of genes.
    probes
        Of each latent.
    found
        The diagnosis, if there were refits.
    """
    said = None
    if result.mgvi is not None and result.data is not None:
        said = summary(result.mgvi, result.data)
    blocks: list[Block] = [Paragraph(" ".join(_opening(result, said, probes)))]
    shifts = _shifts(rankings)
    if shifts:
        blocks.append(Paragraph(shifts))
    alone = tuple(_of_modalities(result, rankings))
    if alone:
        blocks.append(Verdict(alone))
    private = list(_private(result, said))
    if private:
        more = len(private) - SAID
        rest = [f"And {more} more: see Latents and Programs."] if more > 0 else []
        blocks.append(Verdict((*private[:SAID], *rest)))
    doubts = tuple(_doubts(result, said, probes, found))
    if doubts:
        blocks.append(Doubts(doubts))
    if found is not None:
        blocks.append(Verdict(found.verdict))
    elif said is not None:
        text = "Whether a latent is more than noise was not tested; refits tell."
        blocks.append(Hint(text, with_model(result, "--diagnose")))
    if said is None:
        blocks.append(without_model(result, "The genes of latents, and whether training converged"))
    return Section("findings", "Findings", "What was found, in plain words?", tuple(blocks))


def _opening(result: Result, said: FitSummary | None, probes: Sequence[Probe]) -> Iterator[str]:
    """Yield what was fitted, what is private, how groups mix, and whether training was enough."""
    yield _size(result)
    private = [own for own in result.copies() if not own.copy.shared]
    used = [own.copy.key for own in private if _used(own).any()]
    if not private:
        yield "All latents are shared."
    elif not used:
        yield (
            "No private latent is in use: nothing was found that varies within one group alone. "
            "What shifts a whole group is no latent; it is in Top genes."
        )
    else:
        yield (
            f"{len(used)} of {len(private)} private latents hold something beyond what is shared: "
            f"{some(used, LISTED)}."
        )
    keys = result.group_columns
    for probe in probes:
        if probe.copy.shared and probe.column in keys:
            figures = (
                f"from {probe.copy.key} alone, a linear classifier tells a cell's {probe.column} "
                f"with a balanced accuracy of {100 * probe.accuracy:.0f}\N{NO-BREAK SPACE}%, where "
                f"guessing reaches {100 * probe.chance:.0f}\N{NO-BREAK SPACE}%."
            )
            mixed = "The groups do not mix well" if probe.tells else "The groups mix well"
            mixed = (
                mixed if len(keys) == 1 else mixed.replace("groups", f"groups of {probe.column}")
            )
            yield f"{mixed} in {probe.copy.key}: {figures}"
    if said is not None and said.converged is not None:
        yield "Training converged." if said.converged else "Training has not converged."


def _shifts(rankings: Rankings) -> str:
    """Say which genes the own variation of each group explains best, its mean shift included."""
    if not rankings.groups:
        return ""
    parts = [
        f"{', '.join(table.index[:NAMED])} in {group}"
        for group, table in list(rankings.groups.items())[:LISTED]
    ]
    more = len(rankings.groups) - LISTED
    rest = f"; {more} more groups are in Top genes" if more > 0 else ""
    return f"The first genes of each group, its mean shift included: {'; '.join(parts)}{rest}."


def _size(result: Result) -> str:
    """Say how many cells and groups there are."""
    sizes = result.group.value_counts().reindex(list(result.groups))
    text = f"{result.adata.n_obs:,} cells were fitted, in {len(sizes)} "
    text += "group" if len(sizes) == 1 else "groups"
    if len(sizes) <= LISTED:
        return f"{text}: {', '.join(f'{name} ({size:,})' for name, size in sizes.items())}."
    return f"{text} of {sizes.min():,} to {sizes.max():,} cells."


def _used(own: OwnCells) -> np.ndarray:
    used: np.ndarray = np.var(own.values, axis=0) > ACTIVE
    return used


def _of_modalities(result: Result, rankings: Rankings) -> Iterator[str]:
    """Yield what each shared latent holds that reaches some of several modalities alone."""
    for own in result.copies():
        alone, used = result.alone(own.copy), int(_used(own).sum())
        if not alone or not own.copy.shared:
            continue
        key = own.copy.key
        if not used:
            yield f"{key}: no dimension in use; nothing was found that shows in {alone} alone."
            continue
        text = f"{key} (of {alone} alone): {used} of {own.copy.dim} dimensions in use."
        mine = rankings.programs[rankings.programs["latent"] == key]
        firsts = [", ".join(part["gene"].head(NAMED)) for _, part in mine.groupby("dimension")]
        if firsts:
            text += f" First features: {'; next dimension: '.join(firsts)}."
        yield text


def _private(result: Result, said: FitSummary | None) -> Iterator[str]:
    """Yield what each private latent in use holds, those that say most about a cell first."""
    order = {} if said is None else dict(zip(said.latents["latent"], said.latents["nats"]))
    genes = {} if said is None else dict(zip(said.latents["latent"], said.latents["genes"]))
    copies = [own for own in result.copies() if not own.copy.shared and _used(own).any()]
    for own in sorted(copies, key=lambda own: -order.get(own.copy.key, 0.0)):
        copy, used = own.copy, _used(own)
        text = f"{copy.key} (of {copy.owners}): {used.sum()} of {copy.dim} "
        text += "dimensions in use"
        if copy.key in order:
            text += f", {order[copy.key]:.1f} nats per cell"
        text += "."
        if genes.get(copy.key):
            said_so = genes[copy.key].replace(" | and ", "; and ")  # ... 2 more dimensions
            text += f" First genes: {said_so.replace(' | ', '; next dimension: ')}."
        name = result.first_label
        if name is not None:
            labels = result.column(name)[own.own_n]
            text += " " + where_it_varies(own.values[:, used], labels, name)
        yield text.strip()


def where_it_varies(values_nk: np.ndarray, labels: pd.Series, name: str) -> str:
    """Say in which labels a latent varies: between them, or within all or some of them.

    The share of variance between labels is the mean over dimensions of the correlation ratio
    (eta squared, Fisher 1925).

    Parameters
    ----------
    values_nk
        Dimensions in use of a latent.
    labels
        Of the same cells.
    name
        What labels are called.

    Examples
    --------
    >>> labels = pd.Series(["a"] * 20 + ["b"] * 20)
    >>> where_it_varies(np.tile([[0.0], [1.0]], (20, 1)), labels, "type")
    'It varies within labels of type, in all of them about alike.'
    """
    levels = Levels.of(labels)
    sizes = np.bincount(levels.code_n[levels.code_n >= 0], minlength=len(levels.names))
    told = np.flatnonzero(sizes >= FEW)
    if len(told) < 2:
        return ""
    kept = np.isin(levels.code_n, told)
    code_n, scaled_nk = levels.code_n[kept], values_nk[kept]
    scaled_nk = (scaled_nk - scaled_nk.mean(0)) / np.maximum(scaled_nk.std(0), 1e-12)
    mean_lk = np.stack([scaled_nk[code_n == code].mean(0) for code in told])
    within_l = np.array([scaled_nk[code_n == code].var(0).mean() for code in told])
    share = float((sizes[told] @ mean_lk**2 / len(code_n)).mean())
    names = [levels.names[code] for code in told]
    if share >= CLEAR:
        far = np.argsort(-(mean_lk**2).mean(1), kind="stable")[:3]
        text = f"{100 * share:.0f}\N{NO-BREAK SPACE}% of its variance lies between labels of {name}"
        return f"{text}; farthest from the rest: {', '.join(names[i] for i in far)}."
    wide = np.flatnonzero(within_l > 1.5 * np.median(within_l))
    wide = wide[np.argsort(-within_l[wide], kind="stable")][:3]
    if len(wide):
        return f"It varies within labels of {name}, most in {', '.join(names[i] for i in wide)}."
    return f"It varies within labels of {name}, in all of them about alike."


def _doubts(
    result: Result, said: FitSummary | None, probes: Sequence[Probe], found: Diagnosis | None
) -> Iterator[str]:
    """Yield what makes the findings doubtful."""
    if result.interrupted:
        yield "Training was interrupted."
    if said is not None:
        if said.converged is False:
            yield said.next_step
        elif said.converged is None and said.epochs:
            yield "There were too few epochs to tell whether training converged."
        yield from (f"{hint[0].upper()}{hint[1:]}." for hint in said.hints)
    keys = result.group_columns
    for probe in probes:
        if probe.copy.shared and probe.column in keys and probe.tells:
            of = "" if len(keys) == 1 else f" of {probe.column}"
            yield (
                f"{probe.copy.key} tells the groups{of} apart: they may hold different kinds of "
                "cells, or what belongs to one of them may be in it."
            )
    leaks = [
        f"{probe.copy.key} ({probe.column})"
        for probe in probes
        if not probe.copy.shared and probe.tells and probe.elsewhere and probe.column not in keys
    ]
    if leaks and found is None:
        yield (
            f"Private latents tell labels that the groups may share: {some(leaks, 8)}. What all "
            "groups have should be in a shared latent."
        )
