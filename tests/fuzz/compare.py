"""What an object holds, as text, and what tells two results apart."""

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from pyro_mgvi import MGVI, GroupedCounts

MOST = 1e-5  # relative, and of the largest value: sums in another order


def fingerprint(x):
    """Return a text that changes with anything that a call could change in ``x``."""
    if isinstance(x, AnnData):
        parts = [x.obs, x.var, dict(x.uns), dict(x.obsm), dict(x.varm), type(x.obs).__name__]
        if not x.isbacked:
            raw = None if x.raw is None else (x.raw.X, x.raw.var)
            parts += [x.X, dict(x.layers), raw]
        return _digest("AnnData", *map(fingerprint, parts))
    if sparse.issparse(x):
        names = ("data", "indices", "indptr", "row", "col", "offsets", "rows")
        parts = [vars(x)[name] for name in names if name in vars(x)]
        parts = parts or [list(x.items()) if x.format == "dok" else x.toarray()]
        return _digest(type(x).__name__, x.shape, *map(fingerprint, parts))
    if isinstance(x, pd.DataFrame):
        columns = [fingerprint(x.iloc[:, i]) for i in range(x.shape[1])]
        return _digest("DataFrame", repr(list(x.columns)), *columns, *map(repr, x.index))
    if isinstance(x, (pd.Series, pd.Index)):
        return _digest(type(x).__name__, x.dtype, x.name, *map(repr, x))
    if isinstance(x, np.ndarray):
        by_value = x.dtype.hasobject or x.dtype.char in "gG"  # long doubles have unused bytes
        content = repr(x.tolist()) if by_value else np.ascontiguousarray(x).tobytes()
        return _digest(type(x).__name__, x.dtype, x.shape, x.flags.writeable, content)
    if isinstance(x, Mapping):
        return _digest("dict", *(f"{key}{fingerprint(value)}" for key, value in x.items()))
    if isinstance(x, (list, tuple)):
        return _digest(type(x).__name__, *map(fingerprint, x))
    if isinstance(x, GroupedCounts):
        return fingerprint([x.x, x.group_n, x.batch_n, x.covariate_nc, x.cells, repr(x.schema)])
    if isinstance(x, MGVI):
        states = (x.model.state_dict(), x.guide.state_dict())
        return fingerprint([{k: v.numpy() for k, v in each.items()} for each in states])
    return type(x).__name__


def _digest(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
    return digest.hexdigest()


def difference(got, wanted, where="the result"):
    """Return what tells two results apart, or None."""
    if isinstance(wanted, (pd.DataFrame, pd.Series)):
        if type(got) is not type(wanted) or list(got.index) != list(wanted.index):
            return f"{where} has another index"
        if isinstance(wanted, pd.DataFrame) and list(got.columns) != list(wanted.columns):
            return f"{where} has columns {list(got.columns)}, not {list(wanted.columns)}"
        return difference(got.to_numpy(), wanted.to_numpy(), where)
    if isinstance(wanted, Mapping):
        if list(got) != list(wanted):
            return f"{where} has {list(got)}, not {list(wanted)}"
        found = (difference(got[key], wanted[key], f"{where}[{key!r}]") for key in wanted)
        return next((text for text in found if text), None)
    if isinstance(wanted, (list, tuple)) and type(got) is type(wanted) and len(got) == len(wanted):
        found = (difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(got, wanted)))
        return next((text for text in found if text), None)
    if sparse.issparse(wanted) or sparse.issparse(got):
        got, wanted = (x.toarray() if sparse.issparse(x) else np.asarray(x) for x in (got, wanted))
    if isinstance(wanted, torch.Tensor):
        got, wanted = got.detach().numpy(), wanted.detach().numpy()
    if isinstance(wanted, (np.ndarray, float, np.floating)):
        got, wanted = np.asarray(got), np.asarray(wanted)
        if got.shape != wanted.shape:
            return f"{where} has shape {got.shape}, not {wanted.shape}"
        if wanted.dtype.kind not in "fc" or got.dtype.kind not in "fciub":
            same = list(got.ravel()) == list(wanted.ravel())
            return None if same else f"{where} is {got!r}, not {wanted!r}"
        most = MOST * max(1e-3, np.nanmax(np.abs(wanted), initial=0.0, where=np.isfinite(wanted)))
        same = np.allclose(got, wanted, rtol=MOST, atol=most, equal_nan=True)
        return None if same else f"{where} is {got!r}, not {wanted!r}"
    if isinstance(wanted, GroupedCounts):
        names = ("schema", "group_n", "batch_n", "covariate_nc", "cells", "x")
        pairs = [{name: _field(data, name) for name in names} for data in (got, wanted)]
        return difference(*pairs, where)
    if isinstance(wanted, MGVI):
        pairs = [(m.model.state_dict(), m.guide.state_dict(), m.schema) for m in (got, wanted)]
        return difference(*pairs, where)
    if is_dataclass(wanted) and type(got) is type(wanted):
        pairs = [{f.name: vars(x)[f.name] for f in fields(x)} for x in (got, wanted)]
        return difference(*pairs, where)
    return None if got == wanted else f"{where} is {got!r}, not {wanted!r}"


def _field(data, name):
    value = getattr(data, name)
    return value.astype(float) if name == "x" else value
