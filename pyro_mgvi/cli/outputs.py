"""Outputs of the command line: checked before any work, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi import saving
from pyro_mgvi.analysis.latent_values import latent_blocks
from pyro_mgvi.analysis.scverse.written import PREFIX
from pyro_mgvi.core.copies import Copy
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.modalities import is_mudata
from pyro_mgvi.errors import DataError, MGVIError, SettingsError
from pyro_mgvi.support.files.endings import PACKED, Kind, misnamed, unpacked
from pyro_mgvi.support.files.whole_files import written_whole
from pyro_mgvi.training.program import Program

try:
    from anndata.io import write_elem
except ModuleNotFoundError:  # before anndata 0.11
    from anndata.experimental import write_elem

CHUNK = 4096  # cells of an array that a file stores together


class Output(NamedTuple):
    """A path to write to, and the option that named it."""

    option: str
    path: Path
    kind: Kind

    @property
    def is_folder(self) -> bool:
        """Whether it will be a folder, which replaces all that is in it."""
        return self.kind is Kind.MODEL or is_zarr_name(self.path)


def is_zarr_name(path: Path) -> bool:
    """Return whether a name is that of a zarr folder."""
    return path.suffix.lower() == ".zarr"


def zarr_encoding(path: Path) -> str | None:
    """Return what a zarr folder says that it holds, such as "anndata"; None if it is none."""
    if not path.is_dir():
        return None
    attributes: dict[str, Any] = {}
    try:
        if (path / "zarr.json").is_file():
            attributes = json.loads((path / "zarr.json").read_text()).get("attributes", {})
        elif (path / ".zattrs").is_file():
            attributes = json.loads((path / ".zattrs").read_text())
        elif not (path / ".zgroup").is_file():
            return None
        return str(attributes.get("encoding-type", "unknown"))
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path} cannot be read as zarr: {error}") from error


def check_outputs(
    outputs: Sequence[Output], inputs: Sequence[Path] = (), force: bool = False
) -> None:
    """Refuse paths that cannot be written, or should not be, before any work is done.

    Parameters
    ----------
    outputs
        Where to write.
    inputs
        What is read, which is not to be overwritten.
    force
        Overwrite an input all the same, or a file that is no result.

    Raises
    ------
    SettingsError, ModelFileError
        Naming the path and what is the matter with it.
    """
    for output in outputs:
        try:
            _check(output, force)
            for path in inputs:
                _check_input(output, path, force)
        except MGVIError:
            raise
        except (OSError, ValueError) as error:  # a name too long, a broken zarr.json
            raise _refused(output, " ".join(str(error).split())) from error
    for i, one in enumerate(outputs):
        for other in outputs[i + 1 :]:
            if _same(one.path, other.path):
                raise _refused(other, f"it is what {one.option} names, too")
            for outer, inner in ((one, other), (other, one)):
                if outer.is_folder and _within(inner.path, outer.path):
                    raise _refused(inner, f"it is in the folder that {outer.option} replaces")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of ``path`` when all is written.

    Raises
    ------
    SettingsError
        If anything fails; ``path`` is what it was.
    """
    try:
        with warnings.catch_warnings(), written_whole(path) as part:
            warnings.simplefilter("ignore")  # anndata on formats of zarr to come
            yield part
    except MGVIError:
        raise
    except Exception as error:
        raise SettingsError(f"cannot write {path}: {' '.join(str(error).split())}") from error


def write_cells(adata: AnnData, path: Path) -> None:
    """Write annotated data as h5ad, or as zarr if the name says so; several modalities as h5mu."""
    with writing(path) as part:
        if is_mudata(adata):
            adata.write_h5mu(part)
        elif is_zarr_name(path):
            adata.write_zarr(part)
        else:
            adata.write_h5ad(part, compression="gzip")


def check_cells(adata: AnnData, path: Path) -> None:
    """Refuse cells that could be read, but cannot be written, before they are trained on."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a part of them; they were read
        try:
            write_cells(adata[:2].copy(), Path(folder) / path.name)
        except SettingsError as error:
            if isinstance(error.__cause__, OSError):  # of this folder, not of the cells
                return
            raise SettingsError(
                f"these cells cannot be written to {path}: {error.__cause__ or error}; look for "
                "it in obs, var, raw.var and uns of the input, and rename or drop it"
            ) from error


def write_backed(
    mgvi: Program,
    adata: AnnData,
    data: GroupedCounts,
    stale: Sequence[str],
    source: Path,
    path: Path,
    **how: Any,
) -> None:
    """Write a copy of the h5ad file ``source``, whose counts stay in it, with latents and record.

    Latents are written as they are computed: no more than some cells' are in memory.

    Parameters
    ----------
    mgvi, adata, data
        What was trained, the open file with the record in ``uns``, and the counts of all its cells.
    stale
        Keys of ``obsm`` that an earlier fit has written, which are left out.
    source, path
        The file, and where to write.
    how
        ``foreign`` and ``progress`` of :func:`~pyro_mgvi.analysis.latent_values.latent_blocks`.

    Raises
    ------
    SettingsError
        If anything fails; ``path`` is what it was.
    """
    with writing(path) as part:
        shutil.copyfile(source, part)
        with h5py.File(part, "r+") as file:
            for name in ("obsm", "uns"):
                if name not in file:
                    write_elem(file, name, {})
            obsm = file["obsm"]
            for key in stale:
                del obsm[key]
            latents = {copy.key: _empty(obsm, copy, len(data)) for copy in mgvi.families.copies}
            for cells, values in latent_blocks(mgvi, data, **how):
                for key, value_nd in values.items():
                    if not np.isnan(value_nd).all():  # what is not written is NaN
                        latents[key][cells[0] : cells[-1] + 1] = value_nd
            write_elem(file["uns"], "mgvi", adata.uns["mgvi"])


def _empty(obsm: h5py.Group, copy: Copy, n_cells: int) -> h5py.Dataset:
    """Return an array of NaN for the values of a copy, as anndata stores it."""
    name = PREFIX + copy.key
    if name in obsm:
        del obsm[name]
    chunks = (min(n_cells, CHUNK), copy.dim)
    found = obsm.create_dataset(name, (n_cells, copy.dim), "f4", chunks=chunks, fillvalue=np.nan)
    found.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    return found


def write_table(table: pd.DataFrame, path: Path, index: bool = True) -> None:
    """Write a table as text, as its name says: with tabs or commas, packed or not."""
    with writing(path) as part:
        tabs = unpacked(path).suffix.lower() == ".tsv"
        packed = {"method": PACKED.get(path.suffix.lower())}
        table.to_csv(part, index=index, sep="\t" if tabs else ",", compression=packed)


def _refused(output: Output, reason: str) -> SettingsError:
    return SettingsError(f"cannot write {output.path} ({output.option}): {reason}")


def _check(output: Output, force: bool) -> None:
    path = output.path
    if reason := misnamed(path, output.kind):
        raise _refused(output, reason)
    parent = path.resolve().parent
    if not parent.is_dir():
        state = "is a file" if parent.exists() else "does not exist"
        raise _refused(output, f"the folder {path.parent} {state}")
    if output.kind is Kind.MODEL:
        saving.check_target(path)
    elif output.is_folder:
        _check_folder(output)
    else:
        _check_file(output, force)
    with tempfile.TemporaryFile(dir=parent):
        pass


def _check_folder(output: Output) -> None:
    path = output.path
    if not path.exists():
        return
    if not path.is_dir():
        raise _refused(output, "it is a file, and zarr is a folder")
    if any(path.iterdir()) and zarr_encoding(path) != "anndata":
        raise _refused(output, "it is a folder that holds something else than annotated data")


def _check_file(output: Output, force: bool) -> None:
    path = output.path
    if not path.exists():
        return
    if path.is_dir():
        raise _refused(output, "it is a folder: name a file in it")
    if not path.is_file():
        raise _refused(output, "it is no ordinary file")
    if not os.access(path, os.W_OK):
        raise _refused(output, "it is write-protected")
    kept = output.kind is Kind.CELLS and path.stat().st_size > 0 and not h5py.is_hdf5(path)
    if kept and not force:
        raise _refused(output, "it exists and is no h5ad; choose another name, or pass --force")


def _check_input(output: Output, path: Path, force: bool) -> None:
    if _same(output.path, path):
        if force:
            return
        advice = ", or pass --force" if output.kind is Kind.CELLS else ""
        raise _refused(output, f"it is the input; choose another path{advice}")
    whole = saving.holds_model(path) or zarr_encoding(path) is not None
    if whole and _within(output.path, path):
        raise _refused(output, f"it is in the input {path}; choose another path")
    if output.is_folder and _within(path, output.path):
        raise _refused(output, f"the input {path} is in this folder; choose another path")


def _same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def _within(inner: Path, outer: Path) -> bool:
    return outer.resolve() in inner.resolve().parents
