"""How to train: a value that is saved with the model and used by every refit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pyro_mgvi.errors import SettingsError
from pyro_mgvi.training.search_settings import SearchSettings
from pyro_mgvi.training.validation import at_least, whole

CELLS, EPOCHS = (1400, 2800), (60, 20)  # so many epochs up to, and from, so many training cells


@dataclass(frozen=True)
class TrainingPlan:
    """How to train.

    Attributes
    ----------
    max_epochs
        Upper bound of passes over the training cells; by default 60 for up to 1,400
        training cells, falling to 20 for 2,800 or more.
    batch_size
        Cells per step.
    learning_rate
        Of Adam.
    validation_fraction
        Share of each group's cells held out for early stopping; 0 for none.
    patience
        Epochs without a better validation loss after which training stops; None for never.
    stratified
        Spread each group evenly over the minibatches.
    compiled
        Compile what pays; by default where training is long enough to earn back the seconds of
        the compiler. Without a compiler, or without need, the same is done uncompiled.
    prune_below
        Dimensions that say less than this about a cell (nats) are closed at the end.
    search
        When and how what gradients do not find is looked for: the groups' offsets are re-estimated
        within clusters of the shared latents, and idle dimensions restart at directions of genes
        that covary in the residuals. None for never.
    seed
        Of everything random in training; by default that of the model.

    Raises
    ------
    SettingsError
        If a value is out of range.

    Examples
    --------
    >>> TrainingPlan(max_epochs=10).batch_size
    128
    """

    max_epochs: int | None = None
    batch_size: int = 128
    learning_rate: float = 4e-3
    validation_fraction: float = 0.1
    patience: int | None = 15
    stratified: bool = False
    compiled: bool | None = None
    prune_below: float = 0.05
    search: SearchSettings | None = SearchSettings()
    seed: int | None = None

    def __post_init__(self) -> None:
        whole(self, "max_epochs", least=1, optional=True)
        whole(self, "patience", least=1, optional=True)
        whole(self, "seed", least=0, optional=True)
        whole(self, "batch_size", least=2)
        at_least(self, "learning_rate", 0.0, exclusive=True)
        at_least(self, "validation_fraction", 0.0)
        at_least(self, "prune_below", 0.0)
        if self.validation_fraction > 0.9:
            raise SettingsError(
                f"validation_fraction must be within 0 and 0.9, not {self.validation_fraction}"
            )
        if self.search is not None and not isinstance(self.search, SearchSettings):
            raise SettingsError(f"search must be SearchSettings(...) or None, not {self.search!r}")

    def resolved(self, n_cells: int, seed: int) -> TrainingPlan:
        """Return the plan with ``max_epochs`` and ``seed`` filled in.

        Parameters
        ----------
        n_cells
            Number of training cells.
        seed
            That of the model.

        Examples
        --------
        >>> [TrainingPlan().resolved(n, seed=0).max_epochs for n in (900, 2700, 90_000)]
        [60, 23, 20]
        """
        epochs = round(np.interp(n_cells, CELLS, EPOCHS))
        return replace(
            self,
            max_epochs=epochs if self.max_epochs is None else self.max_epochs,
            seed=seed if self.seed is None else self.seed,
        )

    @property
    def search_epoch(self) -> int | None:
        """Epoch of the search; None if there is none before the last epoch."""
        if self.search is None or self.max_epochs is None or self.search.epoch >= self.max_epochs:
            return None
        return self.search.epoch

    def step_size(self, epoch: int) -> float:
        """Return the factor of the learning rate in an epoch: half a cosine, or one and another.

        Small steps refine what is shared instead of fitting noise; a search sees the better for it
        what is missing.

        Examples
        --------
        >>> plan = TrainingPlan(max_epochs=30)
        >>> [round(plan.step_size(epoch), 2) for epoch in (0, 5, 9, 10, 20, 29)]
        [1.0, 0.5, 0.02, 1.0, 0.5, 0.01]
        """
        searched, last = self.search_epoch or 0, self.max_epochs or epoch + 1
        begin, end = (0, searched) if epoch < searched else (searched, last)
        return float(0.5 * (1 + np.cos(np.pi * (epoch - begin) / (end - begin))))


def chosen_plan(
    plan: TrainingPlan | None, max_epochs: int | None = None, default: TrainingPlan | None = None
) -> TrainingPlan:
    """Return a given plan, or the default one, with another number of epochs if that is given.

    Raises
    ------
    SettingsError
        If ``plan`` is none, or the number is out of range.
    """
    used = plan if plan is not None else default or TrainingPlan()
    if not isinstance(used, TrainingPlan):
        raise SettingsError(f"plan must be a TrainingPlan, not {plan!r}")
    return used if max_epochs is None else replace(used, max_epochs=max_epochs)
