"""The training loop: one torch optimiser under Lightning Fabric, early stopping, resume."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyro
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_mgvi.data import GroupedCounts, Minibatch
from pyro_mgvi.errors import SettingsError, TrainingError, TrainingInterrupted
from pyro_mgvi.kernels.compiled import compilation
from pyro_mgvi.kernels.exclusive import exclusive, fast_small_numbers
from pyro_mgvi.support.undisturbed import undisturbed
from pyro_mgvi.training.checkpoint import Checkpoint, equal_on_all_ranks
from pyro_mgvi.training.clock import Clock
from pyro_mgvi.training.devices.ranks import Ranks
from pyro_mgvi.training.objective import (
    Best,
    Objective,
    columns,
    not_finite,
    of_held_out,
    what_is_kept,
)
from pyro_mgvi.training.plan import TrainingPlan
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.setup import TrainingSetup


class Trainer:
    """Trains one program on one dataset, and can be interrupted and resumed.

    Parameters
    ----------
    program
        What to train. Validation always uses the plain objective (equation 11).
    data
        All cells; some are held out as ``plan`` says.
    plan
        How to train.
    accelerator
        Where to train: ``"cpu"``, ``"gpu"``, ``"cuda:1"``; or ``"auto"``: where the program is or,
        if that is the CPU, on a GPU if there is one. The program stays there.
    checkpoint
        Folder to which the state is written after each epoch, and from which it is resumed.
    copies
        Copies of each latent, boolean (S,), that may be searched for and pruned; all by default.
    resume
        Go on from the state in ``checkpoint``, if there is one, or refuse to.

    Notes
    -----
    Of several processes (:class:`~pyro_mgvi.training.devices.ranks.Ranks`) each takes its part of
    every minibatch; the first searches, prunes, reports and writes.
    """

    def __init__(
        self,
        program: Program,
        data: GroupedCounts,
        plan: TrainingPlan,
        accelerator: str = "auto",
        checkpoint: str | Path | None = None,
        copies: Mapping[str, Tensor] | None = None,
        resume: bool = True,
    ):
        program.check_usable()
        self.ranks = Ranks(accelerator, program.device)
        self.fabric = self.ranks.fabric
        self.setup = TrainingSetup(program, data, plan, copies)
        self.setup.divide(self.ranks.rank, self.ranks.number)
        if self.ranks.several:
            self.ranks.check_same(equal_on_all_ranks(self.setup))
        objective = Objective(program.model, program.guide, self.setup.elbo)
        if not any(weight.requires_grad for weight in objective.parameters()):
            raise SettingsError(
                "no weight can change: call requires_grad_(True) of mgvi.model or mgvi.guide"
            )
        rate = self.setup.plan.learning_rate
        adam = torch.optim.Adam(objective.parameters(), lr=rate, fused=True)
        self.objective, self.optimizer = self.fabric.setup(objective, adam)
        self.on_cpu = self.fabric.device.type == "cpu"
        self.waits = self.on_cpu and not self.ranks.several
        self.sparse = self.setup.data.mostly_zero and self.on_cpu
        self.clock = Clock(self.setup.plan, self.setup.n_steps)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(adam, self.clock.step_size)
        kept = checkpoint
        self.checkpoint = None if kept is None else Checkpoint(kept, self.setup, resume)
        self.history: list[dict[str, float]] = []
        self.n_resumed = 0  # last epochs of the program's history that a checkpoint brings again
        self.interrupted = False
        self.name = "training"  # of the progress bar
        self._keep(float("inf"), 0)
        self.before_change = self.best

    def run(self, progress: bool = True) -> pd.DataFrame:
        """Train, restore the best weights and return the history, one row per epoch.

        All losses are nats per cell. ``train`` is the weighted objective, ``validation`` the
        plain one; ``train_<site>`` and ``validation_<site>`` are their parts. ``training`` counts
        the trainings of a model; ``kept`` tells the epoch whose weights it has.

        Raises
        ------
        TrainingError
            If a loss is not finite, with the sites at fault; the best weights are restored.
        TrainingInterrupted
            After a Ctrl-C: the best weights are restored and pruned, as a finished run's.
        """
        if (state := self.ranks.told(self._kept_state)) is not None:
            self._resume(state)
        bar = tqdm(
            range(len(self.history), self.setup.max_epochs),
            initial=len(self.history),
            total=self.setup.max_epochs,
            desc=self.name,
            unit="epoch",
            disable=not (progress and self.ranks.first),
        )
        try:
            # Fork the generators: the caller's random state stays as it was.
            with (
                fast_small_numbers(),
                self.ranks.together(),
                exclusive(),
                pyro.settings.context(module_local_params=True),
                compilation(self.setup.compiles),
                torch.enable_grad(),
            ):
                if not self.history and self.ranks.decided(self.setup.start, self.objective):
                    self._keep(float("inf"), 0)
                for epoch in bar:
                    if self.clock.over or self._converged(epoch):  # so may a checkpoint's be
                        break
                    self._epoch(epoch)
                    bar.set_postfix(loss=f"{self.history[-1][self.monitored]:.2f}")
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            bar.close()
            self.interrupted |= undisturbed(self._restore_best)
        if self.history:  # without, there is nothing to prune by
            finish = partial(self.setup.finish, progress)
            if not self.interrupted:  # then, nobody waits for others
                finish = partial(self.ranks.decided, finish, self.objective)
            self.interrupted |= undisturbed(finish)
        if self.interrupted:
            folder = None if self.checkpoint is None else self.checkpoint.folder
            n_epochs, most = len(self.history), self.setup.max_epochs
            raise TrainingInterrupted(what_is_kept(n_epochs, most, self.best["epoch"], folder))
        return self.table()

    def table(self) -> pd.DataFrame:
        """Return the history so far."""
        table = pd.DataFrame(self.history)
        if len(table):
            table = table.assign(training=1, kept=table["epoch"] == self.best["epoch"])
        return table

    def step(self, batch: Minibatch, n: int, planted: bool = False) -> dict[str, Tensor]:
        """Take one step, the ``n``-th of its epoch from 0, and return the terms of its loss.

        With ``planted``, the encoders alone: they first learn to tell what the decoder knows.
        """
        with pyro.validation_enabled(n == len(self.history) == 0):
            terms: dict[str, Tensor] = self.objective(*batch)
        loss: Any = sum(terms.values()) / len(self.setup.data)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        passed = {name: term.detach() for name, term in terms.items()}
        if self.waits and not torch.isfinite(loss):
            raise TrainingError(self._fault(passed, n))
        if planted:
            for weight in self.objective.model.parameters():
                weight.grad = None
        self.optimizer.step()
        return passed

    @property
    def monitored(self) -> str:
        """Column of the history that decides which weights are best."""
        return "train" if self.setup.validation is None else "validation"

    def _epoch(self, epoch: int) -> None:
        planted = self._begin(epoch)
        self.setup.train()
        totals: dict[str, Tensor] = {}
        passed: list[dict[str, Tensor]] = []
        for n, batch in enumerate(self.setup.minibatches(epoch, keep_sparse=self.sparse)):
            assert batch.n_cells is not None  # in training
            passed.append(self.step(batch, n, planted))
            weight = len(batch.group) / (batch.n_cells * len(self.setup.data))
            for name, term in passed[-1].items():
                totals[name] = totals.get(name, 0.0) + term * weight
        self._check(passed)
        row: dict[str, float] = {"epoch": epoch + 1, **columns("train", self.ranks.summed(totals))}
        if self.setup.validation is not None:
            row |= columns("validation", self._validate())
        self.history.append(row)
        self.clock.tick([each[self.monitored] for each in self.history])
        self.schedule.step()
        if row[self.monitored] < self.best["loss"]:
            self._keep(row[self.monitored], epoch + 1)
        if self.checkpoint is not None and self.ranks.first:
            self.checkpoint.write(self._state())

    def _begin(self, epoch: int) -> bool:
        seed, plan = self.setup.seeds(epoch)[0], self.setup.plan
        torch.manual_seed(seed)
        changed, searched = False, epoch == plan.search_epoch
        if epoch in (plan.search_epoch, plan.hand_over_epoch):
            changed = self.ranks.decided(partial(self.setup.change, epoch), self.objective)
        if self.ranks.several:
            torch.manual_seed(seed + self.ranks.rank)
        if searched or changed:
            self.before_change = self.best
            self._keep(float("inf"), epoch)  # what was best before it is past
        return changed

    @torch.no_grad()
    def _validate(self) -> dict[str, torch.Tensor]:
        self.objective.eval()
        torch.manual_seed(self.ranks.rank)  # the same noise every time: losses of epochs compare
        with pyro.validation_enabled(False):
            batches = self.setup.held_out(1024, self.sparse)
            n_cells = len(self.setup.validation or ())
            return self.ranks.summed(of_held_out(self.objective.module, batches, n_cells))

    def _converged(self, n_epochs: int) -> bool:
        patience = self.setup.plan.patience
        return patience is not None and n_epochs - self.best["epoch"] >= patience

    def _keep(self, loss: float, epoch: int) -> None:
        weights = {k: v.detach().clone() for k, v in self.objective.state_dict().items()}
        self.best: Best = {"loss": loss, "epoch": epoch, "weights": weights}

    def _restore_best(self) -> None:
        if self.best["loss"] == float("inf"):  # the epoch of the change was not finished
            self.best = self.before_change
        self.objective.load_state_dict(self.best["weights"])
        self.objective.eval()

    def _check(self, passed: list[dict[str, Tensor]]) -> None:
        """Stop if a loss was not finite: a GPU and other ranks are asked after the epoch."""
        if self.waits:
            return
        losses = [torch.stack([*terms.values()]).sum() for terms in passed]
        finite = torch.stack(losses).isfinite().tolist()
        step = [*finite, False].index(False)
        fault = self._fault(passed[step], step) if step < len(passed) else ""
        _, first = min(self.ranks.gathered((step, fault)))
        if first:  # all stop, if one has to
            raise TrainingError(first)
        self.ranks.check_equal(self.objective)

    def _fault(self, terms: dict[str, Tensor], step: int) -> str:
        named = [] if not self.waits else [*self.objective.named_parameters()]  # or broken by now
        broken = [name for name, weight in named if not weight.isfinite().all()]
        where = f"epoch {len(self.history) + 1}, step {step + 1}"
        return not_finite(terms, broken, where, self.setup.plan.learning_rate)

    def _kept_state(self) -> dict[str, Any] | None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return None
        return self.checkpoint.read(torch.device("cpu"))

    def _state(self) -> dict[str, Any]:
        return {
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "clock": self.clock.now,
            "history": self.history,
            "best": self.best,
        }

    def _resume(self, state: dict[str, Any]) -> None:
        assert self.checkpoint is not None  # which has brought the state
        try:
            self.objective.load_state_dict(state["objective"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.clock.now = float(state["clock"])
            self.history, self.best = list(state["history"]), deepcopy(state["best"])
        except Exception as error:
            self._restore_best()
            raise SettingsError(
                f"the checkpoint does not fit this version of the model ({error!r}): delete it to "
                "begin anew"
            ) from error
        self.n_resumed = self.checkpoint.n_known(state)
