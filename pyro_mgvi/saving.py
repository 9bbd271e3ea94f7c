"""Saved models: weights and plain settings in a folder, nothing that can run code."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin

from pyro_mgvi import likelihoods, networks
from pyro_mgvi.core import Absent, Dirac, Latent, SameAsOwn
from pyro_mgvi.data import Schema
from pyro_mgvi.errors import ModelFileError, SettingsError
from pyro_mgvi.saved_formats import FORMAT, to_newest
from pyro_mgvi.training import SearchSettings, TrainingPlan
from pyro_mgvi.training.program import Program

SETTINGS, WEIGHTS, HISTORY = "settings.json", "weights.pt", "history.csv"
BUILT_IN = (
    networks.SeparateEncoders,
    networks.SharedTrunk,
    networks.JointDecoder,
    networks.AdditiveDecoder,
    networks.LogLinearDecoder,
    networks.BasisDecoder,
    likelihoods.ZINB,
    likelihoods.NB,
    likelihoods.Poisson,
    likelihoods.Gaussian,
    Dirac,
    SameAsOwn,
    Absent,
)


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
    history, plan
        How the model was trained.
    """

    arguments: dict[str, Any]
    own_weight: dict[str, float]
    weights: dict[str, dict]
    history: pd.DataFrame
    plan: TrainingPlan | None


def describe(component: object) -> dict:
    """Return a class, a ``functools.partial`` of one, or a dataclass instance as plain data."""
    if isinstance(component, type):
        return {"class": component.__name__, "settings": {}}
    if isinstance(component, partial) and isinstance(component.func, type) and not component.args:
        return {"class": component.func.__name__, "settings": dict(component.keywords)}
    try:
        return {"class": type(component).__name__, "settings": asdict(component)}
    except TypeError:
        raise SettingsError(
            f"{component!r} cannot be saved: use a class, functools.partial with keywords, "
            "or a dataclass instance"
        ) from None


def rebuild(description: dict, known: dict[str, type]) -> Callable:
    """Return the class (or partial of it) that :func:`describe` described."""
    name, settings = description["class"], description["settings"]
    if name not in known:
        raise ModelFileError(
            f"the saved model uses {name!r}, which is not part of pyro_mgvi: "
            f"pass it, MGVI.load(path, components=[{name}])"
        )
    return partial(known[name], **settings) if settings else known[name]


def describe_prior(prior: dist.TorchDistribution | None) -> dict | None:
    """Return a univariate distribution of Pyro as plain data."""
    if prior is None:
        return None
    name = type(prior).__name__
    if vars(dist).get(name) is not type(prior):
        raise SettingsError(
            f"prior {prior!r} cannot be saved: use a distribution of pyro.distributions"
        )
    return {"class": name, "settings": {k: _numbers(vars(prior)[k]) for k in prior.arg_constraints}}


def rebuild_prior(description: dict | None) -> dist.TorchDistribution | None:
    """Return the distribution that :func:`describe_prior` described."""
    if description is None:
        return None
    found = vars(dist).get(description["class"])
    if not (isinstance(found, type) and issubclass(found, TorchDistributionMixin)):
        raise ModelFileError(f"the saved model has an unknown prior {description['class']!r}")
    return found(**{k: torch.tensor(value) for k, value in description["settings"].items()})


def plain(value: object) -> object:
    """Return NumPy's and torch's numbers as Python's, for JSON."""
    if isinstance(value, (np.generic, torch.Tensor, np.ndarray)):
        return _numbers(value)
    raise SettingsError(
        f"a setting of type {type(value).__name__} cannot be saved ({value!r}): use plain numbers "
        "and texts"
    )


def _numbers(value) -> float | list:
    return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value).tolist()


def write(path: str | Path, mgvi: Program) -> None:
    """Write a model to the folder ``path``, whole or not at all.

    Raises
    ------
    ModelFileError
        If ``path`` exists and is not a saved model.
    """
    path = Path(path)
    if path.exists() and not (path / SETTINGS).is_file():
        raise ModelFileError(f"{path} exists and is not a saved model: choose another path")
    text = json.dumps(_settings(mgvi), indent=1, default=plain)
    weights = {"model": mgvi.model.state_dict(), "guide": mgvi.guide.state_dict()}
    path.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    old = new.with_name(new.name + "-old")
    try:
        (new / SETTINGS).write_text(text)
        torch.save(weights, new / WEIGHTS)
        mgvi.history.to_csv(new / HISTORY, index=False)
        new.chmod(0o755)
        if path.exists():  # moved aside, not deleted, until the new one is there
            path.rename(old)
        new.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _settings(mgvi: Program) -> dict:
    return {
        "format": FORMAT,
        "versions": versions(),
        "schema": asdict(mgvi.schema),
        "seed": mgvi.seed,
        "latents": [
            {
                "name": x.name,
                "subsets": x.subsets,
                "dim": x.dim,
                "foreign": describe(x.foreign),
                "prior": describe_prior(x.prior),
                "copy_names": x.copy_names,
            }
            for x in mgvi.families
        ],
        **{name: describe(component) for name, component in mgvi.components.items()},
        "observed_library": mgvi.model.observed_library,
        "foreign_sample": mgvi.guide.foreign_sample,
        "own_weight": mgvi.own_weight,
        "given_weight": mgvi.given_weight,
        "plan": None if mgvi.plan is None else asdict(mgvi.plan),
    }


def read(path: str | Path, components: Iterable[type] = ()) -> Saved:
    """Return what is needed to build a saved model again.

    Raises
    ------
    ModelFileError
        If ``path`` is no saved model, is damaged, or is of an unknown version.
    """
    path = Path(path)
    if not (path / SETTINGS).is_file() or not (path / WEIGHTS).is_file():
        raise ModelFileError(f"{path} is not a saved model: it needs {SETTINGS} and {WEIGHTS}")
    try:
        settings = json.loads((path / SETTINGS).read_text())
        settings["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path / SETTINGS} is damaged: {error!r}") from error
    known = {component.__name__: component for component in (*BUILT_IN, *components)}
    try:
        weights = torch.load(path / WEIGHTS, map_location="cpu", weights_only=True)
        settings, weights = to_newest(settings, weights, path)
        history = path / HISTORY
        table = pd.read_csv(history) if history.stat().st_size > 1 else pd.DataFrame()
        return Saved(
            _arguments(settings, known),
            settings["own_weight"],
            weights,
            table,
            _plan(settings["plan"]),
        )
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(f"the saved model {path} is damaged: {error!r}") from error


def _arguments(settings: dict, known: dict[str, type]) -> dict[str, Any]:
    schema = dict(settings["schema"])
    for name in ("covariate_keys", "genes", "groups", "batches"):
        schema[name] = tuple(schema[name])
    for name in ("categories", "moments"):
        schema[name] = {k: tuple(v) for k, v in schema[name].items()}
    latents = [
        Latent(
            item["name"],
            tuple(map(tuple, item["subsets"])),
            item["dim"],
            rebuild(item["foreign"], known)(),
            rebuild_prior(item["prior"]),
            None if item["copy_names"] is None else tuple(item["copy_names"]),
        )
        for item in settings["latents"]
    ]
    parts = {name: rebuild(settings[name], known) for name in ("encoder", "decoder", "likelihood")}
    return {
        "schema": Schema(**schema),
        "latents": latents,
        **parts,
        "observed_library": settings["observed_library"],
        "foreign_sample": settings["foreign_sample"],
        "own_weight": settings["given_weight"],
        "seed": settings["seed"],
    }


def _plan(described: dict | None) -> TrainingPlan | None:
    if described is None:
        return None
    search = described["search"]
    return TrainingPlan(**described | {"search": search and SearchSettings(**search)})


def fill(mgvi: Program, weights: dict[str, dict], path: str | Path) -> None:
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
        raise ModelFileError(f"weights and settings of {path} do not fit: {error}") from error


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {
        name.replace("-", "_"): version(name)
        for name in ("pyro-mgvi", "pyro-ppl", "torch", "anndata", "numpy")
    }
