"""How well other trainings find the dimensions of a model again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pyro_mgvi.analysis.gene_effects.effects import owners
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import recovered
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
    which predict half of it or more.
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
        for dim in np.flatnonzero(np.isfinite(share_jd).all(0)):
            share_j = share_jd[:, dim]
            rows.append(
                {
                    "latent": copy.key,
                    "dimension": int(dim) + 1,
                    "mean_recovery": float(share_j.mean()),
                    "worst_recovery": float(share_j.min()),
                    "found_by": int((share_j >= FOUND).sum()),
                    "trainings": len(share_j),
                }
            )
    return pd.DataFrame(rows)


def in_words(table: pd.DataFrame) -> Iterator[str]:
    """Yield what an agreement says of each latent; nothing of an empty one.

    Examples
    --------
    >>> rows = [("t_a", 1, 0.9, 0.8, 3, 3), ("t_a", 2, 0.5, 0.4, 2, 3)]
    >>> names = ["latent", "dimension", "mean_recovery", "worst_recovery", "found_by", "trainings"]
    >>> print(*in_words(pd.DataFrame(rows, columns=names)))
    t_a: 3 other trainings recover 0.70 of a dimension (0.40 at worst); found by 3, 2 of 3
    """
    if not len(table):
        return
    for latent, rows in table.groupby("latent", sort=False):
        n = rows["trainings"].iloc[0]
        mean, worst = rows["mean_recovery"].mean(), rows["worst_recovery"].min()
        yield (
            f"{latent}: {n} other trainings recover {mean:.2f} of a dimension ({worst:.2f} at "
            f"worst); found by {', '.join(map(str, rows['found_by']))} of {n}"
        )
