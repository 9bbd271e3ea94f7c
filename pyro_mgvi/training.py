"""The training loop: one torch optimiser under Lightning Fabric, early stopping, resume."""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import torch
from lightning_fabric import Fabric
from torch import nn
from tqdm.auto import tqdm

from pyro_mgvi.compiled import compilation
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.elbo import WassersteinTraceELBO
from pyro_mgvi.errors import SettingsError, TrainingError
from pyro_mgvi.planting import start_anew
from pyro_mgvi.relevance import prune, use_all

CELLS, EPOCHS = (1400, 2800), (60, 20)  # so many epochs up to, and from, so many training cells
COMPILE_FROM = 3e8  # counts seen in training; about 10 seconds are saved


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
    balanced
        Spread each group evenly over the minibatches.
    compiled
        Compile what pays; by default where training is long enough to earn back the seconds of
        the compiler. Without a compiler, or without need, the same is done uncompiled.
    relevance
        Dimensions that say less than this about a cell (nats) are taken out of use at the end.
    search_after
        Epochs after which the groups' offsets are set to differences within clusters of the shared
        latents (:mod:`pyro_mgvi.offsets`), and idle dimensions are started at directions of genes
        that covary and that the model has not got (:mod:`pyro_mgvi.directions`); those of latents
        of some groups are taken out of use if there is no such direction. Steps shrink to nothing
        up to then, and once more up to the end. None for never.
    seed
        Of everything random in training.

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
    balanced: bool = False
    compiled: bool | None = None
    relevance: float = 0.05
    search_after: int | None = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("max_epochs", "learning_rate", "patience", "search_after"):
            value = getattr(self, field)
            if value is not None and not value > 0:
                raise SettingsError(f"{field} must be positive, not {value}")

    def for_cells(self, n_cells: int) -> TrainingPlan:
        """Return the plan with ``max_epochs`` filled in for so many training cells.

        Examples
        --------
        >>> [TrainingPlan().for_cells(n).max_epochs for n in (900, 2700, 90_000)]
        [60, 23, 20]
        """
        if self.max_epochs is not None:
            return self
        return replace(self, max_epochs=round(np.interp(n_cells, CELLS, EPOCHS)))

    def step_size(self, epoch: int) -> float:
        """Return the factor of the learning rate in an epoch: half a cosine, or one and another.

        Small steps refine what is shared instead of fitting noise; a search sees the better for it
        what is missing.

        Examples
        --------
        >>> plan = TrainingPlan(max_epochs=30, search_after=10)
        >>> [round(plan.step_size(epoch), 2) for epoch in (0, 5, 9, 10, 20, 29)]
        [1.0, 0.5, 0.02, 1.0, 0.5, 0.01]
        """
        searched = self.search_after or 0
        if searched >= self.max_epochs:  # never
            searched = 0
        begin, end = (0, searched) if epoch < searched else (searched, self.max_epochs)
        return float(0.5 * (1 + np.cos(np.pi * (epoch - begin) / (end - begin))))


class Objective(nn.Module):
    """Model, guide and ELBO as one module whose forward pass is the loss, split by site."""

    def __init__(self, model: nn.Module, guide: nn.Module, elbo: WassersteinTraceELBO):
        super().__init__()
        self.model, self.guide, self.elbo = model, guide, elbo

    def forward(self, *minibatch) -> dict[str, torch.Tensor]:
        """Return the loss of each site for a minibatch."""
        # As plain functions: a Pyro module declares its parameters whenever they are looked up,
        # a seventh of what Python needs for a step, for handlers that are not there.
        return self.elbo.terms(self.model.forward, self.guide.forward, *minibatch)


class Trainer:
    """Trains one model on one dataset, and can be interrupted and resumed.

    Parameters
    ----------
    model, guide, elbo
        What to train. Validation always uses the plain objective (equation 11).
    data
        All cells; some are held out as ``plan`` says.
    plan
        How to train.
    accelerator
        For :class:`lightning_fabric.Fabric`, such as ``"cpu"``, ``"gpu"`` or ``"auto"``.
    checkpoint
        File to which the state is written after each epoch, and from which it is resumed.
    copies
        Copies of each latent, boolean (S,), whose dimensions are switched on and off by
        ``plan.relevance``; all by default.
    """

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        elbo: WassersteinTraceELBO,
        data: GroupedCounts,
        plan: TrainingPlan,
        accelerator: str = "cpu",
        checkpoint: str | Path | None = None,
        copies: dict[str, torch.Tensor] | None = None,
    ):
        self.copies = copies
        train, held_out = data.split(plan.validation_fraction, plan.seed)
        if plan.batch_size < 2:
            raise SettingsError(f"batch_size must be at least 2, not {plan.batch_size}")
        self.plan = plan = plan.for_cells(len(train))
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        data = data.unpacked()
        self.data = data.view(train)
        self.validation = data.view(held_out) if len(held_out) else None
        model.n_cells = guide.n_cells = len(train)
        self.plain = WassersteinTraceELBO()
        self.fabric = Fabric(accelerator=accelerator, devices=1)
        objective = Objective(model, guide, elbo)
        adam = torch.optim.Adam(objective.parameters(), lr=plan.learning_rate, fused=True)
        self.objective, self.optimizer = self.fabric.setup(objective, adam)
        self.sparse = data.mostly_zero and self.fabric.device.type == "cpu"
        self.schedule = torch.optim.lr_scheduler.LambdaLR(adam, plan.step_size)
        self.history: list[dict] = []
        self._keep(float("inf"), 0)

    def run(self, progress: bool = True) -> pd.DataFrame:
        """Train, restore the best weights and return the history, one row per epoch.

        All losses are nats per cell. ``train`` is the weighted objective, ``validation`` the
        plain one; ``train_<site>`` and ``validation_<site>`` are their parts.

        Raises
        ------
        TrainingError
            If a loss is not finite, with the sites at fault; the best weights are restored.
        """
        use_all(self.objective.model, self.objective.guide, self.copies)
        if self.checkpoint is not None and self.checkpoint.exists():
            self._resume()
        bar = tqdm(
            range(len(self.history), self.plan.max_epochs),
            initial=len(self.history),
            total=self.plan.max_epochs,
            desc="training",
            unit="epoch",
            disable=not progress,
        )
        flushed = float(torch.tensor(1e-38) / 100) == 0.0
        validated = torch.distributions.Distribution._validate_args  # Pyro restores its own only
        # Weights of idle dimensions shrink towards zero; denormal numbers are 20 times slower.
        torch.set_flush_denormal(True)
        try:
            # Fork the generators: the caller's random state stays as it was.
            with (
                torch.random.fork_rng(),
                pyro.settings.context(module_local_params=True),
                compilation(self._compile()),
            ):
                for epoch in bar:
                    self._epoch(epoch)
                    bar.set_postfix(loss=f"{self.history[-1][self.monitored]:.2f}")
                    if self._converged(epoch):
                        break
        finally:
            torch.set_flush_denormal(flushed)
            torch.distributions.Distribution.set_default_validate_args(validated)
            bar.close()
            self._restore_best()
        model, guide = self.objective.model, self.objective.guide
        prune(model, guide, self.data, self.plan.relevance, self.copies)
        return pd.DataFrame(self.history)

    def _compile(self) -> bool:
        """Return whether compiling pays: it saves some 50 ns per count of each epoch."""
        if self.plan.compiled is not None:
            return self.plan.compiled
        n_counts = float(len(self.data)) * self.data.x.shape[1]
        return n_counts * self.plan.max_epochs > COMPILE_FROM

    @property
    def monitored(self) -> str:
        """Column of the history that decides which weights are best."""
        return "train" if self.validation is None else "validation"

    def _epoch(self, epoch: int) -> None:
        # Every epoch has seeds of its own, so that a resumed run repeats an uninterrupted one.
        seeds = np.random.SeedSequence([self.plan.seed, epoch]).generate_state(2)
        torch.manual_seed(int(seeds[0]))
        model, guide = self.objective.model, self.objective.guide
        planted = False
        if epoch == self.plan.search_after:
            with pyro.validation_enabled(False):
                planted = start_anew(model, guide, self.data, self.copies, self.plan.seed)
            self._keep(float("inf"), epoch)  # what was best before it is past
        self.objective.train()
        batches = self.data.minibatches(
            self.plan.batch_size, int(seeds[1]), self.plan.balanced, keep_sparse=self.sparse
        )
        totals: dict[str, torch.Tensor] = {}
        for step, batch in enumerate(batches):
            batch = batch.to(self.fabric.device)
            with pyro.validation_enabled(epoch == step == 0):
                terms = self.objective(*batch)
            loss = sum(terms.values()) / len(self.data)
            self.optimizer.zero_grad()
            self.fabric.backward(loss)
            if not torch.isfinite(loss):
                self._stop(terms, epoch, step)
            if planted:  # the encoders first learn to tell what the decoder already knows
                for weight in model.parameters():
                    weight.grad = None
            self.optimizer.step()
            for name, term in terms.items():
                weight = len(batch.group) / len(self.data) ** 2
                totals[name] = totals.get(name, 0.0) + term.detach() * weight
        self.schedule.step()
        row = {"epoch": epoch + 1, **_columns("train", totals)}
        if self.validation is not None:
            row |= _columns("validation", self._validate())
        self.history.append(row)
        if row[self.monitored] < self.best["loss"]:
            self._keep(row[self.monitored], epoch + 1)
        if self.checkpoint is not None:
            self._save()

    @torch.no_grad()
    def _validate(self) -> dict[str, torch.Tensor]:
        self.objective.eval()
        torch.manual_seed(0)  # the same noise every time: losses of two epochs compare
        totals: dict[str, torch.Tensor] = {}
        module = self.objective.module
        with pyro.validation_enabled(False):
            for batch in self.validation.minibatches(1024, shuffle=False, keep_sparse=self.sparse):
                terms = self.plain.terms(module.model, module.guide, *batch.to(self.fabric.device))
                terms.pop("decoder_prior", None)  # says nothing about held-out cells
                for name, term in terms.items():
                    totals[name] = totals.get(name, 0.0) + term / len(self.validation)
        return totals

    def _converged(self, epoch: int) -> bool:
        patience = self.plan.patience
        return patience is not None and epoch + 1 - self.best["epoch"] >= patience

    def _keep(self, loss: float, epoch: int) -> None:
        weights = {k: v.detach().clone() for k, v in self.objective.state_dict().items()}
        self.best = {"loss": loss, "epoch": epoch, "weights": weights}

    def _restore_best(self) -> None:
        self.objective.load_state_dict(self.best["weights"])
        self.objective.eval()

    def _stop(self, terms: dict, epoch: int, step: int) -> None:
        bad = [name for name, term in terms.items() if not torch.isfinite(term)]
        broken = [k for k, v in self.objective.named_parameters() if not v.isfinite().all()]
        cause = f"the term(s) of {bad} are not finite"
        if broken:
            cause += f", because the weights {broken[:3]} no longer are"
        raise TrainingError(
            f"the loss became {sum(terms.values()).item()} in epoch {epoch + 1}, step {step + 1}: "
            f"{cause}. Lower learning_rate (now {self.plan.learning_rate:g}), or look for cells "
            "or genes with extreme counts. The best weights so far are kept."
        )

    def _save(self) -> None:
        state = {
            "plan": asdict(self.plan),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": self.history,
            "best": self.best,
        }
        partial = self.checkpoint.with_name(self.checkpoint.name + ".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.fabric.device, weights_only=True)
        ours, theirs = asdict(self.plan), state["plan"]
        differ = [k for k in ours if ours[k] != theirs.get(k) and k != "patience"]
        if differ:
            raise SettingsError(
                f"checkpoint {self.checkpoint} is of a run with other settings ({differ}): "
                "delete it, or train with the same settings"
            )
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.history, self.best = state["history"], deepcopy(state["best"])


def _columns(prefix: str, terms: dict[str, torch.Tensor]) -> dict[str, float]:
    values = {f"{prefix}_{name}": float(term) for name, term in terms.items()}
    return {prefix: sum(values.values()), **values}
