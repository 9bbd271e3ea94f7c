"""Model, guide and ELBO as one torch module, and what training notes of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
import torch
from torch import nn

from pyro_mgvi.core.elbo import WassersteinTraceELBO
from pyro_mgvi.core.sample_effects import EFFECT_TERMS
from pyro_mgvi.data import Minibatch
from pyro_mgvi.support.memory import reuse_freed_memory

NO_CELLS = {*EFFECT_TERMS, "decoder_prior"}  # terms that say nothing about held-out cells


class Objective(nn.Module):
    """A module whose forward pass is the loss of a minibatch, split by site."""

    def __init__(self, model: nn.Module, guide: nn.Module, elbo: WassersteinTraceELBO):
        super().__init__()
        self.model, self.guide, self.elbo = model, guide, elbo
        reuse_freed_memory()

    def forward(self, *minibatch: torch.Tensor | int | None) -> dict[str, torch.Tensor]:
        """Return the loss of each site for a minibatch."""
        # As plain functions: a Pyro module declares its parameters whenever they are looked up,
        # a seventh of what Python needs for a step, for handlers that are not there.
        return self.elbo.terms(self.model.forward, self.guide.forward, *minibatch)


class Best(TypedDict):
    """The epoch of the lowest loss, and its weights."""

    loss: float
    epoch: int
    weights: dict[str, torch.Tensor]


def of_held_out(
    objective: Objective, batches: Iterable[Minibatch], n_cells: int
) -> dict[str, torch.Tensor]:
    """Return the terms of the plain loss (equation 11) of held-out cells, a part of ``n_cells``.

    In nats per cell of all of them.
    """
    plain = Objective(objective.model, objective.guide, WassersteinTraceELBO())
    totals = dict[str, torch.Tensor]()
    for batch in batches:
        for name, term in plain(*batch).items():
            if name not in NO_CELLS:
                totals[name] = totals.get(name, 0.0) + term / n_cells
    return totals


def columns(prefix: str, terms: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the terms of a loss and their sum, as columns of the history."""
    values = {f"{prefix}_{name}": float(term) for name, term in terms.items()}
    return {prefix: sum(values.values()), **values}


def _numbers(history: pd.DataFrame) -> pd.Series:
    """Return of which training each epoch is, from 1; a history of one's own is of one."""
    return history.get("training", pd.Series(1, history.index))


def last_training(history: pd.DataFrame) -> np.ndarray:
    """Return which epochs are of the last training, boolean.

    Examples
    --------
    >>> last_training(pd.DataFrame({"epoch": [1, 2, 3], "training": [1, 2, 2]})).tolist()
    [False, True, True]
    """
    number_e = _numbers(history).to_numpy()
    return np.asarray(number_e == number_e.max())


def continued(earlier: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return the histories of two trainings as one; the weights are those of the last."""
    if not len(earlier) or not len(new):
        return new if len(new) else earlier
    earlier = earlier.assign(training=_numbers(earlier))
    number = new["training"] + earlier["training"].max()
    new = new.assign(epoch=new["epoch"] + earlier["epoch"].max(), training=number)
    return pd.concat([earlier.assign(kept=False), new], ignore_index=True)


def what_is_kept(n_epochs: int, most: int, best: int, checkpoint: Path | None) -> str:
    """Return what to tell a user who has interrupted training."""
    if n_epochs == 0:
        return "training was interrupted in its first epoch: the model is as it was before"
    message = (
        f"training was interrupted after {n_epochs} of at most {most} epochs: the model has its "
        f"best weights so far, those of epoch {best}, and dimensions that say nothing are closed"
    )
    if checkpoint is None:
        return message
    return f"{message}; to go on, train again with checkpoint={str(checkpoint)!r}"


def not_finite(
    terms: dict[str, torch.Tensor], broken: list[str], where: str, learning_rate: float
) -> str:
    """Return what to tell a user whose loss is not finite, ``where`` in training it was."""
    bad = [name for name, term in terms.items() if not torch.isfinite(term)]
    loss = sum(float(term) for term in terms.values())
    cause = f"the term(s) of {bad} are not finite"
    if broken:
        cause += f", because the weights {broken[:3]} no longer are"
    return (
        f"the loss became {loss} in {where}: {cause}. Lower learning_rate (now {learning_rate:g}), "
        "or look for cells or genes with extreme counts. The best weights so far are kept."
    )
