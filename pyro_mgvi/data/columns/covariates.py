"""Covariates: levels of categorical ones, moments of continuous ones, and what is neither."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.data.checks import labels, some
from pyro_mgvi.errors import DataError, DataWarning, warn

CODES = range(3, 11)  # so many different whole numbers are probably codes
LARGEST = 1e30  # squares of more are soon no numbers
CLOSE = 1e-12  # of their mean: numbers that differ by less are rounded to one another
#: What pandas calls them: each would be a level of its own.
TIMES = ("datetime64", "datetime", "date", "time", "timedelta64", "timedelta", "period")


def covariates(
    adata: AnnData, covariate_keys: Iterable[str]
) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[float, float]]]:
    """Return levels of categorical covariates, and moments of continuous ones.

    Raises
    ------
    DataError
        If one is the same in every cell, or its values cannot be used as they are.

    Warns
    -----
    DataWarning
        If whole numbers may be codes.
    """
    categories: dict[str, tuple[str, ...]] = {}
    moments: dict[str, tuple[float, float]] = {}
    for key in covariate_keys:
        column = _covariate(adata, key)
        _refuse_unclear(column, key)
        if _is_numeric(column):
            values = continuous(adata, key)
            moments[key] = (float(values.mean()), float(values.std()))
            _may_be_codes(column, key)
            constant = column.nunique() < 2
        else:
            categories[key] = tuple(labels(adata, key).cat.categories)
            constant = len(categories[key]) < 2
        if constant:
            raise DataError(
                f"covariate {key!r} has the same value in every cell: it would be registered "
                "but used by nothing; leave it out"
            )
        if key in moments and moments[key][1] <= CLOSE * abs(moments[key][0]):
            raise DataError(
                f"covariate {key!r} holds numbers that differ too little for their size "
                f"({column.min()} to {column.max()}): make codes text, adata.obs[{key!r}] = "
                f"adata.obs[{key!r}].astype(str); of measurements, subtract the smallest"
            )
    return categories, moments


def _refuse_unclear(column: pd.Series, key: str) -> None:
    """Refuse times and the like: each would be a level of its own."""
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind in (*TIMES, "decimal") or (kind == "integer" and column.dtype == object):
        raise DataError(
            f"covariate {key!r} holds {kind} values, each of which would be a level of its own: "
            f"make it a number, such as days since the first, or text, adata.obs[{key!r}] = "
            f"adata.obs[{key!r}].astype(str)"
        )


def _may_be_codes(column: pd.Series, key: str) -> None:
    """Warn of integers that may be codes; two levels are the same as codes and as numbers."""
    levels = sorted(column.dropna().unique())
    if pd.api.types.is_integer_dtype(column) and len(levels) in CODES:
        warn(
            f"covariate {key!r} holds {len(levels)} different whole numbers ({some(levels)}) and "
            f"is taken as a number: if they are codes, write adata.obs[{key!r}] = "
            f"adata.obs[{key!r}].astype('category'); if not, astype(float) says so",
            DataWarning,
        )


def _covariate(adata: AnnData, key: str) -> pd.Series:
    """Return a covariate; numbers among missing values, or kept as objects, are numbers."""
    found: pd.Series = adata.obs[key].infer_objects()
    return found


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def continuous(adata: AnnData, key: str) -> np.ndarray:
    """Return a numeric covariate; refuse text, and values that are not finite or too large."""
    column = _covariate(adata, key)
    if not _is_numeric(column):
        raise DataError(f"covariate {key!r} was numeric, but holds {column.dtype} values here")
    values: np.ndarray = column.to_numpy(float, na_value=np.nan)
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(
            f"covariate {key!r} is not finite for cell(s) {some(adata.obs_names[bad])}; "
            "fill in or remove them"
        )
    bad = np.abs(values) > LARGEST
    if bad.any():
        raise DataError(
            f"covariate {key!r} is beyond {LARGEST:g} for cell(s) {some(adata.obs_names[bad])}; "
            "correct these values, or divide them all"
        )
    return values
