"""Outputs of the command line: checked before any work, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi import saving
from pyro_mgvi.data.modalities import is_mudata
from pyro_mgvi.errors import DataError, MGVIError, SettingsError
from pyro_mgvi.support.whole_files import written_whole

try:
    from anndata.io import write_elem
except ModuleNotFoundError:  # before anndata 0.11
    from anndata.experimental import write_elem


class Kind(Enum):
    """What is written, and how its file may end."""

    CELLS = (".h5ad", ".h5", ".zarr", ".h5mu")
    TABLE = (".csv", ".tsv", ".txt")
    PAGE = (".html", ".htm")
    PICTURE = (".png",)
    MODEL = ()


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


def write_backed(adata: AnnData, source: Path, path: Path) -> None:
    """Write a copy of the h5ad file ``source``, whose counts stay in it, with latents and record.

    Raises
    ------
    SettingsError
        If anything fails; ``path`` is what it was.
    """
    with writing(path) as part:
        shutil.copyfile(source, part)
        with h5py.File(part, "r+") as file:
            for key in [key for key in adata.obsm if key.startswith("X_mgvi_")]:
                write_elem(file.require_group("obsm"), key, np.asarray(adata.obsm[key]))
            write_elem(file.require_group("uns"), "mgvi", adata.uns["mgvi"])


def write_table(table: pd.DataFrame, path: Path, index: bool = True) -> None:
    """Write a table as text."""
    with writing(path) as part:
        table.to_csv(part, index=index, sep="\t" if ".tsv" in path.suffixes else ",")


def _refused(output: Output, reason: str) -> SettingsError:
    return SettingsError(f"cannot write {output.path} ({output.option}): {reason}")


def _check(output: Output, force: bool) -> None:
    path = output.path
    others = [suffix for kind in Kind if kind is not output.kind for suffix in kind.value]
    if path.suffix.lower() in others:
        wanted = " or ".join(output.kind.value[:3:2]) or "no suffix"
        raise _refused(output, f"it is named like something else; use {wanted}")
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
