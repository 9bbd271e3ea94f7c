"""What a training will cost, told before it: a few real steps, and a formula for memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pyro
import torch
from anndata import AnnData

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.kernels.compiled import compilation
from pyro_mgvi.kernels.exclusive import exclusive
from pyro_mgvi.kernels.sparse import to_dense
from pyro_mgvi.model.posterior import Posterior
from pyro_mgvi.support.launched import launched
from pyro_mgvi.support.memory import resident_bytes
from pyro_mgvi.support.values import whole_number
from pyro_mgvi.training.plan import SearchSettings, TrainingPlan, chosen_plan
from pyro_mgvi.training.program import BLOCK, VALUES, Program
from pyro_mgvi.training.setup import TrainingSetup
from pyro_mgvi.training.trainer import Trainer

STEPS = 12  # that are timed, at most
SECONDS = 1.5  # that they may take
PASSED = 256  # cells that are encoded and scored
LEARNT = 22  # epochs after the search until the validation loss is flat, with few cells,
LEARNT_STEPS = 1200  # or so many steps, with many: benchmarks/notes/RESULTS_scale.md
COMPILING = 12.0  # seconds of the compiler, unless its cache is warm
COMPILED = 0.3  # of the uncompiled likelihood's time
STEP_VALUES = 16  # arrays of cells x genes that a step holds at once
RESIDUALS = 3  # copies of the residuals, and
PAIRS = 4  # tables of genes x genes that the search holds at once
OPTIMISER = 6  # copies of the weights: theirs, gradients, two of Adam, the best and those before


@dataclass(frozen=True)
class Estimate:
    """What a training will cost; ``print`` it.

    Attributes
    ----------
    seconds
        From the call of ``fit`` to its end.
    memory
        Bytes that the process holds at its peak, the counts and all libraries included.
    epochs, steps
        How many are expected of a training; it ends sooner where the loss is flat sooner.
    seconds_per_step
        Of one minibatch, as timed.
    trainings
        How many of so many epochs there are.

    Examples
    --------
    >>> print(Estimate(372.0, 1.9e9, 24, 17_000, 0.02))
    about 6 min, 1.9 GB (24 epochs, 17,000 steps of 20 ms)
    """

    seconds: float
    memory: float
    epochs: int
    steps: int
    seconds_per_step: float
    trainings: int = 1

    def __str__(self) -> str:
        step = _of_a_step(self.seconds_per_step)
        work = f"{self.epochs} epochs, {self.steps:,} steps of {step}"
        if self.trainings > 1:
            work = f"{self.trainings} trainings of {work}"
        return f"about {_spoken(self.seconds)}, {self.memory / 1e9:.1f} GB ({work})"


def _spoken(seconds: float) -> str:
    """Return a time in the unit that one would say it in."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return (
                f"{seconds / size:.1f} {unit}"
                if seconds < 4 * size
                else f"{seconds / size:.0f} {unit}"
            )
    return f"{max(1.0, seconds):.0f} s"


def _of_a_step(seconds: float) -> str:
    """Return the time of a step with two digits, and without an exponent."""
    ms = float(f"{1e3 * seconds:.2g}")
    return f"{ms / 1e3:g} s" if ms >= 1e3 else f"{ms:g} ms"


@exclusive()
def estimate(
    program: Program,
    adata: AnnData | GroupedCounts,
    plan: TrainingPlan | None = None,
    *,
    max_epochs: int | None = None,
    accelerator: str = "auto",
    n_trainings: int = 1,
) -> Estimate:
    """Return what training would cost here: a few steps of a copy are timed, nothing is trained.

    Parameters
    ----------
    program
        An :class:`~pyro_mgvi.MGVI`; it stays as it is.
    adata, plan, max_epochs, accelerator, n_trainings
        As for :meth:`MGVI.fit <pyro_mgvi.MGVI.fit>`.

    Raises
    ------
    DataError, SettingsError
        As training would; and of one of several processes (``torchrun``).

    Notes
    -----
    When the loss will be flat is not known before: how many epochs to expect was chosen on six
    sets, on which it is within a factor of 1.5 (benchmarks/notes/RESULTS_scale.md). A machine that
    is busier in training than now takes longer by as much.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> found = MGVI.from_anndata(adata, group_key="group").estimate(adata, max_epochs=2)
    >>> found.epochs, found.steps
    (2, 2)
    """
    n_trainings = whole_number("n_trainings", n_trainings, least=1)
    if launched().n_ranks > 1:
        raise SettingsError("what several ranks need is not foretold: estimate in one process")
    data, plan = program.read(adata, missing_genes=0), chosen_plan(plan, max_epochs)
    trainer = Trainer(deepcopy(program), data, plan, accelerator)
    setup, compiled = trainer.setup, trainer.setup.compiles
    n_train = len(setup.data)
    n_held_out = 0 if setup.validation is None else len(setup.validation)
    step = _timed_steps(trainer)
    encoding, scoring = _seconds_of_cells(trainer)
    if compiled:
        likelihood = _seconds_of_likelihood(trainer)
        step -= (1 - COMPILED) * min(likelihood, 0.9 * step)
        scoring *= COMPILED
    reading = _seconds_of_reading(setup)
    epochs = expected_epochs(setup.plan, setup.n_steps)
    per_epoch = setup.n_steps * step + n_held_out * (encoding + scoring) + reading
    seconds = epochs * per_epoch + (COMPILING if compiled else 0.0)
    searched = setup.plan.search is not None and setup.plan.search_epoch is not None
    # Closing idle dimensions, twice in a search, and pruning pass over all cells.
    seconds += (4 if searched else 1) * (n_train * encoding + reading)
    if setup.plan.search is not None and searched:
        seconds += _seconds_of_search(setup.plan.search, setup.data)
    n_weights = sum(p.numel() for p in trainer.objective.parameters())
    trainings = n_trainings + 1 if n_trainings > 1 else 1  # what they agree on is trained last
    return Estimate(
        seconds=trainings * seconds,
        memory=resident_bytes() + _further_bytes(setup.plan, setup.data, n_weights),
        epochs=epochs,
        steps=epochs * setup.n_steps,
        seconds_per_step=step,
        trainings=trainings,
    )


def expected_epochs(plan: TrainingPlan, n_steps: int) -> int:
    """Return how many epochs are likely, of ``n_steps`` each; see :class:`Clock`.

    Examples
    --------
    >>> [expected_epochs(TrainingPlan().resolved(0), n_steps) for n_steps in (10, 100, 1000)]
    [36, 27, 17]
    >>> expected_epochs(TrainingPlan(max_epochs=1).resolved(0), 7000)
    1
    """
    most = plan.max_epochs or 0
    searched = plan.search_epoch or 0
    flat = searched + min(LEARNT, LEARNT_STEPS / n_steps)
    return max(min(most, 1), round(min(most, flat + max(0.0, most - flat) / plan.hurry)))


def _timed_steps(trainer: Trainer) -> float:
    """Return the seconds of a step, as the median of a few."""
    seconds: list[float] = []
    trainer.setup.train()
    local = pyro.settings.context(module_local_params=True)
    with exclusive(), local, torch.enable_grad(), compilation(False):
        torch.manual_seed(0)
        began = time.perf_counter()
        batches = iter(trainer.setup.minibatches(0, trainer.sparse))
        for n in range(STEPS):
            start = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                break
            _wait(trainer.step(batch, n + 1))  # Pyro looks for mistakes in the first one
            seconds.append(time.perf_counter() - start)
            if n == 0:  # which finds cold caches, and reads ahead
                began = time.perf_counter()
            elif n > 1 and time.perf_counter() - began > SECONDS:
                break
    return float(np.median(seconds[1:] or seconds))


def _wait(terms: dict[str, torch.Tensor]) -> None:
    """Wait until a device has computed the loss."""
    for term in terms.values():
        float(term.detach())


def _seconds_of_likelihood(trainer: Trainer) -> float:
    """Return the seconds of a step's likelihood and its gradient, uncompiled."""
    setup = trainer.setup
    batch = next(iter(setup.minibatches(0)))
    with torch.no_grad(), setup.program.at_rest():
        posterior = setup.program.posterior(batch)
        parts = posterior.decode(posterior.means())
        drawn = setup.model.distribution(parts, posterior.log_library(), batch.group)
        return _median_seconds(lambda: drawn.log_prob(batch.counts))


def _seconds_of_cells(trainer: Trainer) -> tuple[float, float]:
    """Return the seconds of encoding a cell and of scoring it, as validation does, uncompiled."""
    setup, program = trainer.setup, trainer.setup.program
    size = min(len(setup.data), PASSED)
    part = setup.data.subset(np.arange(size))
    batch = part.rows(np.arange(size), keep_sparse=trainer.sparse).to(program.device)
    with program.at_rest(), torch.no_grad():
        moments = program.posterior(batch).moments
        effect_ng = program.guide.effects_of(batch.sample)
        dense = batch._replace(counts=to_dense(batch.counts))
        posterior = Posterior(setup.model, dense, moments, effect_ng)

        def encode() -> None:
            found = program.posterior(batch).moments
            _wait({name: location.sum() for name, (location, _) in found.items()})

        def score() -> None:
            _wait({"": posterior.log_likelihood(posterior.means()).sum()})

        return _median_seconds(encode) / size, _median_seconds(score) / size


def _seconds_of_reading(setup: TrainingSetup) -> float:
    """Return the seconds that a pass over counts on disk spends on reading them."""
    if setup.data.buffer is None:
        return 0.0
    cells = np.concatenate(setup.data.orders(setup.plan.batch_size, 0))[: setup.data.buffer]
    return _median_seconds(lambda: setup.data.counts(cells), 1) * len(setup.data) / len(cells)


def _median_seconds(run: Callable[[], object], repeats: int = 3) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _searched(settings: SearchSettings, data: GroupedCounts) -> tuple[float, int]:
    """Return the cells whose residuals are searched, over all groups, and the genes."""
    sizes_b = np.bincount(data.group_n, minlength=len(data.schema.groups))
    n_genes = data.shape[1]
    most = min(settings.max_cells, settings.max_residuals / (n_genes * len(sizes_b)))
    searched_b = np.minimum(sizes_b, most)[sizes_b >= settings.least_cells]
    return float(searched_b.sum()), min(settings.max_genes, n_genes)


def _seconds_of_search(settings: SearchSettings, data: GroupedCounts) -> float:
    """Return the seconds of the products of residuals: of each group, for all and for itself."""
    n_cells, n_genes = _searched(settings, data)
    size = 512
    x = torch.ones(size, size)
    rate = 2.0 * size**3 / _median_seconds(lambda: torch.mm(x, x))
    return 4 * 2.0 * n_cells * n_genes**2 / rate


def _further_bytes(plan: TrainingPlan, data: GroupedCounts, n_weights: int) -> float:
    """Return what training takes beside what the process holds already."""
    n_cells, n_genes = data.shape
    step = STEP_VALUES * 4.0 * min(plan.batch_size, n_cells) * n_genes
    block = STEP_VALUES * 4.0 * min(VALUES, BLOCK * n_genes, n_cells * n_genes)
    search = 0.0
    if plan.search is not None:
        searched, genes = _searched(plan.search, data)
        search = RESIDUALS * 4.0 * searched * n_genes + PAIRS * 4.0 * genes**2
    return OPTIMISER * 4.0 * n_weights + max(step, block, search)
