"""Saved models of earlier formats, brought up to the newest.

====== ============= ==============================================================
format written by    what is new
====== ============= ==============================================================
3      0.1.0.dev     the log-linear path is stored as inputs x genes
4      0.1.0         plan, priors and names of copies, which dimensions are active
====== ============= ==============================================================

Settings of format 4 name the digests of the other files, which those of development versions lack.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from pyro_mgvi.errors import ModelFileError

FORMAT = 4

Settings = dict[str, Any]  # what settings.json holds
Weights = dict[str, dict[str, Tensor]]  # states of model and guide


def to_newest(settings: Settings, weights: Weights, path: Path) -> tuple[Settings, Weights]:
    """Return settings and weights as the newest format has them.

    Raises
    ------
    ModelFileError
        If the format is unknown, or holds something that no longer exists.
    """
    if settings["format"] == 3:
        return _from_3(settings, weights, path)
    if settings["format"] != FORMAT:
        written = settings.get("versions", {}).get("pyro_mgvi")
        raise ModelFileError(
            f"{path} has format {settings['format']!r}, written by pyro_mgvi {written}; this "
            f"version reads formats 3 and {FORMAT}: install a version that matches"
        )
    return settings, weights


def _from_3(settings: Settings, weights: Weights, path: Path) -> tuple[Settings, Weights]:
    settings = dict(settings)
    encoder = settings["encoder"]
    kept = dict(encoder["settings"])
    settings["foreign_sample"] = kept.pop("foreign_sample", None)
    settings["encoder"] = {**encoder, "settings": kept}
    settings["latents"] = [_latent_from_3(item, path) for item in settings["latents"]]
    if settings["decoder"]["class"] == "AdditiveDecoder" and _overlapping(settings):
        raise ModelFileError(
            f"{path}: an AdditiveDecoder of format 3 adds the profiles of the several copies that "
            "a group owns, which was a fault, and is no longer done: train the model again"
        )
    settings["plan"] = None
    settings["schema"] = {**settings["schema"], "drop_empty": False}
    return settings, {part: _renamed(state) for part, state in weights.items()}


def _latent_from_3(item: Settings, path: Path) -> Settings:
    foreign = dict(item["foreign"])
    if foreign["class"] == "Davison":  # told own and foreign copies apart, as all priors do now
        foreign["class"] = "SameAsOwn"
    if foreign["class"] == "Dirac":
        if foreign["settings"].get("value", 0.0) != 0.0:
            raise ModelFileError(
                f"{path}: latent {item['name']!r} has a Dirac prior away from zero, which the "
                "decoder never saw and which no longer exists: train the model again"
            )
        foreign["settings"] = {}
    return {**item, "foreign": foreign, "prior": None, "copy_names": None}


def _overlapping(settings: Settings) -> bool:
    """Return whether some group owns several copies of one family."""
    groups = settings["schema"]["groups"]
    families = ([set(subset) for subset in item["subsets"]] for item in settings["latents"])
    return any(sum(group in owners for owners in each) > 1 for each in families for group in groups)


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "in_use_"
    return {
        f"active.dims_{name.removeprefix(prefix)}" if name.startswith(prefix) else name: value
        for name, value in state.items()
    }
