"""What each of several files holds, read without its counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import pandas as pd

from pyro_mgvi.cli.files import check_chunks, form_of
from pyro_mgvi.errors import DataError

try:
    from anndata.io import read_elem
except ModuleNotFoundError:  # before anndata 0.11
    from anndata.experimental import read_elem


@dataclass(frozen=True)
class Part:
    """One of several files, open.

    Attributes
    ----------
    path, key
        The file, and what its cells are called by.
    group
        What it holds, of h5py or zarr.
    cells, genes
        Their names.
    columns
        Of ``obs``: whether each holds text.
    matrices
        How ``X`` and each layer are stored, such as ("csr_matrix", "float32").
    """

    path: Path
    key: str
    group: Any
    cells: pd.Index
    genes: pd.Index
    columns: dict[str, bool]
    matrices: dict[str, tuple[str, str]]

    @classmethod
    def of(cls, path: Path, key: str, group: Any) -> Part:
        """Return what an open file holds."""
        names = {"X": "X", **{f"layer {name!r}": f"layers/{name}" for name in _layers(group)}}
        stored = {said: _stored(group[name]) for said, name in names.items() if name in group}
        return cls(
            path,
            key,
            group,
            _names(group["obs"]),
            _names(group["var"]),
            {str(key): _is_text(group["obs"][key]) for key in group["obs"].attrs["column-order"]},
            {said: (kind, dtype) for said, (kind, dtype) in stored.items() if kind != "null"},
        )


def keys_of(paths: Sequence[Path]) -> list[str]:
    """Return a name for each file: its own, that of its folder too, or all of its path.

    Examples
    --------
    >>> keys_of([Path("north.h5ad"), Path("south.zarr")])
    ['north', 'south']
    >>> keys_of([Path("north/cells.h5ad"), Path("south/cells.h5ad")])
    ['north_cells', 'south_cells']
    """
    ways = (
        [path.stem for path in paths],
        [f"{path.resolve().parent.name}_{path.stem}" for path in paths],
    )
    return next((names for names in ways if len(set(names)) == len(names)), [*map(str, paths)])


@contextmanager
def opened(paths: Sequence[Path], layer: str | None = None) -> Iterator[list[Part]]:
    """Open files, whose counts are in X or a layer, and say what each of them holds.

    Raises
    ------
    DataError
        If one is no annotated data, is damaged, or is named twice.
    """
    with ExitStack() as files:
        parts: list[Part] = []
        for path, key in zip(paths, keys_of(paths)):
            if any(path.samefile(part.path) for part in parts if path.exists()):
                raise DataError(f"{path} is named twice: name each file once")
            if not path.exists():
                raise DataError(f"{path} does not exist: name an h5ad file or a zarr folder")
            try:
                group = _group(path, files, layer)
                parts.append(Part.of(path, key, group))
            except DataError:
                raise
            except Exception as error:  # of h5py, zarr and anndata, on what is damaged
                reason = " ".join(str(error).split())
                raise DataError(f"{path} cannot be read: {reason}") from error
        yield parts


def _group(path: Path, files: ExitStack, layer: str | None) -> Any:
    """Open an h5ad file, or a zarr folder of which no chunk is missing."""
    if form_of(path) == "h5ad":
        return files.enter_context(h5py.File(path, "r"))
    check_chunks(path, layer)
    import zarr  # not all who read h5ad have it

    return zarr.open_group(str(path), mode="r")


def _layers(group: Any) -> list[str]:
    return list(group["layers"]) if "layers" in group else []


def _names(table: Any) -> pd.Index:
    return pd.Index(read_elem(table[table.attrs["_index"]])).astype(str)


def _is_text(column: Any) -> bool:
    """Return whether a column of a table holds text, or categories of it."""
    kind = str(column.attrs.get("encoding-type", ""))
    if kind == "categorical":
        return _is_text(column["categories"])
    return "string" in kind


def _stored(matrix: Any) -> tuple[str, str]:
    """Return how a matrix is stored, and the type of its values."""
    kind = str(matrix.attrs.get("encoding-type", "array"))
    return kind, str(matrix["data"].dtype if "_matrix" in kind else matrix.dtype)
