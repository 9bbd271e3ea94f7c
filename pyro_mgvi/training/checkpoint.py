"""The state of a training on disk: whole or not at all, and only for the same training."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from pyro_mgvi.errors import SettingsError
from pyro_mgvi.training.setup import TrainingSetup


class Checkpoint:
    """A file that holds a training's state, and what training it is of.

    Parameters
    ----------
    path
        The file.
    setup
        The training.
    """

    def __init__(self, path: Path, setup: TrainingSetup):
        self.path, self.identity = path, _identity(setup)

    def exists(self) -> bool:
        """Return whether there is something to resume."""
        return self.path.exists()

    def write(self, state: dict) -> None:
        """Write the state, whole or not at all."""
        part = self.path.with_name(self.path.name + ".partial")
        torch.save({"identity": self.identity, **state}, part)
        os.replace(part, self.path)

    def read(self, device: torch.device) -> dict:
        """Return the state.

        Raises
        ------
        SettingsError
            If the file is damaged, or of another training: other data, weights or settings.
        """
        try:
            state = torch.load(self.path, map_location=device, weights_only=True)
            theirs = dict(state["identity"])
        except Exception as error:
            raise SettingsError(
                f"checkpoint {self.path} cannot be read ({type(error).__name__}): it is damaged "
                "or no checkpoint of this version; delete it to begin anew"
            ) from error
        differ = [name for name, value in self.identity.items() if theirs.get(name) != value]
        if differ:
            raise SettingsError(
                f"checkpoint {self.path} is of another training, with other {', '.join(differ)}: "
                "delete it, or train with the same data and settings"
            )
        return state


def _identity(setup: TrainingSetup) -> dict[str, str]:
    """Return what must be equal for a training to go on, by name, as text."""
    program = setup.program
    plan = {k: v for k, v in asdict(setup.plan).items() if k not in ("patience", "compiled")}
    parts = program.components.values()
    return {
        **{f"plan.{name}": repr(value) for name, value in plan.items()},
        "own_weight": repr(program.own_weight),
        "latents": repr([(x.name, x.subsets, x.dim, x.foreign, x.prior) for x in program.families]),
        "components": repr([type(part).__name__ + repr(part)[:200] for part in parts]),
        "groups": repr(program.schema.groups),
        "genes": _digest(np.array(program.schema.genes)),
        "cells": _digest(setup.data.group_n, setup.data.batch_n, setup.data.covariate_nc),
        "counts": _digest(_totals(setup)),
    }


def _totals(setup: TrainingSetup) -> np.ndarray:
    x = setup.data.x
    both = (np.asarray(x.sum(axis)).ravel().astype(float) for axis in (0, 1))
    return np.concatenate([*both])


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
