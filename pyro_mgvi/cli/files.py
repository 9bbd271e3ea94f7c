"""Files of the command line: read or refused, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.errors import DataError, SettingsError


def query(adata: AnnData, where: str) -> np.ndarray:
    """Return which cells fulfil a ``DataFrame.query`` on ``obs``, as a boolean mask."""
    try:
        # No local or global names: a query sees the columns of obs and nothing else.
        kept = adata.obs.eval(where, engine="python", local_dict={}, global_dict={})
    except Exception as error:
        columns = ", ".join(map(str, adata.obs.columns))
        reason = " ".join(str(error).split())
        raise SettingsError(
            f"--where {where!r} does not work on obs: {reason}; its columns are {columns}"
        ) from error
    boolean = isinstance(kept, pd.Series) and pd.api.types.is_bool_dtype(kept.dtype)
    if not boolean or len(kept) != adata.n_obs:
        raise SettingsError(f"--where {where!r} is not true or false for each cell")
    return kept.to_numpy(bool, na_value=False)


def read_h5ad(path: Path) -> AnnData:
    """Read an h5ad, or say why it cannot be read."""
    if not path.is_file():
        raise DataError(f"{path} does not exist: name an h5ad file")
    try:
        return anndata.read_h5ad(path)
    except Exception as error:
        raise DataError(f"{path} cannot be read as h5ad: {error}") from error


def writable(path: Path, make_folder: bool = False) -> None:
    """Refuse a path that cannot be written, before any work is done."""
    if make_folder:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"folder {path.parent} cannot be made: {error}") from error
    if not path.parent.is_dir():
        raise SettingsError(f"cannot write {path}: the folder {path.parent} does not exist")
    if path.suffix in (".h5ad", ".csv", ".html") and path.is_dir():
        raise SettingsError(f"cannot write {path}: it is a folder")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error}") from error


def write_h5ad(adata: AnnData, path: Path) -> None:
    """Write an h5ad, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mgvi-") as folder:
        partial = Path(folder) / path.name
        adata.write_h5ad(partial, compression="gzip")
        os.replace(partial, path)
