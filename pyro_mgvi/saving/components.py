"""Components and priors as plain data, and back: a class by its name, and its settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
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


KEYS = {"class", "settings"}  # of a description
MARKS = {"built_in", "instance"}  # which those of earlier versions lack
WIDEST = 16  # bytes of a number; more would ask for memory without end


def describe(component: object) -> Settings:
    """Return a class, a ``functools.partial`` of one, or a dataclass instance as plain data."""
    if isinstance(component, type):
        return _description(component, {})
    if isinstance(component, partial) and isinstance(component.func, type) and not component.args:
        return _description(component.func, component.keywords)
    if is_dataclass(component):
        values = {field.name: getattr(component, field.name) for field in fields(component)}
        return {**_description(type(component), values), "instance": True}
    raise SettingsError(
        f"{component!r} cannot be saved: use a class, functools.partial with keywords, "
        "or a dataclass instance"
    )


def _description(kind: type, values: Mapping[str, object]) -> Settings:
    settings = {name: _setting(value) for name, value in values.items()}
    return {"class": kind.__name__, "settings": settings, "built_in": kind in BUILT_IN}


def _setting(value: object) -> object:
    """Return a setting as JSON has it, what is of another kind with a name of its kind."""
    if isinstance(value, (type, partial)) or is_dataclass(value):
        return describe(value)
    if isinstance(value, Mapping):
        return {name: _setting(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_setting(each) for each in value]
    if isinstance(value, tuple):
        return {"tuple": [_setting(each) for each in value]}
    if isinstance(value, np.ndarray):
        texts = value.dtype.kind == "U"  # as wide as the longest
        return {"array": value.tolist(), "dtype": "U" if texts else value.dtype.str}
    if isinstance(value, torch.Tensor):
        return {"tensor": value.tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
    return value


def _built_setting(value: object, own: Mapping[str, type]) -> object:
    if isinstance(value, list):
        return [_built_setting(each, own) for each in value]
    if not isinstance(value, dict):
        return value
    if KEYS <= value.keys() <= KEYS | MARKS:
        return rebuild(value, own)
    if value.keys() == {"tuple"}:
        return tuple(_built_setting(each, own) for each in value["tuple"])
    if value.keys() == {"array", "dtype"}:
        if (kind := np.dtype(value["dtype"])).itemsize > WIDEST:
            raise ModelFileError(f"an array of the saved model is of the unknown type {kind}")
        return np.array(value["array"], kind)
    if value.keys() == {"tensor", "dtype"}:
        return torch.tensor(value["tensor"], dtype=vars(torch)[value["dtype"]])
    return {name: _built_setting(each, own) for name, each in value.items()}


def is_built_in(description: Settings, own: Collection[str] = ()) -> bool:
    """Return whether a class is one of ours; earlier versions left it to the name alone."""
    name: str = description["class"]
    of_name = name not in own and name in {kind.__name__ for kind in BUILT_IN}
    return bool(description.get("built_in", of_name))


def rebuild(description: Settings, own: Mapping[str, type]) -> Callable[..., Any]:
    """Return the class (or partial of it, or instance) that :func:`describe` described.

    Parameters
    ----------
    description
        Of a component.
    own
        Classes of the user by their names.

    Raises
    ------
    ModelFileError
        If the class is not known.
    """
    name, settings = description["class"], description["settings"]
    ours = is_built_in(description, own)
    known = {kind.__name__: kind for kind in BUILT_IN} if ours else own
    if name not in known:
        raise ModelFileError(
            f"the saved model uses {name!r}, which is not part of pyro_mgvi: "
            f"pass it, MGVI.load(path, components=[{name}])"
        )
    built = {key: _built_setting(value, own) for key, value in settings.items()}
    made: Callable[..., Any] = partial(known[name], **built) if built else known[name]
    return made() if description.get("instance", False) else made


def classes_of(component: object) -> Iterator[type]:
    """Yield the classes that a component is made of, its settings' among them."""
    if isinstance(component, type):
        yield component
    elif isinstance(component, partial):
        yield from classes_of((component.func, component.keywords))
    elif isinstance(component, Mapping):
        yield from classes_of([*component.values()])
    elif isinstance(component, (list, tuple)):
        for each in component:
            yield from classes_of(each)
    elif is_dataclass(component):
        yield type(component)
        yield from classes_of([getattr(component, field.name) for field in fields(component)])


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
