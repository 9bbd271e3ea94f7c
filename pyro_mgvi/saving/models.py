"""Saved models: weights and plain settings in a folder, nothing that can run code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch

from pyro_mgvi.analysis import Discovery
from pyro_mgvi.errors import ModelFileError, SettingsError
from pyro_mgvi.fitting import Fits
from pyro_mgvi.saving.components import plain
from pyro_mgvi.saving.formats import Settings, Weights, to_newest
from pyro_mgvi.saving.settings import arguments_of, check_comes_back, plan_of, settings_of
from pyro_mgvi.saving.sizes import check_sizes
from pyro_mgvi.saving.tables import agreement_of, discovery_of, history_of
from pyro_mgvi.support.files.whole_files import read_tensors, written_whole
from pyro_mgvi.support.values import flag, number, path_of
from pyro_mgvi.training import TrainingPlan

AnyProgram = TypeVar("AnyProgram", bound=Fits)
SETTINGS, WEIGHTS, HISTORY = "settings.json", "weights.pt", "history.csv"


class Saved(NamedTuple):
    """What a folder holds.

    Attributes
    ----------
    arguments
        Of the constructor, but for the initial values.
    own_weight
        Weights of the divergence that were used.
    weights
        State of model and guide.
    history, plan, interrupted, trained, agreement
        How the model was trained, whether it was, and how well several trainings agree.
    discovery
        Table of the programs that its latents were discovered by, or None.
    """

    arguments: dict[str, Any]
    own_weight: dict[str, float]
    weights: Weights
    history: pd.DataFrame
    plan: TrainingPlan | None
    interrupted: bool
    trained: bool
    agreement: pd.DataFrame
    discovery: pd.DataFrame | None


def holds_model(path: Path) -> bool:
    """Return whether a folder seems to be a saved model."""
    return (path / SETTINGS).is_file()


def check_target(path: str | Path) -> None:
    """Refuse a path where a model cannot be saved, or where saving it would destroy something.

    Raises
    ------
    ModelFileError
        If ``path`` exists and is not a saved model, or holds other files beside one.
    SettingsError
        If ``path`` is none.
    """
    path = path_of("path", path)
    if not path.exists():
        return
    if not holds_model(path):
        raise ModelFileError(f"{path} exists and is not a saved model: choose another path")
    names = {file.name for file in path.iterdir() if not file.name.startswith(".")}
    others = sorted(names - {SETTINGS, WEIGHTS, HISTORY})
    if others:
        raise ModelFileError(
            f"{path} holds more than a saved model ({', '.join(others[:3])}), which would be lost: "
            "move it, or choose another path"
        )


def write(path: str | Path, mgvi: Fits) -> None:
    """Write a model to the folder ``path``, whole or not at all.

    Raises
    ------
    ModelFileError
        If ``path`` exists and is not a saved model, holds other files beside one, or cannot be
        written.
    SettingsError
        If a component cannot be described as plain data.
    """
    check_target(path)
    path = Path(path)
    mgvi.warn_untrained()
    settings = json.loads(json.dumps(settings_of(mgvi), default=plain))
    check_comes_back(mgvi, settings)
    weights = {"model": mgvi.model.state_dict(), "guide": mgvi.guide.state_dict()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as new:
            new.mkdir()
            torch.save(weights, new / WEIGHTS)
            mgvi.history.to_csv(new / HISTORY, index=False)
            settings["files"] = {name: _digest(new / name) for name in (WEIGHTS, HISTORY)}
            (new / SETTINGS).write_text(json.dumps(settings, indent=1))
    except (OSError, RuntimeError) as error:  # torch turns some of the former into the latter
        raise ModelFileError(f"cannot write the model to {path}: {error}") from error


def load(kind: type[AnyProgram], path: str | Path, components: Iterable[type] = ()) -> AnyProgram:
    """Build a saved model again.

    Raises
    ------
    ModelFileError
        If ``path`` is no saved model, is damaged, or is of an unknown version.
    """
    saved = read(path, components)
    schema = saved.arguments["schema"]
    try:
        mgvi = kind(initial=schema.blank_values(), **saved.arguments)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(f"the saved model {path} cannot be built again: {reason}") from error
    fill(mgvi, saved.weights, path)
    mgvi.mark(saved.trained)
    if saved.own_weight.keys() != mgvi.own_weight.keys():
        raise ModelFileError(f"the saved model {path} is damaged: own_weight is not of its latents")
    mgvi.own_weight = saved.own_weight
    mgvi.history, mgvi.plan, mgvi.interrupted = saved.history, saved.plan, saved.interrupted
    mgvi.agreement = saved.agreement
    if saved.discovery is not None:
        no_cells = np.zeros(0, dtype=int)
        mgvi.discovery = Discovery(saved.discovery, mgvi.families.families, {}, no_cells)
    return mgvi


def read(path: str | Path, components: Iterable[type] = ()) -> Saved:
    """Return what is needed to build a saved model again.

    Raises
    ------
    ModelFileError
        If ``path`` is no saved model, is damaged, or is of an unknown version.
    """
    path, components = path_of("path", path), _classes(components)
    if not (path / SETTINGS).is_file() or not (path / WEIGHTS).is_file():
        raise ModelFileError(f"{path} is not a saved model: it needs {SETTINGS} and {WEIGHTS}")
    try:
        settings = json.loads((path / SETTINGS).read_text())
        settings["format"]
    except Exception as error:  # of reading, of decoding, of text that is nested without end
        raise ModelFileError(f"{path / SETTINGS} is damaged: {error!r}") from error
    own = {component.__name__: component for component in components}
    try:
        _check_files(settings, path)
        weights = read_tensors(path / WEIGHTS)
        settings, weights = to_newest(settings, weights, path)
        check_sizes(settings, weights, path)
        table = history_of(path / HISTORY)
        return Saved(
            arguments_of(settings, own),
            _own_weight(settings["own_weight"]),
            weights,
            table,
            plan_of(settings["plan"]),
            flag("interrupted", settings.get("interrupted", False)),
            flag("trained", settings.get("trained", True)),
            agreement_of(settings.get("agreement", [])),
            discovery_of(settings["discovery"]) if "discovery" in settings else None,
        )
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(f"the saved model {path} is damaged: {error!r}") from error


def _own_weight(weights: dict[str, Any]) -> dict[str, float]:
    return {name: number(f"own_weight of {name}", x, least=0.0) for name, x in weights.items()}


def _check_files(settings: Settings, path: Path) -> None:
    """Refuse files that were not written with the settings; those of earlier versions may be."""
    if (digests := settings.get("files")) is None:
        return
    for name in (WEIGHTS, HISTORY):
        if not (path / name).is_file() or _digest(path / name) != digests[name]:
            raise ModelFileError(
                f"{path / name} is missing, damaged or of another model: it is not what was saved "
                f"with {SETTINGS}; copy the folder anew, with all its files"
            )


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _classes(components: object) -> tuple[type, ...]:
    listed = components if isinstance(components, Iterable) else [components]
    classes = tuple(listed)
    others = [each for each in classes if not isinstance(each, type)]
    if others or not isinstance(components, Iterable):
        raise SettingsError(
            f"components must be a list of classes of yours, not {(others or classes)[0]!r}"
        )
    return classes


def fill(mgvi: Fits, weights: Weights, path: str | Path) -> None:
    """Put saved weights into a model of the saved settings.

    Raises
    ------
    ModelFileError
        If they do not fit each other.
    """
    try:
        mgvi.model.load_state_dict(weights["model"])
        mgvi.guide.load_state_dict(weights["guide"])
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(f"weights and settings of {path} do not fit: {reason}") from error
