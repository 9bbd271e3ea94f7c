"""Expression of the listed genes in the drawn cells: as observed, and as the model expects it."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyro_mgvi.analysis import normalized_expression
from pyro_mgvi.core import DataKind
from pyro_mgvi.core.modalities import Modalities
from pyro_mgvi.data.masks.notes import lacking, prediction_note
from pyro_mgvi.data.stores.in_memory import Counts, dense
from pyro_mgvi.report.explorer.packing import rows, whole
from pyro_mgvi.report.explorer.thinning import thinned
from pyro_mgvi.report.result import Result

PER = 10_000
COMPARED = 2_000  # cells whose expected expression is shown


def observed(result: Result, cells: np.ndarray, names: list[str]) -> dict[str, Any] | None:
    """Return log expression of some genes in some cells; None without a model or a gene.

    The logarithm of one plus the counts per 10,000 (of the model's genes); transformed data as
    they are. A gene that a cell's group has not got is missing, and ``notes`` say that what the
    model expects of it there is predicted.

    Parameters
    ----------
    result
        The fit.
    cells
        Positions.
    names
        Of the genes.
    """
    if result.mgvi is None or result.data is None or not names:
        return None
    position = [result.data.schema.genes.index(name) for name in names]
    x = result.data.counts(cells)
    x_ng = np.asarray(dense(x[:, position]), float)
    unit = "value"
    if result.mgvi.data_kind is DataKind.COUNTS:
        total_ng = _totals(result.modalities, x, position)
        x_ng = np.log1p(PER * x_ng / np.maximum(total_ng, 1.0))
        unit = "log(1 + counts per 10,000)"
        if result.modalities is not None:  # cells that have not got one are in no mean of it
            unit = "log(1 + counts per 10,000 of the modality)"
            x_ng = np.where(total_ng > 0, x_ng, np.nan)
    schema = result.data.schema
    if schema.measured_bg is not None:
        x_ng[~schema.measured_bg[result.data.group_n[cells]][:, position]] = np.nan
    notes = [prediction_note(lacking(schema, name)) for name in names]
    return {"names": names, "notes": notes, "unit": unit, **rows(x_ng.T)[0]}


def _totals(modalities: Modalities | None, x: Counts, position: list[int]) -> np.ndarray:
    """Return each cell's counts, (cells, 1); of several modalities in that of each feature."""
    parts = [slice(None)] if modalities is None else [*modalities.columns.values()]
    total_nk = np.stack([np.asarray(x[:, part].sum(1), float).ravel() for part in parts], 1)
    return total_nk if modalities is None else total_nk[:, modalities.code_g.numpy()[position]]


def expected(result: Result, cells: np.ndarray, names: list[str]) -> dict[str, Any] | None:
    """Return expected expression with all latents, and with the shared ones only.

    None without a model or a gene, or if all latents or none are shared.

    Parameters
    ----------
    result
        The fit.
    cells
        Positions, of which at most 2,000 are taken.
    names
        Of the genes.
    """
    if result.mgvi is None or result.data is None or not names:
        return None
    copies, everyones = result.latents.copies, result.latents.everyones
    shared = list(dict.fromkeys(copy.latent for copy in copies if everyones(copy)))
    if not shared or all(map(everyones, copies)):
        return None
    chosen = thinned(result.group.cat.codes.to_numpy()[cells], COMPARED)
    some = result.data.subset(cells[chosen])
    counts = result.mgvi.data_kind is DataKind.COUNTS
    both = []
    for latents in (None, shared):
        share_ng = normalized_expression(
            result.mgvi, some, latents, names, predict_absent=True
        ).to_numpy(float)
        both.append((np.log1p(PER * share_ng) if counts else share_ng).T)
    full, alone = rows(*both)
    return {
        "cells": whole(chosen, np.uint16),
        "unit": "log(1 + expected counts per 10,000)" if counts else "expected value",
        "low": full["low"],
        "high": full["high"],
        "all": full["codes"],
        "shared": alone["codes"],
    }
