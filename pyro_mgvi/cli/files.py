"""Inputs of the command line: read, or refused in one line."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.cli.outputs import zarr_encoding
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
    chosen: np.ndarray = kept.to_numpy(bool, na_value=False)
    return chosen


def read_cells(path: Path, backed: bool = False, layer: str | None = None) -> AnnData:
    """Read annotated data from an h5ad or from a zarr folder, or say why they cannot be read.

    With ``backed``, X of an h5ad stays in the file; ``layer`` is the one with the counts.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist: name an h5ad file or a zarr folder")
    try:
        form = form_of(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of anndata and zarr, on how the file was written
            if form == "zarr" and backed:
                raise DataError(f"{path} is a zarr folder, and --backed is for h5ad: leave it out")
            if form == "zarr":
                check_chunks(path, layer)
                return anndata.read_zarr(path)
            return anndata.read_h5ad(path, backed="r" if backed else None)
    except DataError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        of_file = "h5mu" if path.suffix.lower() == ".h5mu" else "h5ad"
        named = "zarr" if path.is_dir() else of_file
        raise DataError(f"{path} cannot be read as {named}: {reason}") from error


def form_of(path: Path) -> str:
    """Return "h5ad" or "zarr", or refuse what is neither."""
    if path.is_dir():
        form, encoding = "zarr", zarr_encoding(path)
        if encoding is None:
            raise DataError(f"{path} is a folder and no zarr: name an h5ad file or a zarr folder")
    else:
        with h5py.File(path, "r") as file:
            form, encoding = "h5ad", str(file.attrs.get("encoding-type", "unknown"))
    if encoding.lower() == "mudata":
        raise DataError(
            f"{path} holds several modalities (MuData): write the one with the RNA counts as "
            f"h5ad, mudata.read({path.name!r})['rna'].write_h5ad('rna.h5ad'), and name that"
        )
    return form


def check_chunks(path: Path, layer: str | None = None) -> None:
    """Refuse sparse matrices of which a chunk is missing: zarr reads it as zeros, without a word.

    It does not write chunks of zeros, either: these must contradict the rest of the matrix. Counts
    store no zeros; layers that nobody asked for may.

    Parameters
    ----------
    path
        A zarr folder.
    layer
        The one with the counts, beside ``X`` and ``raw/X``.

    Raises
    ------
    DataError
        Naming the matrix.
    """
    import zarr  # not all who read h5ad have it

    root: Any = zarr.open_group(str(path), mode="r")
    layers = [f"layers/{name}" for name in root["layers"]] if "layers" in root else []
    for name in ("X", "raw/X", *layers):
        if name not in root or not isinstance(root[name], zarr.Group):  # dense
            continue
        parts = {part: root[f"{name}/{part}"] for part in ("data", "indices", "indptr")}
        lost = {part: n for part, array in parts.items() if (n := _chunks_of_zeros(array))}
        if name not in ("X", "raw/X", f"layers/{layer}"):
            lost.pop("data", None)
        if lost.keys() - {"data"} and _in_order(parts["indices"][:], parts["indptr"][:]):
            lost = {part: n for part, n in lost.items() if part == "data"}
        if lost:
            part, n = next(iter(lost.items()))
            stored = "; if they hold nothing but stored zeros, write it without (eliminate_zeros)"
            raise DataError(
                f"{path} has lost {n} of {parts[part].nchunks} chunk(s) of {name}/{part}: copy the "
                f"folder anew, with all its files{stored if part == 'data' else ''}"
            )


def _chunks_of_zeros(array: Any) -> int:
    """Return how many chunks of a zarr array are zeros, if some may not be there."""
    if array.nchunks_initialized >= array.nchunks:  # shards have room for more
        return 0
    values, size = array[:], array.chunks[0]
    return sum(not values[at : at + size].any() for at in range(0, len(values), size))


def _in_order(indices: np.ndarray, indptr: np.ndarray) -> bool:
    """Return whether rows follow one another, and the indices in each of them rise."""
    if (np.diff(indptr) < 0).any() or indptr[-1] != len(indices):
        return False
    rises = np.append(np.diff(indices) > 0, True)
    rises[indptr[1:][indptr[1:] > 0] - 1] = True  # the last of each row
    return bool(rises.all())


def feature_masks(given: list[str] | None) -> str | dict[str, str] | None:
    """Return columns by group, or the one name of a table."""
    if given is None or (len(given) == 1 and "=" not in given[0]):
        return None if given is None else given[0]
    masks: dict[str, str] = {}
    for text in given:
        group, is_one, column = text.rpartition("=")
        if not is_one or not group or not column:
            raise SettingsError(
                f"--feature-mask {text!r} is no GROUP=COLUMN: write human=in_human mouse=in_mouse"
            )
        if group in masks:
            raise SettingsError(f"--feature-mask names group {group!r} twice")
        masks[group] = column
    return masks
