"""The state of a training on disk: whole or not at all, and only for the same training."""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.checks import some
from pyro_mgvi.errors import SettingsError, TrainingError
from pyro_mgvi.model.weights import differ
from pyro_mgvi.support.described import described
from pyro_mgvi.support.files.whole_files import read_tensors, written_whole
from pyro_mgvi.support.values import path_of
from pyro_mgvi.training.objective import last_training
from pyro_mgvi.training.setup import TrainingSetup

BLOCK = 4096  # cells to read at a time
STATE = re.compile(r"epoch_(\d+)\.pt")
OURS = re.compile(r"epoch_\d+\.pt|training_\d+")  # what is in the folder of a checkpoint
FREE = ("patience", "compiled")  # settings that may change between two parts of a training
STARTED = "starting weights"
RTOL, ATOL = 1e-3, 1e-4  # other processors round the weights that a training starts with


class Checkpoint:
    """A folder with a training's state after its last two epochs, and what training they are of.

    A training that goes on from here ends as if it had never stopped, to the last bit on the same
    machine with as many threads.

    Parameters
    ----------
    folder
        The folder; made if there is none. Who begins anew deletes it.
    setup
        The training, before its first step: it starts with the weights of this moment.
    resume
        Whether to go on from what the folder holds, or to refuse it.

    Raises
    ------
    SettingsError
        If the folder cannot be used.
    """

    def __init__(self, folder: str | Path, setup: TrainingSetup, resume: bool = True):
        self.folder = usable_folder(folder, resume)
        self.setup = setup
        self.started = setup.program.sampled_weights()

    @cached_property
    def identity(self) -> dict[str, str]:
        """What must be equal for a training to go on, by name, as text."""
        return identity(self.setup)

    def n_known(self, state: dict[str, Any]) -> int:
        """Return how many epochs of the program's history are of the training of a state.

        None if it is at the start of that training, its last ones if it was interrupted there.
        """
        history = self.setup.program.history
        if self._starts(state) or not len(history):
            return 0
        return int(last_training(history).sum())

    def _starts(self, state: dict[str, Any]) -> bool:
        """Return whether the program has the weights with which the training of a state began."""
        return not differ(state[STARTED], self.started, RTOL, ATOL)

    def exists(self) -> bool:
        """Return whether there is something to resume."""
        return bool(states(self.folder))

    def write(self, state: dict[str, Any]) -> None:
        """Write the state, whole or not at all, and keep the one before.

        Raises
        ------
        TrainingError
            If it cannot be written; what was there is whole.
        """
        epoch = len(state["history"])
        path = self.folder / f"epoch_{epoch}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as part:
                torch.save({"identity": self.identity, STARTED: self.started, **state}, part)
            for n_epochs, earlier in states(self.folder).items():
                if n_epochs < epoch - 1:
                    earlier.unlink()
        except (OSError, RuntimeError) as error:  # torch turns some of the former into the latter
            raise TrainingError(
                f"checkpoint {path} cannot be written ({error}): make room, and go on from the "
                "one before"
            ) from error

    def read(self, device: torch.device) -> dict[str, Any]:
        """Return the newest state.

        It takes the place of the program's weights, so these are to be those with which its
        training began, or its best ones, as an interruption leaves them.

        Raises
        ------
        SettingsError
            If the file is damaged, or of another training: other data, weights or settings.
        """
        path, state = newest(self.folder, device)
        theirs = state["identity"]
        if STARTED not in state:
            raise SettingsError(
                f"checkpoint {path} is of an earlier version, which did not note the {STARTED}: "
                "name another folder to begin anew"
            )
        names = dict.fromkeys([*self.identity, *theirs])  # each once, in their order
        differ = [name for name in names if theirs.get(name) != self.identity.get(name)]
        if differ:
            raise SettingsError(
                f"checkpoint {path} is of another training, with other {', '.join(differ)}: "
                "name another folder, or train with the same data and settings"
            )
        if not self._starts(state) and not _has(self.setup, state["best"]["weights"]):
            raise SettingsError(
                f"checkpoint {path} is of another training, with other {STARTED}, and the weights "
                "of this model would be lost: name another folder, or go on with the model as it "
                "was when that training began"
            )
        return state


def states(folder: Path) -> dict[int, Path]:
    """Return the states that a folder holds by their number of epochs, the newest last."""
    if not folder.is_dir():
        return {}
    named = {file: STATE.fullmatch(file.name) for file in folder.iterdir()}
    found = {int(match[1]): file for file, match in named.items() if match is not None}
    return dict(sorted(found.items()))


def newest(folder: Path, device: torch.device) -> tuple[Path, dict[str, Any]]:
    """Return the newest state of a folder that has one, and where it is.

    Raises
    ------
    SettingsError
        If it is damaged, or something else.
    """
    *earlier, path = states(folder).values()
    try:
        state: dict[str, Any] = read_tensors(path, device)
        dict(state["identity"]), dict(state["best"]["weights"])
    except Exception as error:
        instead = f"go on from {earlier[-1].name}" if earlier else "begin anew"
        raise SettingsError(
            f"checkpoint {path} cannot be read ({type(error).__name__}): it is damaged "
            f"or no checkpoint of this version; name another folder, or delete it to {instead}"
        ) from error
    return path, state


def usable_folder(path: str | Path, resume: bool) -> Path:
    """Return the folder for a checkpoint, before any work; it is made with the first state.

    Raises
    ------
    SettingsError
        If it is none, cannot be written to, holds a state that is not to be resumed, or something
        else than states.
    """
    folder = path_of("checkpoint", path)
    try:
        if folder.exists() and not folder.is_dir():
            raise SettingsError(f"checkpoint {folder} is a file: name a folder")
        there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        with tempfile.TemporaryFile(dir=there):
            found = states(folder)
            others = _others(folder)
    except OSError as error:
        raise SettingsError(f"checkpoint {folder} cannot be written to: {error}") from error
    if found and not resume:
        raise SettingsError(
            f"checkpoint {folder} holds a training of {max(found)} epochs already: go on from it "
            "with resume=True, or name another folder"
        )
    if found:
        newest(folder, torch.device("cpu"))
    elif others:
        raise SettingsError(
            f"checkpoint {folder} holds something else ({some(others)}): name a folder of its own"
        )
    return folder


def _others(folder: Path) -> list[str]:
    """Return what a folder holds that has neither states nor those of several trainings."""
    names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    names = [name for name in names if not name.startswith(".")]
    return [] if any(map(OURS.fullmatch, names)) else names


def _has(setup: TrainingSetup, weights: dict[str, Tensor]) -> bool:
    """Return whether the program has these weights, but for which dimensions are closed."""
    parts = {"model": setup.model, "guide": setup.guide}
    return all(
        torch.equal(weight.cpu(), weights[f"{part}.{name}"].cpu())
        for part, module in parts.items()
        for name, weight in module.named_parameters()
    )


def equal_on_all_ranks(setup: TrainingSetup) -> dict[str, str]:
    """Return what must be equal on all ranks of a training, by name, as text."""
    patience = repr(setup.plan.patience)  # which another part of a training may change
    weights = setup.program.sampled_weights().values()
    norm = torch.stack([weight.norm() for weight in weights]).norm()
    return {**identity(setup), "plan.patience": patience, STARTED: f"of norm {norm:.3g}"}


def identity(setup: TrainingSetup) -> dict[str, str]:
    """Return what must be equal for a training to go on, by name, as text."""
    program, schema = setup.program, setup.program.schema
    plan = {k: v for k, v in asdict(setup.plan).items() if k not in FREE}
    copies = {} if setup.copies is None else {k: v.tolist() for k, v in setup.copies.items()}
    return {
        **{f"plan.{name}": repr(value) for name, value in plan.items()},
        "seed": repr(program.seed),
        "own_weight": repr(program.own_weight),
        "latents": described(
            [(x.name, x.subsets, x.dim, x.foreign, x.prior) for x in program.families]
        ),
        **(
            {"reach": repr(reach)} if any(reach := [x.modalities for x in program.families]) else {}
        ),
        **{name: described(part) for name, part in program.components.items()},
        "observed_library": repr(program.model.observed_library),
        "foreign_sample": repr(program.guide.foreign_sample),
        "copies to train": repr(copies),
        **({} if setup.agreed is None else {"n_trainings": repr(setup.agreed.n_trainings)}),
        **({"discovered directions": described(setup.known)} if setup.known else {}),
        "groups": repr(schema.groups),
        "batches": repr((schema.batch_key, schema.batches)),
        "covariates": repr((schema.covariate_keys, schema.categories)),
        "genes": _digest(np.array(schema.genes, str)),
        "feature masks": repr(schema.absent),
        **({"samples": repr(schema.samples)} if schema.samples else {}),
        "labels of cells": _labels(setup),
        "counts": _counts(setup),
    }


def _parts(setup: TrainingSetup) -> list[GroupedCounts]:
    return [data for data in (setup.data, setup.validation) if data is not None]


def _labels(setup: TrainingSetup) -> str:
    labels = []
    for data in _parts(setup):
        labels += [data.group_n, data.batch_n, data.covariate_nc]
        labels += [] if data.sample_code_n is None else [data.sample_code_n]
    return _digest(*labels)


def _counts(setup: TrainingSetup) -> str:
    digest = hashlib.sha256()
    for data in _parts(setup):
        for start in range(0, len(data), BLOCK):
            block = sparse.csr_matrix(data.counts(np.arange(start, min(start + BLOCK, len(data)))))
            block.sort_indices()
            for array in (block.indptr, block.indices, block.data):
                digest.update(_digest(array.astype(np.float64)).encode())
    return digest.hexdigest()


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
