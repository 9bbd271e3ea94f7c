"""Files with several modalities: read, and made a model of."""

from __future__ import annotations

import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import h5py

from pyro_mgvi import likelihoods
from pyro_mgvi.cli.files import feature_masks, read_cells
from pyro_mgvi.core.latents.text import parse
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.mgvi import MGVI
from pyro_mgvi.support.optional import require

OF_COUNTS = ("NB", "ZINB", "Poisson", "Bernoulli", "ProteinNB")


def holds_modalities(path: Path) -> bool:
    """Return whether a path is that of an h5mu file, by what it holds."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            return str(file.attrs.get("encoding-type", "")).lower() == "mudata" and "mod" in file
    except OSError:  # damaged, which whoever reads it says
        return False


def read_any(path: Path, layer: str | None = None) -> Any:
    """Read a MuData from an h5mu file, or annotated data, with counts in a layer, from another."""
    if not holds_modalities(path):
        return read_cells(path, layer=layer)
    mudata = require("mudata", "mudata")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later mudata will do
            return mudata.read_h5mu(path)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as h5mu: {reason}") from error


def of_modalities(arguments: Namespace) -> tuple[Any, GroupedCounts, MGVI]:
    """Return the cells of a MuData, their counts and a model for them.

    Raises
    ------
    SettingsError
        If an option is for one modality alone, or a likelihood is none.
    """
    given = {
        "--layer": arguments.layer,
        "--use-raw": arguments.use_raw,
        "--round-counts": arguments.round_counts,
        "--backed": arguments.backed,
        "--discover": arguments.discover,
        "--genes": arguments.genes is not None,
    }
    refused = [option for option, value in given.items() if value]
    if refused:
        raise SettingsError(
            f"{refused[0]} is for one modality, and {arguments.input} has several: leave it out"
        )
    if arguments.out is not None and arguments.out.suffix.lower() != ".h5mu":
        raise SettingsError(
            f"--out {arguments.out}: several modalities are written as h5mu; name it .h5mu"
        )
    mdata = read_any(arguments.input)
    keys = arguments.group_key
    mgvi = MGVI.from_mudata(
        mdata,
        keys[0] if len(keys) == 1 else tuple(keys),
        _likelihoods(arguments.modality, list(mdata.mod)),
        batch_key=arguments.batch_key,
        covariate_keys=arguments.covariate_key,
        sample_key=arguments.sample_key,
        sample_effects=arguments.sample_effects,
        feature_masks=feature_masks(arguments.feature_mask),  # type: ignore[arg-type] # checked
        drop_empty=arguments.drop_empty,
        latents=arguments.latents and [parse(spec) for spec in arguments.latents],
        seed=arguments.seed,
    )
    return mdata, mgvi.read(mdata), mgvi


def _likelihoods(given: list[str] | None, names: list[str]) -> dict[str, Any]:
    """Return a likelihood for each modality."""
    chosen = {}
    for text in given or [f"{name}=NB" for name in names]:
        name, is_one, likelihood = text.rpartition("=")
        if not is_one or not name or likelihood not in OF_COUNTS:
            raise SettingsError(
                f"--modality {text!r} is no NAME=LIKELIHOOD: write rna=ZINB prot=NB, with one of "
                f"{', '.join(OF_COUNTS)}"
            )
        if name in chosen:
            raise SettingsError(f"--modality names modality {name!r} twice")
        chosen[name] = vars(likelihoods)[likelihood]
    return chosen
