"""What a fit has left in ``uns``, ``obsm`` and ``obs``: found, or named as missing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.analysis.scverse.written import settings_of
from pyro_mgvi.core.design import Design
from pyro_mgvi.data import checks
from pyro_mgvi.data.matching import groups_of
from pyro_mgvi.data.modalities.joining import as_modalities
from pyro_mgvi.data.schema import Modality
from pyro_mgvi.errors import DataError
from pyro_mgvi.plots.colours import is_number
from pyro_mgvi.support.versions import versions
from pyro_mgvi.training.program import Program

PREFIX = "X_mgvi_"
LEVELS = 24  # a column with more levels is not chosen by itself
CHOSEN = 4  # as many columns are chosen by themselves


def recorded_fit(
    adata: AnnData | Any, mgvi: Program | None
) -> tuple[dict[str, Any], dict[str, Any], pd.DataFrame]:
    """Return settings, versions and history of a fit, as ``uns`` or else its model has them.

    Raises
    ------
    DataError
        If neither has them, or the record is damaged.
    """
    if "mgvi" not in adata.uns:
        if mgvi is None:
            raise DataError(
                "the file has no uns['mgvi']: it is no result of `pyro-mgvi fit`; "
                "fit it first, or name its model (--model)"
            )
        return json.loads(settings_of(mgvi)), versions(), mgvi.history
    record = adata.uns["mgvi"]
    try:
        settings = dict(json.loads(record["settings"]))
        recorded, history = dict(record["versions"]), pd.DataFrame(record["history"])
        wanted = ("group_key",) if mgvi is not None else ("group_key", "latents")
        missing = [f"settings: {key}" for key in wanted if key not in settings]
        columns = ("epoch", "train") if len(history) else ()
        missing += [f"history: {key}" for key in columns if key not in history]
        losses = [key for key in ("epoch", "train", "validation") if key in history]
        missing += [f"history: numbers in {key}" for key in losses if not is_number(history[key])]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"uns['mgvi'] is damaged: {error!r}; fit again") from error
    if missing:
        raise DataError(f"uns['mgvi'] lacks {', '.join(missing)}; fit again")
    return settings, recorded, history


def modalities_read(
    mdata: Any, mgvi: Program | None, settings: Mapping[str, Any]
) -> tuple[Modality, ...]:
    """Return the modalities that a fit was of: those of its model, or those that are recorded.

    Raises
    ------
    DataError
        If there are none, or one is not in the data.
    """
    if mgvi is not None:
        if not mgvi.schema.modalities:
            raise DataError(
                "the model is of one AnnData, and the result has several modalities: name the "
                "model of the same fit"
            )
        return mgvi.schema.modalities
    if not settings.get("modalities"):
        raise DataError(
            "uns['mgvi'] does not say of which modalities the fit is: name its model (--model), "
            "or fit again"
        )
    return as_modalities(mdata, settings["modalities"], settings.get("layers"))


def groups_of_fit(
    adata: AnnData,
    key: str | tuple[str, ...],
    mgvi: Program | None,
    settings: Mapping[str, Any],
) -> tuple[pd.Series, Design]:
    """Return the group of each cell, and the design, in the order of the model or of the record.

    Raises
    ------
    DataError
        If they are of other groups than the model.
    """
    if mgvi is None:
        _, found = groups_of(adata, key)
        place = {name: i for i, name in enumerate(settings.get("groups", ()))}
        order = np.argsort([place.get(name, len(place)) for name in found.groups], kind="stable")
        return groups_of(adata, key, [found.levels_gc[i] for i in order])
    schema = mgvi.schema
    if schema.group_key != key:
        raise DataError(
            f"the model is of other groups: {schema.group_key!r} with "
            f"{checks.some(schema.groups)}, the result {key!r}; name the model of the same fit"
        )
    group, design = groups_of(adata, key, schema.design.levels_gc)
    empty = [name for name in schema.groups if not (group == name).any()]
    if empty:
        raise DataError(
            f"the result has no cell of {checks.some(empty)} (groups of {key!r}), and the model "
            "is of such cells, too: report on all cells of the fit, or without the model"
        )
    return group, design


def with_latents(adata: AnnData) -> np.ndarray:
    """Return which cells have a value of some latent, boolean."""
    values = [np.asarray(adata.obsm[key], float) for key in adata.obsm if key.startswith(PREFIX)]
    known: np.ndarray = np.isfinite(np.hstack([np.zeros((adata.n_obs, 0)), *values])).any(1)
    return known if known.any() else ~known  # without any latent there is something else to say


def check_latent(adata: AnnData, key: str, dim: int) -> None:
    """Refuse a file in which a latent is missing, or is none."""
    if key not in adata.obsm:
        found = checks.some([k for k in adata.obsm if k.startswith(PREFIX)], 20) or "none"
        raise DataError(f"obsm[{key!r}] is missing; the latents there are: {found}")
    shape = np.shape(adata.obsm[key])
    if not pd.api.types.is_numeric_dtype(np.asarray(adata.obsm[key]).dtype):
        raise DataError(f"obsm[{key!r}] holds no numbers")
    if shape != (adata.n_obs, dim):
        raise DataError(f"obsm[{key!r}] has shape {shape}, not {(adata.n_obs, dim)}")


def chosen_labels(
    adata: AnnData, labels: Sequence[str] | None, taken: tuple[str | None, ...]
) -> tuple[str, ...]:
    """Return the columns that were asked for, or those that look like labels."""
    if labels is not None:
        if isinstance(labels, str) or not isinstance(labels, Iterable):
            raise DataError(f"labels must be a list of columns of obs, not {labels!r}")
        labels = tuple(labels)
        for column in labels:
            values = checks.column(adata, column, "label")
            if values.dtype == object and _n_levels(values) is None:
                raise DataError(
                    f"label {column!r} holds values that are no labels, such as lists: make texts "
                    f"of them, adata.obs[{column!r}] = adata.obs[{column!r}].map(str)"
                )
        return tuple(column for column in labels if column not in taken)
    once = adata.obs.columns[~adata.obs.columns.duplicated(keep=False)]
    chosen = [
        column
        for column in once
        if column not in taken
        and not pd.api.types.is_numeric_dtype(adata.obs[column])
        and 2 <= (_n_levels(adata.obs[column]) or 0) <= LEVELS
    ]
    return tuple(chosen[:CHOSEN])


def _n_levels(values: pd.Series) -> int | None:
    """Return how many different values there are; None of lists and the like, which are none."""
    try:
        return int(values.nunique())
    except TypeError:
        return None
