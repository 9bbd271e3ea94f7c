"""How to train: a value that is saved with the model and used by every refit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from pyro_mgvi.errors import SettingsError
from pyro_mgvi.support.values import at_least, switch, whole

EPOCHS = 60  # by default


@dataclass(frozen=True)
class SearchSettings:
    """What is done once in training beside gradient steps, and by which thresholds.

    Attributes
    ----------
    epoch
        After how many epochs the search takes place. The learning rate decays to zero at this
        epoch, restarts, and decays to zero at the last.
    hand_over
        After how many epochs dimensions of shared latents that some groups alone use are handed to
        these groups' own copy.
    idle
        A dimension that says less about a cell (nats) may be started at a direction, and is
        closed if it belongs to some groups only.
    max_cells
        Cells of each group that are looked at, at most.
    max_residuals
        Residuals kept in memory, over all groups.
    largest_residual
        Residuals are cut off here (standard deviations).
    max_genes
        Genes that are searched, at most: those in which a change shows best.
    least_cells
        Cells of a group, at least, for it to be searched.
    least_genes
        Genes of a direction, at least.
    margin
        Pairs of genes above this share of the threshold are tested exactly.
    max_pairs
        Pairs tested exactly, at most.
    refinements
        Rounds in which a direction is refined by all genes that follow it.
    dead
        A group whose cells vary so many times less along a shared dimension than those of the group
        that uses it most does not use it.
    same_score
        A direction of some groups whose scores correlate more than this with those of a shared
        one is the shared one.
    same_genes
        Directions that share more than this fraction of genes count as the same.
    echo
        A dimension of fewer modalities repeats what latents of more hold if these foretell a larger
        share of its variance.
    start_cells
        Cells from which an encoder's start is computed.
    clusters
        Clusters of the shared latents, within which the groups' offsets are compared.

    Raises
    ------
    SettingsError
        If a value is out of range.
    """

    epoch: int = 10
    hand_over: int = 20
    idle: float = 0.5
    max_cells: int = 4000
    max_residuals: float = 5e7
    largest_residual: float = 10.0
    max_genes: int = 6000
    least_cells: int = 100
    least_genes: int = 3
    margin: float = 0.8
    max_pairs: int = 20_000
    refinements: int = 5
    dead: float = 4.0
    same_score: float = 0.95
    same_genes: float = 0.5
    echo: float = 0.5
    start_cells: int = 2000
    clusters: int = 10

    def __post_init__(self) -> None:
        counts = (
            "epoch",
            "hand_over",
            "max_cells",
            "max_genes",
            "least_cells",
            "least_genes",
            "max_pairs",
        )
        for name in (*counts, "refinements", "start_cells", "clusters"):
            whole(self, name, least=1)
        for name in ("idle", "max_residuals", "largest_residual", "margin", "same_score"):
            at_least(self, name, 0.0)
        at_least(self, "same_genes", 0.0)
        at_least(self, "echo", 0.0)
        at_least(self, "dead", 1.0)


@dataclass(frozen=True)
class TrainingPlan:
    """How to train.

    Attributes
    ----------
    max_epochs
        Upper bound of passes over the training cells; 60 by default.
    batch_size
        Cells per step.
    learning_rate
        Of Adam.
    validation_fraction
        Share of each group's cells held out for early stopping; 0 for none.
    patience
        Epochs without a better validation loss after which training stops; None for never.
    hurry
        How many epochs of the plan pass in one while the validation loss is flat after the search
        (:class:`~pyro_mgvi.training.clock.Clock`): with many cells training is over sooner. 1 to
        follow ``max_epochs`` to the letter.
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
    hurry: float = 8.0
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
        at_least(self, "hurry", 1.0)
        switch(self, "stratified")
        switch(self, "compiled", optional=True)
        if self.validation_fraction > 0.9:
            raise SettingsError(
                f"validation_fraction must be within 0 and 0.9, not {self.validation_fraction}"
            )
        if self.search is not None and not isinstance(self.search, SearchSettings):
            raise SettingsError(f"search must be SearchSettings(...) or None, not {self.search!r}")

    def resolved(self, seed: int) -> Self:
        """Return the plan with ``max_epochs`` and ``seed`` filled in.

        Parameters
        ----------
        seed
            That of the model.

        Examples
        --------
        >>> plan = TrainingPlan().resolved(seed=3)
        >>> plan.max_epochs, plan.seed
        (60, 3)
        """
        return replace(
            self,
            max_epochs=EPOCHS if self.max_epochs is None else self.max_epochs,
            seed=seed if self.seed is None else self.seed,
        )

    @property
    def search_epoch(self) -> int | None:
        """Epoch of the search; None if there is none before the last epoch."""
        if self.search is None or self.max_epochs is None or self.search.epoch >= self.max_epochs:
            return None
        return self.search.epoch

    @property
    def hand_over_epoch(self) -> int | None:
        """Epoch at which dimensions are handed over; None if there is none before the last."""
        if self.search_epoch is None or self.search is None or self.max_epochs is None:
            return None
        return self.search.hand_over if self.search.hand_over < self.max_epochs else None

    def step_size(self, epoch: float) -> float:
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
        passed = min(1.0, (epoch - begin) / (end - begin))
        return float(0.5 * (1 + np.cos(np.pi * passed)))


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
