"""Several trainings with different seeds, and the start that they agree on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from pyro_mgvi.analysis.gene_effects.effects import effects, owners
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.several.consensus import consensus
from pyro_mgvi.core.copies import Copy
from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.errors import SettingsError, TrainingInterrupted
from pyro_mgvi.model.component_checks import cannot_start
from pyro_mgvi.support.files.whole_files import read_tensors
from pyro_mgvi.training import Trainer
from pyro_mgvi.training.checkpoint import states, usable_folder
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search import Direction
from pyro_mgvi.training.search.clusters import some_of_each
from pyro_mgvi.training.setup import Agreed

CELLS = 4000  # of each group, at most, on which trainings are compared
DECODED = 1000  # of each latent
LEAST = 10  # cells of a latent; fewer cannot be compared


class Told(NamedTuple):
    """What one training says of the cells on which trainings are compared.

    Attributes
    ----------
    latents
        Posterior means of each copy, (n, dim), NaN for cells that do not own it.
    loadings
        What a unit of each dimension adds to log expression (values of transformed data), (dim,
        genes); zeros for closed ones.
    """

    latents: dict[str, np.ndarray]
    loadings: dict[str, np.ndarray]


class Others(NamedTuple):
    """Trainings with different seeds.

    Attributes
    ----------
    agreed
        What most of them hold.
    told
        What each says of some cells.
    cells
        These cells.
    """

    agreed: Agreed
    told: list[Told]
    cells: GroupedCounts


def check_several(
    program: Program, n_trainings: int, checkpoint: str | Path | None, resume: bool
) -> None:
    """Refuse what several trainings cannot be made of, before any work.

    Raises
    ------
    SettingsError
        If the model is trained already, has parts that cannot start at a direction, or
        ``checkpoint`` holds a single training, or something that is not to be resumed.
    """
    what = f"n_trainings={n_trainings}"
    if program.trained:
        raise SettingsError(
            f"{what} begins anew, and this model is trained: build a new one (with the same "
            "checkpoint, an interrupted fit goes on), or go on with n_trainings=1"
        )
    if unable := cannot_start(program.model, program.guide):
        raise SettingsError(
            f"{what} starts the dimensions of the last training at what the others agree on, which "
            f"the {' and the '.join(unable)} cannot (no StartsDimensions): use n_trainings=1"
        )
    if checkpoint is None:
        return
    usable_folder(_folder(checkpoint, 0), resume)
    found = [*states(Path(checkpoint)).values()]
    if found and _folder(checkpoint, 0).exists():
        earlier: dict[str, str] = {}
        with suppress(Exception):  # a damaged one is refused where it is resumed
            earlier = dict(read_tensors(found[-1], torch.device("cpu"))["identity"])
        if earlier.get("n_trainings", repr(n_trainings)) != repr(n_trainings):
            raise SettingsError(
                f"checkpoint {checkpoint} is of another training, with other n_trainings "
                f"({earlier['n_trainings']}): name another folder, or ask for as many"
            )
    if found and not _folder(checkpoint, 0).exists():
        raise SettingsError(
            f"checkpoint {checkpoint} is of another training, of a single one: name another "
            "folder, or use n_trainings=1"
        )


def several_trainings(
    last: Trainer,
    data: GroupedCounts,
    n_trainings: int,
    accelerator: str = "auto",
    progress: bool = True,
) -> Others:
    """Train with several seeds, and return what the trainings agree on.

    Each holds out other cells, so that a direction of few cells counts.

    Parameters
    ----------
    last
        The training that is to start there. Each of the others has a folder in its checkpoint.
    data
        All cells.
    n_trainings
        How many others.
    accelerator, progress
        As for :meth:`MGVI.fit <pyro_mgvi.MGVI.fit>`.

    Raises
    ------
    TrainingInterrupted
        After a Ctrl-C: the program of ``last`` has the weights of the first training, if an epoch
        of it was finished, and its history.
    """
    setup, plan = last.setup, last.setup.plan
    program = setup.program
    seeds = np.random.SeedSequence([program.seed, setup.seed]).generate_state(n_trainings)
    group_n = setup.data.group_n
    sample = setup.data.subset(some_of_each(group_n, np.unique(group_n), CELLS, seed=0))
    told: list[Told] = []
    first: Trainer | None = None
    for number, seed in enumerate(map(int, seeds)):
        one = program.fresh(data, seed)
        folder = None if last.checkpoint is None else _folder(last.checkpoint.folder, number)
        trainer = Trainer(one, data, replace(plan, seed=None), accelerator, folder)
        trainer.setup.known = setup.known
        trainer.name = f"training {number + 1} of {n_trainings + 1}"
        first = first or trainer
        try:
            trainer.run(progress)
            told.append(_told(one, sample))
        except KeyboardInterrupt as interruption:
            _take_over(program, first)
            raise TrainingInterrupted(_what_is_kept(number, n_trainings, first)) from interruption
    last.name = f"training {n_trainings + 1} of {n_trainings + 1}"
    return Others(Agreed(n_trainings, _agreed(program, told, sample)), told, sample)


def _folder(checkpoint: str | Path, number: int) -> Path:
    return Path(checkpoint) / f"training_{number + 1}"


def _told(program: Program, sample: GroupedCounts) -> Told:
    """Return what a training says."""
    loadings = {}
    unit = np.log(2) if program.data_kind is DataKind.COUNTS else 1.0
    for copy in program.families.copies:
        loadings[copy.key] = np.zeros((copy.dim, sample.shape[1]))
        own = owners(program, sample, copy)
        if not len(own):
            continue
        own = own[:: -(-len(own) // DECODED)]
        found = effects(program, sample.subset(own), copy)
        loadings[copy.key][found.dims] = unit * found.effect_dg / found.sd_d[:, None]
    return Told(latent_values(program, sample), loadings)


def _agreed(
    program: Program, told: list[Told], sample: GroupedCounts
) -> dict[Copy, list[Direction]]:
    """Return the directions of each copy that most trainings hold."""
    found = {}
    weight_g = np.ones(sample.shape[1])
    if program.data_kind is DataKind.COUNTS:  # a rare gene tells little, however much it changes
        weight_g = np.asarray(sample.x.mean(0), float).ravel()
    for copy in program.families.copies:
        own = owners(program, sample, copy)
        if len(own) < LEAST:
            continue
        wider = [
            other.key for other in program.families.copies if set(other.groups) > set(copy.groups)
        ]
        common = consensus(
            [each.latents[copy.key][own] for each in told],
            [each.loadings[copy.key] for each in told],
            weight_g,
            [np.column_stack([each.latents[key][own] for key in wider]) for each in told]
            if wider
            else (),
        )
        loading_kg, score_kn = (
            torch.from_numpy(x).float() for x in (common.loading_kg, common.score_nk.T)
        )
        directions = [
            Direction(loading_g, score_n, sample.cells[own])
            for loading_g, score_n in zip(loading_kg, score_kn)
        ]
        found[copy] = directions[: copy.dim]
    return found


def _take_over(program: Program, first: Trainer) -> None:
    """Give a program the weights and the history of a training of one like it."""
    if first.history:
        program.model.load_state_dict(first.setup.model.state_dict())
        program.guide.load_state_dict(first.setup.guide.state_dict())
        program.history, program.plan = first.table(), first.setup.plan
        program.interrupted = True


def _what_is_kept(number: int, n_trainings: int, first: Trainer) -> str:
    if not first.history:
        return "training was interrupted in its first epoch: the model is as it was before"
    message = (
        f"interrupted in training {number + 1} of {n_trainings + 1}: the model has the weights of "
        "the first one, and nothing is known of what the trainings agree on"
    )
    if first.checkpoint is None:
        return message
    folder = str(first.checkpoint.folder.parent)
    return f"{message}; to go on, do the same with a new model and checkpoint={folder!r}"
