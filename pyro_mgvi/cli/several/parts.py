"""What each of several files holds, read without its counts, and whether they fit together."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import pandas as pd

from pyro_mgvi.cli.files import check_chunks, form_of
from pyro_mgvi.data.checks import some
from pyro_mgvi.errors import DataError

try:
    from anndata.io import read_elem
except ModuleNotFoundError:  # before anndata 0.11
    from anndata.experimental import read_elem


WRITTEN = ("obsm", "varm", "varp", "layers")  # by anndata into each file, empty or not


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
def opened(paths: Sequence[Path]) -> Iterator[list[Part]]:
    """Open files, and say what each of them holds.

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
                group = _group(path, files)
                parts.append(Part.of(path, key, group))
            except DataError:
                raise
            except Exception as error:  # of h5py, zarr and anndata, on what is damaged
                reason = " ".join(str(error).split())
                raise DataError(f"{path} cannot be read: {reason}") from error
        yield parts


def check_parts(parts: Sequence[Part], arguments: Namespace) -> None:
    """Refuse files that cannot be joined without a loss that nobody asked for.

    Raises
    ------
    DataError
        Naming the file, and the gene, cell, column or matrix at fault.
    """
    file_key = arguments.file_key
    named = (*arguments.group_key, arguments.batch_key, arguments.sample_key)
    needed = [key for key in (*named, *arguments.covariate_key) if key not in (None, file_key)]
    first = parts[0]
    for part in parts:
        lacking = [name for name in WRITTEN if name not in part.group]
        if lacking:
            raise DataError(
                f"{part.path} lacks {lacking[0]!r}, by which anndata joins files, if only an empty "
                "one: read the file and write it again"
            )
        missing = [key for key in needed if key not in part.columns]
        if missing:
            raise DataError(f"obs of {part.path} has no column {missing[0]!r}: add it there")
        if file_key in part.columns:
            raise DataError(
                f"obs of {part.path} has a column {file_key!r} already: choose another --file-key"
            )
        both = (key for key in first.columns if key in part.columns)
        for key in (key for key in both if first.columns[key] != part.columns[key]):
            texts, numbers = sorted((first, part), key=lambda each: not each.columns[key])
            raise DataError(
                f"obs[{key!r}] is text in {texts.path} and numbers in {numbers.path}: write it as "
                f"text in both, adata.obs[{key!r}] = adata.obs[{key!r}].astype(str)"
            )
        if part.genes.has_duplicates:
            twice = part.genes[part.genes.duplicated()][0]
            raise DataError(f"gene {twice!r} is in {part.path} more than once: make names unique")
        if part.path.is_dir() != first.path.is_dir():
            folder, file = (
                (part.path, first.path) if part.path.is_dir() else (first.path, part.path)
            )
            raise DataError(
                f"{folder} is a zarr folder, and {file} is h5ad: write both as one kind"
            )
        _check_matrices(first, part, arguments.layer)
        if not arguments.common_genes:
            _check_genes(first, part)
    if arguments.common_genes and not set.intersection(*(set(part.genes) for part in parts)):
        raise DataError("no gene is in all files: do they name genes alike, by symbol or by ID?")
    if not arguments.rename_cells:
        _check_cells(parts)


def _check_matrices(first: Part, part: Part, layer: str | None) -> None:
    """Refuse matrices that are not stored alike: what is joined has one type."""
    wanted = ["X"] if layer is None else ["X", f"layer {layer!r}"]
    missing = [name for name in wanted if name not in part.matrices]
    if missing:
        raise DataError(f"{part.path} has no {missing[0]}: all files need it to be joined")
    for name in first.matrices.keys() & part.matrices.keys():
        (kind, dtype), (kind_first, dtype_first) = part.matrices[name], first.matrices[name]
        if kind == "csc_matrix":
            raise DataError(
                f"{name} of {part.path} is stored by genes (csc_matrix), and files are joined by "
                "cells: write it by cells, as in adata.X = adata.X.tocsr()"
            )
        if kind != kind_first:
            raise DataError(
                f"{name} of {part.path} is stored as {kind}, that of {first.path} as {kind_first}: "
                "write both alike, as in adata.X = scipy.sparse.csr_matrix(adata.X)"
            )
        if dtype != dtype_first:
            raise DataError(
                f"{name} of {part.path} holds {dtype} values, that of {first.path} {dtype_first}: "
                "write both alike, as in adata.X = adata.X.astype('float32')"
            )


def _check_genes(first: Part, part: Part) -> None:
    lacking, more = first.genes.difference(part.genes), part.genes.difference(first.genes)
    if not len(lacking) and not len(more):
        return
    which = f"lacks {some(lacking)} of" if len(lacking) else f"has {some(more)} beside those of"
    raise DataError(
        f"{part.path} {which} {first.path} ({len(lacking):,} genes are in the latter alone, "
        f"{len(more):,} in the former): write files with the same genes, or leave out what is "
        "not in all of them (--common-genes)"
    )


def _check_cells(parts: Sequence[Part]) -> None:
    seen = parts[0].cells
    for i, part in enumerate(parts[1:], 1):
        both = part.cells.intersection(seen)
        if len(both):
            other = next(each.path for each in parts[:i] if both[0] in each.cells)
            raise DataError(
                f"cell {both[0]!r} is in {other} and in {part.path}, and {len(both):,} name(s) of "
                "the latter are taken: rename them there, or add the name of the file to all "
                "(--rename-cells)"
            )
        seen = seen.append(part.cells)


def _group(path: Path, files: ExitStack) -> Any:
    """Open an h5ad file, or a zarr folder of which no chunk is missing."""
    if form_of(path) == "h5ad":
        return files.enter_context(h5py.File(path, "r"))
    check_chunks(path)
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
