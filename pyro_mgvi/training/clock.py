"""The time of the schedule: it runs faster where the validation loss no longer falls."""

from __future__ import annotations

from collections.abc import Sequence

from pyro_mgvi.training.plan import TrainingPlan

WINDOW = 90  # steps over which the loss has to fall
FLAT = 6e-4  # by less than this share of it, it does not fall


class Clock:
    """Which epoch of the plan it is: at least the number of epochs that have passed.

    Many cells make many steps an epoch, and the loss is flat long before the plan's last epoch. The
    schedule then hurries on to its small steps, and training is over sooner. (To keep large steps
    until the loss is flat, and then let them shrink, ended 0.2 and 1 % higher on two data sets:
    benchmarks/notes/RESULTS_convergence.md.)

    Parameters
    ----------
    plan
        With its number of epochs.
    n_steps
        Steps of an epoch.

    Attributes
    ----------
    now
        Epochs of the plan that have passed, or been passed over.

    Examples
    --------
    >>> clock = Clock(TrainingPlan(max_epochs=20, search=None), n_steps=150)
    >>> for loss in (9.0, 8.0, 8.0):
    ...     clock.tick([9.0, loss])
    >>> clock.now
    10.0
    """

    def __init__(self, plan: TrainingPlan, n_steps: int):
        self.plan, self.window = plan, max(1, round(WINDOW / n_steps))
        self.now = 0.0

    def tick(self, losses: Sequence[float]) -> None:
        """Let an epoch pass: ``losses`` are those of all epochs so far."""
        since_search = losses[self.plan.search_epoch or 0 :]
        flat = False
        if len(since_search) > self.window:
            before, last = since_search[-1 - self.window], since_search[-1]
            flat = before - last < FLAT * abs(last)
        self.now += self.plan.hurry if flat else 1.0

    @property
    def over(self) -> bool:
        """Whether the plan's last epoch has passed."""
        return self.plan.max_epochs is not None and self.now >= self.plan.max_epochs

    def step_size(self, _epoch: int) -> float:
        """Return the factor of the learning rate now."""
        return self.plan.step_size(self.now)
