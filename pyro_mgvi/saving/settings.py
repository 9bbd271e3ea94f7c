"""What a model is built from as plain settings, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pyro_mgvi.core import Latent
from pyro_mgvi.data import Schema
from pyro_mgvi.data.checks import some
from pyro_mgvi.data.schema import Modality
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.fitting import Fits
from pyro_mgvi.saving.components import (
    BUILT_IN,
    classes_of,
    describe,
    describe_prior,
    rebuild,
    rebuild_prior,
)
from pyro_mgvi.saving.formats import FORMAT, Settings
from pyro_mgvi.saving.tables import rows_of
from pyro_mgvi.support.described import described
from pyro_mgvi.support.values import flag
from pyro_mgvi.support.versions import versions
from pyro_mgvi.training import SearchSettings, TrainingPlan


def settings_of(mgvi: Fits) -> Settings:
    """Return what a model is built from, and how it was trained, as plain settings.

    Raises
    ------
    SettingsError
        If a component or a prior cannot be described.
    """
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
                **({} if x.modalities is None else {"modalities": x.modalities}),
            }
            for x in mgvi.families
        ],
        **{name: describe(component) for name, component in mgvi.components.items()},
        "observed_library": mgvi.model.observed_library,
        "foreign_sample": mgvi.guide.foreign_sample,
        "own_weight": mgvi.own_weight,
        "given_weight": mgvi.given_weight,
        "plan": None if mgvi.plan is None else asdict(mgvi.plan),
        "interrupted": mgvi.interrupted,
        "trained": mgvi.trained,
        **({"agreement": rows_of(mgvi.agreement)} if len(mgvi.agreement) else {}),
        **({} if mgvi.discovery is None else {"discovery": rows_of(mgvi.discovery.table)}),
    }


def check_comes_back(mgvi: Fits, settings: Settings) -> None:
    """Refuse components that would come back as others, or not at all, before they are written.

    Parameters
    ----------
    mgvi
        The model.
    settings
        Its settings, as they are read again.

    Raises
    ------
    SettingsError
        Naming the component.
    """
    parts = [(name, part, settings[name]) for name, part in mgvi.components.items()]
    for latent, item in zip(mgvi.families, settings["latents"]):
        parts.append((f"foreign of latent {latent.name!r}", latent.foreign, item["foreign"]))
    used = classes_of([part for _, part, _ in parts])
    own = {kind.__name__: kind for kind in used if kind not in BUILT_IN}
    for name, part, description in parts:
        try:
            back: object = rebuild(description, own)
        except Exception as error:  # whatever a class says of arguments that it does not take
            back = error
        if described(back) != described(part):
            raise SettingsError(
                f"{name} cannot be saved: {part!r} would come back as {back!r}; give it settings "
                "of plain numbers, texts and arrays, by names that are texts, and each class a "
                "name of its own"
            )


def arguments_of(settings: Settings, own: Mapping[str, type]) -> dict[str, Any]:
    """Return the arguments of the constructor, but for the initial values.

    Parameters
    ----------
    settings
        Of the newest format.
    own
        Classes of the user by their names.

    Raises
    ------
    ModelFileError
        If a class is not known.
    """
    schema = {"samples": [], **settings["schema"]}
    for name in ("covariate_keys", "genes", "groups", "batches", "samples"):
        schema[name] = _names(schema[name])
    if isinstance(schema["group_key"], list):
        schema["group_key"] = _texts(schema["group_key"])
        schema["levels_gc"] = tuple(map(_texts, schema["levels_gc"]))
    schema["levels_gc"] = tuple(schema.get("levels_gc", ()))
    schema["categories"] = {k: _names(v) for k, v in schema["categories"].items()}
    schema["moments"] = {
        k: (float(mean), float(std)) for k, (mean, std) in schema["moments"].items()
    }
    schema["modalities"] = tuple(Modality(**each) for each in schema.get("modalities", ()))
    for name in ("drop_empty", "use_raw", "round_counts"):
        schema[name] = flag(name, schema.get(name, False))
    schema["left_out"] = int(schema.get("left_out", 0))
    schema["absent"] = {k: _texts(v) for k, v in schema.get("absent", {}).items()}
    latents = [
        Latent(
            item["name"],
            tuple(map(tuple, item["subsets"])),
            item["dim"],
            rebuild({"instance": True, **item["foreign"]}, own),
            rebuild_prior(item["prior"]),
            None if item["copy_names"] is None else _texts(item["copy_names"]),
            _texts(item["modalities"]) if "modalities" in item else None,
        )
        for item in settings["latents"]
    ]
    parts = {name: rebuild(settings[name], own) for name in ("encoder", "decoder", "likelihood")}
    return {
        "schema": Schema(**schema),
        "latents": latents,
        **parts,
        "observed_library": settings["observed_library"],
        "foreign_sample": settings["foreign_sample"],
        "own_weight": settings["given_weight"],
        "seed": settings["seed"],
    }


def _texts(listed: object) -> tuple[str, ...]:
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise TypeError(f"{listed!r} is no list of texts")
    return tuple(listed)


def _names(listed: object) -> tuple[str, ...]:
    """Return texts of which none is there twice."""
    names = _texts(listed)
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise ValueError(f"{some(twice)} is there twice")
    return names


def plan_of(described: Settings | None) -> TrainingPlan | None:
    """Return the plan of saved settings."""
    if described is None:
        return None
    search = described["search"]
    return TrainingPlan(**described | {"search": search and SearchSettings(**search)})
