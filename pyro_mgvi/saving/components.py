"""Components and priors as plain data, and back: a class by its name, and its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin

from pyro_mgvi import likelihoods, networks
from pyro_mgvi.core import Absent, Dirac, SameAsOwn
from pyro_mgvi.errors import ModelFileError, SettingsError
from pyro_mgvi.saving.formats import Settings

BUILT_IN = (
    networks.SeparateEncoders,
    networks.SharedTrunk,
    networks.JointDecoder,
    networks.AdditiveDecoder,
    networks.LogLinearDecoder,
    networks.BasisDecoder,
    networks.ModalityDecoders,
    networks.ModalityEncoders,
    likelihoods.ZINB,
    likelihoods.NB,
    likelihoods.Poisson,
    likelihoods.Gaussian,
    likelihoods.Bernoulli,
    likelihoods.ProteinNB,
    likelihoods.ModalityLikelihoods,
    Dirac,
    SameAsOwn,
    Absent,
)


def describe(component: object) -> Settings:
    """Return a class, a ``functools.partial`` of one, or a dataclass instance as plain data."""
    if isinstance(component, type):
        return {"class": component.__name__, "settings": {}}
    if isinstance(component, partial) and isinstance(component.func, type) and not component.args:
        settings = {name: _setting(value) for name, value in component.keywords.items()}
        return {"class": component.func.__name__, "settings": settings}
    if is_dataclass(component) and not isinstance(component, type):
        with suppress(TypeError):  # a field that cannot be copied
            return {"class": type(component).__name__, "settings": asdict(component)}
    raise SettingsError(
        f"{component!r} cannot be saved: use a class, functools.partial with keywords, "
        "or a dataclass instance"
    )


def _setting(value: object) -> object:
    """Return a setting, components among them described, too, alone or by name."""
    if isinstance(value, (type, partial)):
        return describe(value)
    if isinstance(value, Mapping):
        return {str(name): _setting(each) for name, each in value.items()}
    return value


def _built_setting(value: object, known: dict[str, type]) -> object:
    if not isinstance(value, dict):
        return value
    if value.keys() == {"class", "settings"}:
        return rebuild(value, known)
    return {name: _built_setting(each, known) for name, each in value.items()}


def rebuild(description: Settings, known: dict[str, type]) -> Callable[..., Any]:
    """Return the class (or partial of it) that :func:`describe` described."""
    name, settings = description["class"], description["settings"]
    if name not in known:
        raise ModelFileError(
            f"the saved model uses {name!r}, which is not part of pyro_mgvi: "
            f"pass it, MGVI.load(path, components=[{name}])"
        )
    built = {key: _built_setting(value, known) for key, value in settings.items()}
    return partial(known[name], **built) if built else known[name]


def describe_prior(prior: dist.TorchDistribution | None) -> Settings | None:
    """Return a univariate distribution of Pyro as plain data."""
    if prior is None:
        return None
    name = type(prior).__name__
    if vars(dist).get(name) is not type(prior):
        raise SettingsError(
            f"prior {prior!r} cannot be saved: use a distribution of pyro.distributions"
        )
    return {"class": name, "settings": {k: _numbers(vars(prior)[k]) for k in prior.arg_constraints}}


def rebuild_prior(description: Settings | None) -> dist.TorchDistribution | None:
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


def _numbers(value: np.generic | np.ndarray | torch.Tensor | float) -> object:
    return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value).tolist()
