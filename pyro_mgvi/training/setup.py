"""All that trains a program, for ``fit`` and for a Pyro user's own loop alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyro
import torch
from torch import Tensor

from pyro_mgvi.core.copies import Copy
from pyro_mgvi.core.elbo import WassersteinTraceELBO
from pyro_mgvi.data import GroupedCounts, Minibatch
from pyro_mgvi.data.stores.resident import Resident, fits
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.model import Guide, Model
from pyro_mgvi.training.plan import SearchSettings, TrainingPlan
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search import Direction, hand_over, prune, restart_idle
from pyro_mgvi.training.search.restart import Known, search_shared, start_at

COMPILE_FROM = 3e8  # counts seen in training; about 10 seconds are saved


class Agreed(NamedTuple):
    """What several trainings agree on.

    Attributes
    ----------
    n_trainings
        How many.
    directions
        Of each copy; their cells are positions in the annotated data.
    """

    n_trainings: int
    directions: Mapping[Copy, Sequence[Direction]]


class TrainingSetup:
    """Model, guide, weighted objective and seeded minibatches of one dataset.

    Parameters
    ----------
    program
        What to train; in training mode from here on, until :meth:`finish`.
    data
        All cells; some are held out as ``plan`` says.
    plan
        How to train.
    copies
        Copies of each latent, boolean (S,), that may be searched for and pruned; all by default.
    known
        Directions that the search starts with, by the groups that own the copy they are for; their
        cells are positions in the annotated data. None by default.

    Raises
    ------
    DataError
        If no cell owns some latent's copy.

    Attributes
    ----------
    model, guide
        For ``SVI``.
    elbo
        The objective, with the program's weights.
    plan
        The plan with its defaults filled in.
    max_epochs, seed
        Those of the plan.
    rank, n_ranks
        Which part of each minibatch is taken, of how many (:meth:`divide`); all of it by default.
    data, validation
        Training cells; held-out cells, or None.
    agreed
        What several trainings agree on: where this one starts (:meth:`start`), and all that its
        latents of some groups may hold. None by default.

    Examples
    --------
    >>> from pyro.infer import SVI
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> setup = mgvi.training_setup(adata, TrainingPlan(max_epochs=2))
    >>> optimiser = pyro.optim.Adam({"lr": setup.plan.learning_rate})
    >>> svi = SVI(setup.model, setup.guide, optimiser, loss=setup.elbo)
    >>> for epoch in range(setup.plan.max_epochs):
    ...     _ = setup.begin_epoch(epoch)
    ...     for batch in setup.minibatches(epoch):
    ...         loss = svi.step(*batch)
    >>> setup.finish()
    """

    def __init__(
        self,
        program: Program,
        data: GroupedCounts,
        plan: TrainingPlan,
        copies: Mapping[str, Tensor] | None = None,
        known: Known = MappingProxyType({}),
    ):
        self.seed = program.seed if plan.seed is None else plan.seed
        train, held_out = data.split(plan.validation_fraction, self.seed)
        if copies is None:
            _check_owners(program, data)
        self.program, self.copies = program, copies
        self.known = known
        self.agreed: Agreed | None = None
        self.plan = plan.resolved(program.seed)
        self.max_epochs = self.plan.max_epochs or 0
        self.n_steps = max(1, round(len(train) / plan.batch_size))
        self.model: Model = program.model
        self.guide: Guide = program.guide
        self.elbo = WassersteinTraceELBO(own_weight=program.own_weight)
        data = data.unpacked()
        self.data = data.view(train)
        self.validation = data.view(held_out) if len(held_out) else None
        self.rank, self.n_ranks = 0, 1
        self._resident: tuple[torch.device, dict[int, Resident]] | None = None

    def divide(self, rank: int, n_ranks: int) -> None:
        """Take a part of each minibatch from here on: the ``rank``-th, from 0, of ``n_ranks``.

        Raises
        ------
        SettingsError
            If some minibatch has fewer cells than there are parts.
        """
        least = len(self.data) // self.n_steps
        if least < n_ranks > 1:
            raise SettingsError(
                f"minibatches of {least} cells cannot be divided among {n_ranks} ranks: raise "
                f"batch_size (now {self.plan.batch_size}), or start fewer ranks"
            )
        self.rank, self.n_ranks = rank, n_ranks

    @property
    def compiles(self) -> bool:
        """Whether compiling pays: it saves some 50 ns per count of each epoch."""
        if self.plan.compiled is not None:
            return self.plan.compiled
        n_cells, n_genes = self.data.shape
        return float(n_cells) * n_genes * self.max_epochs > COMPILE_FROM

    def train(self) -> None:
        """Put model and guide in training mode."""
        self.model.train()
        self.guide.train()

    def seeds(self, epoch: int) -> tuple[int, int]:
        """Return the seeds of an epoch, so that a resumed run repeats an uninterrupted one.

        The first is for everything drawn in steps, the second for the order of the cells.
        """
        steps, order = np.random.SeedSequence([self.seed, epoch]).generate_state(2)
        return int(steps), int(order)

    def start(self) -> bool:
        """Start at what several trainings agree on; return whether there is such a thing."""
        if self.agreed is None:
            return False
        found = {copy: self._placed_in(each) for copy, each in self.agreed.directions.items()}
        with pyro.validation_enabled(False):
            start_at(self.program, self.data, found, self.seed)
        return True

    def begin_epoch(self, epoch: int) -> bool:
        """Seed Pyro and search, if it is time; return whether the decoder has changed."""
        pyro.set_rng_seed(self.seeds(epoch)[0])
        return self.change(epoch)

    def change(self, epoch: int) -> bool:
        """Search or hand over, if it is time; return whether the decoder has changed."""
        if epoch == self.plan.search_epoch:
            return self.search()
        return epoch == self.plan.hand_over_epoch and self.hand_over()

    def hand_over(self) -> bool:
        """Give some groups what they alone use of the shared latents; return whether there was."""
        if self.copies is not None or self.plan.search is None or self.agreed is not None:
            return False  # or the others have done so
        with pyro.validation_enabled(False), self.program.at_rest():
            return hand_over(self.program, self.data, self.plan.search, self.seed) > 0

    def search(self) -> bool:
        """Restart what is idle, at what is missing; return whether the decoder has changed."""
        with pyro.validation_enabled(False):
            if self.agreed is not None:
                thresholds = self.plan.search or SearchSettings()
                return search_shared(self.program, self.data, thresholds, self.seed)
            known = {groups: self._placed_in(each) for groups, each in self.known.items()}
            settings = self.plan.search, self.copies, self.seed
            return restart_idle(self.program, self.data, *settings, known)

    def _placed_in(self, directions: Sequence[Direction]) -> list[Direction]:
        """Return directions with the cells that are trained on, by their positions among these."""
        found = []
        for each in directions:
            order = np.argsort(each.cells)
            _, there, here = np.intersect1d(each.cells[order], self.data.cells, return_indices=True)
            score_n = each.score_n[torch.from_numpy(order[there])]
            found.append(each._replace(score_n=score_n, cells=here))
        return found

    def minibatches(self, epoch: int, keep_sparse: bool = False) -> Iterator[Minibatch]:
        """Yield the minibatches of an epoch, or the parts of one rank, where the model is."""
        order = self.plan.batch_size, self.seeds(epoch)[1], self.plan.stratified
        whole = self.data.orders(*order)
        batches = self._placed(self.data, self._parts(self.data, whole), keep_sparse, scaled=True)
        if self.n_ranks == 1:
            return batches
        # A part stands for its share of all cells, times the ranks: gradients are then averaged.
        stands_for = (self.n_ranks * len(self.data) / len(cells) for cells in whole)
        return (
            batch._replace(n_cells=len(batch.group) * each)
            for batch, each in zip(batches, stands_for)
        )

    def held_out(self, size: int, keep_sparse: bool = False) -> Iterator[Minibatch]:
        """Yield minibatches of the held-out cells, in the order of the data."""
        if self.validation is None:
            return iter(())
        parts = self._parts(self.validation, self.validation.orders(size, shuffle=False))
        held = [cells for cells in parts if len(cells)]
        return self._placed(self.validation, held, keep_sparse, scaled=False)

    def _parts(self, data: GroupedCounts, orders: list[np.ndarray]) -> list[np.ndarray]:
        """Return what this rank takes of each minibatch, of each group its share."""
        if self.n_ranks == 1:
            return orders
        grouped = (cells[np.argsort(data.group_n[cells], kind="stable")] for cells in orders)
        return [cells[self.rank :: self.n_ranks] for cells in grouped]

    def _placed(
        self, data: GroupedCounts, orders: list[np.ndarray], keep_sparse: bool, scaled: bool
    ) -> Iterator[Minibatch]:
        """Return minibatches where the model is, of counts that are there already if they fit."""
        device = self.program.device
        if device.type == "cpu":
            return data.batches_of(orders, keep_sparse, scaled)
        if self._resident is None or self._resident[0] != device:
            parts = {id(each): each for each in (self.data, self.validation) if each is not None}
            kept = {k: Resident(v, device) for k, v in parts.items() if fits(v, device)}
            self._resident = device, kept
        resident = self._resident[1].get(id(data))
        if resident is not None:
            return resident.minibatches(orders, scaled)
        return (batch.to(device) for batch in data.batches_of(orders, False, scaled))

    def finish(self, progress: bool = False) -> None:
        """Close dimensions that say nothing, and put model and guide in evaluation mode.

        With ``progress``, a bar is shown if this takes seconds.
        """
        self.model.eval()
        self.guide.eval()
        prune(self.program, self.data, self.plan.prune_below, self.copies, progress)


def _check_owners(program: Program, data: GroupedCounts) -> None:
    present = {program.schema.groups[code] for code in np.unique(data.group_n)}
    for copy in program.families.copies:
        if present.isdisjoint(copy.groups):  # only the foreign penalty would act on it
            raise DataError(
                f"no cell belongs to latent {copy.key!r} (group(s) {', '.join(copy.groups)}): "
                "train with cells of all its groups, or leave it out of the latents"
            )
