"""A training that is of no use before it is finished, such as a refit."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from torch import Tensor

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.errors import TrainingInterrupted
from pyro_mgvi.training.plan import TrainingPlan
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.trainer import Trainer


def train(
    program: Program,
    data: GroupedCounts,
    plan: TrainingPlan,
    accelerator: str = "auto",
    progress: bool = True,
    copies: Mapping[str, Tensor] | None = None,
) -> pd.DataFrame:
    """Train a program and return the history of the losses; see :class:`Trainer`.

    A Ctrl-C is raised as KeyboardInterrupt: what is not finished is of no use.
    """
    trainer = Trainer(program, data, plan, accelerator, copies=copies)
    try:
        return trainer.run(progress)
    except TrainingInterrupted as interruption:
        raise KeyboardInterrupt(
            "training was interrupted; the model that it was for is as it was before"
        ) from interruption
