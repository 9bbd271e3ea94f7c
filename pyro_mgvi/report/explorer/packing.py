"""Numbers as text for the page: whole numbers as they are, others in steps of their range."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

STEPS = 254  # of the values of a gene
LEAST = 1e-6  # differences below are none
MISSING_WORD, MISSING_BYTE = 65535, 255


def whole(values: np.ndarray, kind: type[np.unsignedinteger[Any]]) -> str:
    """Return whole numbers as base64 of little-endian ``kind``.

    Examples
    --------
    >>> whole(np.array([1, 2]), np.uint8)
    'AQI='
    """
    fixed = np.ascontiguousarray(values, np.dtype(kind).newbyteorder("<"))
    return base64.b64encode(fixed.tobytes()).decode()


def words(values: np.ndarray) -> dict[str, Any]:
    """Return numbers in 65,534 equal steps from the lowest to the highest; one more is missing.

    Examples
    --------
    >>> words(np.array([0.0, np.nan, 2.0]))
    {'low': 0.0, 'high': 2.0, 'codes': 'AAD///7/'}
    """
    values = np.asarray(values, float)
    finite = np.isfinite(values)
    low = float(values[finite].min()) if finite.any() else 0.0
    high = float(values[finite].max()) if finite.any() else 0.0
    codes = np.full(values.shape, MISSING_WORD)
    codes[finite] = np.round((values[finite] - low) / ((high - low) or 1.0) * (MISSING_WORD - 1))
    return {"low": low, "high": high, "codes": whole(codes, np.uint16)}


def rows(values_gn: np.ndarray, *others_gn: np.ndarray) -> list[dict[str, Any]]:
    """Return matrices of genes x cells, each gene in 254 equal steps of its range in all of them.

    A step is at most 0.4 % of the range, and a mean over cells is far better than that. One more
    is missing.

    Examples
    --------
    >>> rows(np.array([[0.0, 1.0]]), np.array([[2.0]]))
    [{'low': [0.0], 'high': [2.0], 'codes': 'AH8='}, {'low': [0.0], 'high': [2.0], 'codes': '/g=='}]
    """
    matrices = (values_gn, *others_gn)
    all_gn = np.concatenate(matrices, 1)
    low_g, high_g = (np.nan_to_num(f.reduce(all_gn, axis=1)) for f in (np.fmin, np.fmax))
    span_g = high_g - low_g
    step_g = np.where(span_g > LEAST, span_g, 1.0) / STEPS
    # Short numbers: nobody reads more digits of an expression.
    ends = {"low": low_g.round(6).tolist(), "high": high_g.round(6).tolist()}
    codes = (np.round((matrix - low_g[:, None]) / step_g[:, None]) for matrix in matrices)
    filled = (np.nan_to_num(each, nan=MISSING_BYTE) for each in codes)
    return [{**ends, "codes": whole(each, np.uint8)} for each in filled]
