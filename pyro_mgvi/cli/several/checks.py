"""Whether several files fit together: compared before any of their counts is read."""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Sequence

import h5py
import pandas as pd
from anndata import AnnData, concat

from pyro_mgvi.cli.outputs import write_elem
from pyro_mgvi.cli.several.parts import Part, read_elem
from pyro_mgvi.data.checks import some
from pyro_mgvi.errors import DataError

WRITTEN = ("obsm", "varm", "varp", "layers")  # by anndata into each file, empty or not


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
    _check_columns(parts)
    if not arguments.rename_cells:
        _check_cells(parts)


def _check_columns(parts: Sequence[Part]) -> None:
    """Refuse columns of ``obs`` that are stored in several ways and cannot become one."""
    for key in parts[0].columns:
        if not all(key in part.columns for part in parts):
            continue
        stored = [part.group["obs"][key] for part in parts]
        kinds = [str(column.attrs.get("encoding-type", "array")) for column in stored]
        other = next((i for i, kind in enumerate(kinds) if kind != kinds[0]), 0)
        if not other:
            continue
        tables = [
            AnnData(obs=pd.DataFrame({key: read_elem(column)}, index=part.cells))
            for part, column in zip(parts, stored)
        ]
        try:
            with (
                warnings.catch_warnings(),
                h5py.File("joined", "w", driver="core", backing_store=False) as file,
            ):
                warnings.simplefilter("ignore")  # of anndata, on names and formats
                write_elem(file, "obs", concat(tables).obs)
        except Exception as error:  # of anndata, pandas and h5py
            raise DataError(
                f"obs[{key!r}] is stored as {kinds[0]} in {parts[0].path} and as {kinds[other]} in "
                f"{parts[other].path}, which cannot be joined: store it alike in all files, or "
                f"drop it, del adata.obs[{key!r}]"
            ) from error


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
