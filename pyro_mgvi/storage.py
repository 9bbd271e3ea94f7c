"""Saved models: weights and plain settings in a folder, nothing that can run code."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from pyro_mgvi import additive, decoders, encoders, likelihoods, priors, programs
from pyro_mgvi.data import Schema
from pyro_mgvi.errors import ModelFileError, SettingsError
from pyro_mgvi.latents import Latent

FORMAT = 3
SETTINGS, WEIGHTS, HISTORY = "settings.json", "weights.pt", "history.csv"
BUILT_IN = (
    encoders.SeparateEncoders,
    encoders.SharedTrunk,
    decoders.JointDecoder,
    additive.AdditiveDecoder,
    decoders.LogLinearDecoder,
    programs.BasisDecoder,
    likelihoods.ZINB,
    likelihoods.NB,
    likelihoods.Poisson,
    likelihoods.Gaussian,
    priors.Dirac,
    priors.SameAsOwn,
    priors.Davison,
    priors.Absent,
)


def describe(component) -> dict:
    """Return a class, a ``functools.partial`` of one, or a dataclass instance as plain data."""
    if isinstance(component, type):
        return {"class": component.__name__, "settings": {}}
    if isinstance(component, partial) and not component.args:
        return {"class": component.func.__name__, "settings": dict(component.keywords)}
    try:
        return {"class": type(component).__name__, "settings": asdict(component)}
    except TypeError:
        raise SettingsError(
            f"{component!r} cannot be saved: use a class, functools.partial with keywords, "
            "or a dataclass instance"
        ) from None


def rebuild(description: dict, known: dict[str, type]):
    """Return the class (or partial of it) that :func:`describe` described."""
    name, settings = description["class"], description["settings"]
    if name not in known:
        raise ModelFileError(
            f"the saved model uses {name!r}, which is not part of pyro_mgvi: "
            f"pass it, MGVI.load(path, components=[{name}])"
        )
    return partial(known[name], **settings) if settings else known[name]


def write(path: str | Path, mgvi) -> None:
    """Write a model to the folder ``path``, whole or not at all.

    Raises
    ------
    ModelFileError
        If ``path`` exists and is not a saved model.
    """
    path = Path(path)
    if path.exists() and not (path / SETTINGS).is_file():
        raise ModelFileError(f"{path} exists and is not a saved model: choose another path")
    settings = {
        "format": FORMAT,
        "versions": versions(),
        "schema": asdict(mgvi.schema),
        "seed": mgvi.seed,
        "latents": [
            {"name": x.name, "subsets": x.subsets, "dim": x.dim, "foreign": describe(x.foreign)}
            for x in mgvi.model.latents
        ],
        **{name: describe(component) for name, component in mgvi.components.items()},
        "observed_library": mgvi.model.observed_library,
        "own_weight": mgvi.own_weight,
        "given_weight": mgvi.given_weight,
    }
    weights = {"model": mgvi.model.state_dict(), "guide": mgvi.guide.state_dict()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        (partial_path / SETTINGS).write_text(json.dumps(settings, indent=1))
        torch.save(weights, partial_path / WEIGHTS)
        mgvi.history.to_csv(partial_path / HISTORY, index=False)
        if path.exists():
            shutil.rmtree(path)
        partial_path.chmod(0o755)
        partial_path.rename(path)
    finally:
        shutil.rmtree(partial_path, ignore_errors=True)


def read(path: str | Path, components: Iterable[type] = ()) -> tuple[dict, dict, dict]:
    """Return constructor arguments, weights and history of a saved model.

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
        found = settings["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path / SETTINGS} is damaged: {error!r}") from error
    if found != FORMAT:
        raise ModelFileError(
            f"{path} has format {found!r}, written by pyro_mgvi "
            f"{settings.get('versions', {}).get('pyro_mgvi')}; this version reads format {FORMAT}: "
            "install a version that matches"
        )
    known = {component.__name__: component for component in (*BUILT_IN, *components)}
    try:
        schema = dict(settings["schema"])
        for name in ("covariate_keys", "genes", "groups", "batches"):
            schema[name] = tuple(schema[name])
        schema["categories"] = {k: tuple(v) for k, v in schema["categories"].items()}
        schema["moments"] = {k: tuple(v) for k, v in schema["moments"].items()}
        arguments = {
            "schema": Schema(**schema),
            "latents": tuple(
                Latent(
                    item["name"],
                    tuple(tuple(subset) for subset in item["subsets"]),
                    item["dim"],
                    rebuild(item["foreign"], known)(),
                )
                for item in settings["latents"]
            ),
            **{
                name: rebuild(settings[name], known)
                for name in ("encoder", "decoder", "likelihood")
            },
            "observed_library": settings["observed_library"],
            "own_weight": settings["given_weight"],
            "used_weight": settings["own_weight"],
            "seed": settings["seed"],
        }
        weights = torch.load(path / WEIGHTS, map_location="cpu", weights_only=True)
        history = path / HISTORY
        table = pd.read_csv(history) if history.stat().st_size > 1 else pd.DataFrame()
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(f"the saved model {path} is damaged: {error!r}") from error
    return arguments, weights, table


def fill(mgvi, weights: dict, path) -> None:
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
