"""How well other trainings find the dimensions of a model again."""

from __future__ import annotations

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
