"""Processes that train together, as ``torchrun`` starts them, and what each of them does.

``python -m helpers.ranks FOLDER NAME ...``, started once for each rank, does these of :data:`WHAT`
one after another; each rank leaves what it has found, or its error, in ``FOLDER``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pyro
import torch
from torch.distributions import normal

from pyro_mgvi import MGVI, SearchSettings, SeparateEncoders, TrainingPlan, private, shared
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.errors import MGVIError
from pyro_mgvi.kernels.exclusive import exclusive
from pyro_mgvi.training import Trainer
from pyro_mgvi.training.checkpoint import Checkpoint

LATENTS = (shared(3), private(2))
SEARCH = SearchSettings(epoch=1, hand_over=2, least_cells=20)
PLAN = TrainingPlan(max_epochs=4, batch_size=50, search=SEARCH, hurry=1.0, prune_below=0.3)
DIES = 2  # epoch in which one rank is killed
NOISE = 0.7


def cells():
    return clear_recipe(seed=1, n_cells=233, n_shared_genes=40, n_program_genes=40, groups=3)


def model(adata=None, **settings):
    encoder = partial(SeparateEncoders, dropout=0.0)
    settings = {"latents": LATENTS, "encoder": encoder} | settings
    return MGVI.from_anndata(cells() if adata is None else adata, "group", **settings)


@contextmanager
def same_noise():
    """Let every draw of every cell be the same number of standard deviations off."""
    drawn = normal._standard_normal
    normal._standard_normal = lambda shape, dtype, device: torch.full(shape, NOISE, dtype=dtype)
    try:
        yield
    finally:
        normal._standard_normal = drawn


def stepped(trainer):
    """Take the first step of an epoch; return its loss and gradients."""
    trainer.setup.train()
    with same_noise(), exclusive(), pyro.settings.context(module_local_params=True):
        batch = next(iter(trainer.setup.minibatches(0, trainer.sparse)))
        terms = trainer.step(batch, 1)
    loss = float(sum(terms.values())) / len(trainer.setup.data)
    module = trainer.objective.module
    gradients = {k: v.grad.clone() for k, v in module.named_parameters() if v.grad is not None}
    return {"loss": loss, "index": batch.index, "gradients": gradients}


def step(folder, rank):
    mgvi = model()
    return stepped(Trainer(mgvi, mgvi.read(cells()), PLAN, "cpu"))


def fit(folder, rank, dies=None):
    """Train with a checkpoint; note the weights after each step, the noise, and who writes."""
    noted = {"sums": [], "seeds": set(), "written": 0}
    write, begin = Checkpoint.write, Trainer._epoch

    def noting(trainer):
        noted["seeds"].add(torch.initial_seed())
        weights = [v.detach().double().sum() for v in trainer.objective.state_dict().values()]
        noted["sums"].append(torch.stack(weights))

    def writing(self, state):
        noted["written"] += 1
        write(self, state)

    def dying(self, epoch):
        if rank == dies and epoch == DIES:
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        begin(self, epoch)

    mgvi = model()
    with (
        patch.object(Trainer, "step", beside(Trainer.step, noting)),
        patch.object(Checkpoint, "write", writing),
        patch.object(Trainer, "_epoch", dying),
        same_noise(),
    ):
        mgvi.fit(cells(), PLAN, checkpoint=folder / "state", progress=True)
    mgvi.save(folder / "model")
    return noted | {"state": state_of(mgvi), "history": mgvi.history.to_dict("list")}


def several(folder, rank):
    """Train with what several trainings agree on, found by all ranks."""
    mgvi = model()
    mgvi.fit(cells(), replace(PLAN, max_epochs=2), n_trainings=2, progress=False)
    return {"state": state_of(mgvi)}


def other_cells(folder, rank):
    adata = cells()
    if rank == 1:
        adata.X[5, adata.X[5].nonzero()[1][0]] += 1
    model(adata).fit(adata, PLAN, progress=False)


def other_groups(folder, rank):
    adata = cells()
    adata.obs["group"] = [f"{name}{rank}" for name in adata.obs["group"]]
    model(adata).fit(adata, PLAN, progress=False)


def other_genes(folder, rank):
    adata = cells()
    adata.var_names = [f"{name}{rank}" for name in adata.var_names]
    model(adata).fit(adata, PLAN, progress=False)


def other_plan(folder, rank):
    model().fit(cells(), replace(PLAN, patience=5 + rank), progress=False)


def other_weights(folder, rank):
    mgvi = model()
    with torch.no_grad():
        next(mgvi.model.parameters()).add_(rank)
    mgvi.fit(cells(), PLAN, progress=False)


def drifting(folder, rank):
    """A component changes its weights by itself, on each rank in another way."""

    def drift(trainer):
        trainer.setup.guide.encoder.gain.data += 0.01 * rank

    with patch.object(Trainer, "step", beside(Trainer.step, drift)):
        model().fit(cells(), PLAN, progress=False)


def not_finite(folder, rank):
    """One rank, in the third step of the second epoch, has cells that stand for nothing."""
    take = Trainer.step

    def stepping(self, batch, n, planted=False):
        if rank == 1 and len(self.history) == 1 and n == 2:
            batch = batch._replace(n_cells=float("nan"))
        return take(self, batch, n, planted)

    with patch.object(Trainer, "step", stepping):
        model().fit(cells(), PLAN, progress=False)


def estimated(folder, rank):
    model().estimate(cells(), PLAN)


WHAT = {
    "step": step,
    "fit": fit,
    "several": several,
    "dies": partial(fit, dies=1),
    "other_cells": other_cells,
    "other_groups": other_groups,
    "other_genes": other_genes,
    "other_plan": other_plan,
    "other_weights": other_weights,
    "drifting": drifting,
    "not_finite": not_finite,
    "estimated": estimated,
}


def beside(step, look):
    """Return a step that is looked at when it is over."""

    def stepping(self, batch, n, planted=False):
        terms = step(self, batch, n, planted)
        look(self)
        return terms

    return stepping


def state_of(mgvi):
    return {**mgvi.model.state_dict(), **mgvi.guide.state_dict()}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(n_ranks, *arguments):
    """Start processes as torchrun does, without its agent, which would end them itself."""
    here = Path(__file__).resolve().parents[1]
    common = {
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(n_ranks),
        "LOCAL_WORLD_SIZE": str(n_ranks),
        "TORCHELASTIC_RUN_ID": "none",
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]),
    }
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(n_ranks)
    ]


def run(n_ranks, folder, *what, timeout=900):
    """Do some of :data:`WHAT` on so many ranks; return exit codes, errors, and what each found."""
    processes = start(n_ranks, "-m", "helpers.ranks", folder, *what)
    try:
        errors = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    found = {
        name: [torch.load(file) for file in sorted(folder.glob(f"{name}-*.pt"))] for name in what
    }
    return codes, errors, found


def main(folder, *what):
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    for name in what:
        try:
            found = WHAT[name](Path(folder), rank)
        except MGVIError as error:
            found = f"{type(error).__name__}: {error}"
        torch.save(found, Path(folder) / f"{name}-{rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
