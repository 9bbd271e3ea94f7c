"""How well other trainings find the dimensions of a model again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pyro_mgvi.analysis.gene_effects.effects import owners
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import in_use, recovered
from pyro_mgvi.analysis.several.trainings import LEAST, Others
from pyro_mgvi.training.program import Program

FOUND = 0.5  # share of a dimension's variance that a training predicts which has found it


def agreement(program: Program, others: Others) -> pd.DataFrame:
    """Return how well the other trainings find each dimension of a trained program again.

    Parameters
    ----------
    program
        What was trained last.
    others
        The trainings before.

    Returns
    -------
    A row for each dimension in use: ``latent``; ``dimension``, from 1; ``mean_recovery`` and
    ``worst_recovery``, which share of its variance the same latent of another training predicts on
    unseen cells (:func:`~pyro_mgvi.metrics.recovered`); ``found_by`` how many of the ``trainings``,
    which predict half of it or more; and ``held``, how many dimensions of the latent these have in
    use, in words. A latent that is empty has a row with dimension 0 if another training holds some.
    """
    found = latent_values(program, others.cells)
    rows = []
    for copy in program.families.copies:
        own = owners(program, others.cells, copy)
        if len(own) < LEAST:
            continue
        share_jd = np.array(
            [recovered(found[copy.key][own], each.latents[copy.key][own]) for each in others.told]
        )
        held = [int(in_use(each.latents[copy.key][own]).sum()) for each in others.told]
        common = {"trainings": len(held), "held": ", ".join(map(str, held))}
        used = np.flatnonzero(np.isfinite(share_jd).all(0))
        if not len(used) and any(held):
            nothing = {"mean_recovery": np.nan, "worst_recovery": np.nan, "found_by": 0}
            rows.append({"latent": copy.key, "dimension": 0} | nothing | common)
        for dim in used:
            share_j = share_jd[:, dim]
            row = {
                "latent": copy.key,
                "dimension": int(dim) + 1,
                "mean_recovery": float(share_j.mean()),
                "worst_recovery": float(share_j.min()),
                "found_by": int((share_j >= FOUND).sum()),
            }
            rows.append(row | common)
    return pd.DataFrame(rows)


def in_words(table: pd.DataFrame) -> Iterator[str]:
    r"""Yield what an agreement says of each latent; nothing of an empty one.

    Examples
    --------
    >>> of_a = {"latent": "t_a", "trainings": 3, "held": "2, 2, 1"}
    >>> rows = [
    ...     of_a | {"dimension": 1, "mean_recovery": 0.9, "worst_recovery": 0.8, "found_by": 3},
    ...     of_a | {"dimension": 2, "mean_recovery": 0.5, "worst_recovery": 0.4, "found_by": 2},
    ...     {"latent": "t_b", "trainings": 3, "held": "0, 1, 0", "dimension": 0, "found_by": 0},
    ... ]
    >>> print(*in_words(pd.DataFrame(rows)), sep="\n")
    t_a: 3 other trainings recover 0.70 of a dimension (0.40 at worst); found by 3, 2 of 3
    t_b: empty; the other trainings have 0, 1, 0 dimensions in use, and do not agree on them
    """
    if not len(table):
        return
    for latent, rows in table.groupby("latent", sort=False):
        n, held = rows["trainings"].iloc[0], rows["held"].iloc[0]
        if not rows["dimension"].iloc[0]:
            yield (
                f"{latent}: empty; the other trainings have {held} dimensions in use, and do not "
                "agree on them"
            )
            continue
        mean, worst = rows["mean_recovery"].mean(), rows["worst_recovery"].min()
        yield (
            f"{latent}: {n} other trainings recover {mean:.2f} of a dimension ({worst:.2f} at "
            f"worst); found by {', '.join(map(str, rows['found_by']))} of {n}"
        )
