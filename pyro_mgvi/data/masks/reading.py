"""Masks of features by group, as an AnnData or a user gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike
from scipy import sparse
from torch import Tensor

from pyro_mgvi.core.design import Design
from pyro_mgvi.data.checks import annotated, apart, some
from pyro_mgvi.data.schema import Schema, Source
from pyro_mgvi.errors import DataError

#: By group, a column of ``var`` or one value per gene; or the name of a table of all groups.
FeatureMasks = str | Mapping[str, str | ArrayLike]
NAMED = (pd.Series, pd.DataFrame)  # what knows the names of its rows


def absent_features(
    adata: AnnData,
    source: Source,
    genes: pd.Index,
    groups: Sequence[str],
    given: FeatureMasks,
    chosen: np.ndarray | None = None,
) -> dict[str, tuple[str, ...]]:
    """Return the genes that each group has not got, by group; groups with all genes are left out.

    Parameters
    ----------
    adata, source
        Where the masks are: ``var`` and ``varm`` are those of ``adata.raw`` if the counts are.
    genes
        Their names.
    groups
        All groups of the data, or their design.
    given
        For every group, a column of ``var``, or one value per gene (a Series, or a DataFrame of one
        column, is aligned by the names of the genes); 1 or True where the group has the gene. Or
        one name: of a table in ``varm``, whose columns are the groups (of an array, in alphabetical
        order); or the first part of the keys ``<name>_<group>`` in ``uns``. Where several columns
        make up the groups, the names are the levels of one of them (each species, whatever the
        treatment), or those of all combinations.
    chosen
        Positions of the genes that are asked about; all by default.

    Raises
    ------
    DataError
        If a group has no mask or a mask no group, a value is neither 0 nor 1, a group has no
        gene, or a gene is in no group, or some groups share no gene with the others.
    """
    groups = Design.of(groups)
    columns = _by_group(_columns(adata, source, genes, groups, given), groups)
    has_bg = np.array([_boolean(columns[group], group, genes) for group in groups])
    if chosen is not None:
        genes, has_bg = genes[chosen], has_bg[:, chosen]
    from scipy.sparse.csgraph import connected_components  # takes a tenth of a second

    empty = [group for group, has_g in zip(groups, has_bg) if not has_g.any()]
    if empty:
        raise DataError(
            f"group(s) {some(empty)} have no feature at all: look at their masks, or leave their "
            "cells out"
        )
    nowhere = genes[np.flatnonzero(~has_bg.any(0))]
    if len(nowhere):
        raise DataError(
            f"{len(nowhere)} feature(s) are in no group: {some(nowhere)}; leave them out "
            "(adata[:, ...]), or correct the masks"
        )
    _, part_b = connected_components(has_bg.astype(int) @ has_bg.T.astype(int))
    if part_b.any():
        sizes = np.bincount(part_b)
        largest = int(sizes.argmax()) if sizes.max() > 1 else -1
        alone = [group for group, part in zip(groups, part_b) if part != largest]
        raise DataError(
            f"group(s) {some(alone)} share no feature with any other group: nothing tells what "
            "their cells have in common with others; name features that are the same (orthologs) "
            "alike"
        )
    return {
        group: tuple(map(str, genes[~has_g]))
        for group, has_g in zip(groups, has_bg)
        if not has_g.all()
    }


def absent_of_new(
    adata: AnnData,
    source: Source,
    schema: Schema,
    group: str,
    mask: str | ArrayLike,
    reference_g: Tensor | None = None,
) -> dict[str, tuple[str, ...]]:
    """Return the absent genes of all groups, with those of a new one that ``schema`` has already.

    ``reference_g`` are the genes that make up a library, all by default.

    Raises
    ------
    DataError
        If the mask is none, or the new group has none of the model's genes, or none of those that
        make up a library.
    """
    genes = source.var_names(adata)
    (column,) = _columns(adata, source, genes, Design.of([group]), {group: mask}).values()
    has = set(genes[np.flatnonzero(_boolean(column, group, genes))])
    absent = tuple(gene for gene in schema.genes if gene not in has)
    if len(absent) == len(schema.genes):
        raise DataError(f"group {group!r} has none of the model's genes: look at its feature mask")
    if reference_g is not None and not has & {schema.genes[g] for g in reference_g.nonzero()}:
        raise DataError(
            f"group {group!r} has none of the genes that all groups of the model have, and which "
            "make up the size of a cell: train a new model on all cells"
        )
    return {**schema.absent, group: absent} if absent else dict(schema.absent)


def _columns(
    adata: AnnData, source: Source, genes: pd.Index, groups: Design, given: Any
) -> dict[str, Any]:
    """Return what is given, by the names under which it is."""
    if isinstance(given, str):
        columns = _named_table(adata, source, groups, given)
    elif isinstance(given, Mapping):
        columns = dict(zip(apart(given, "feature masks"), given.values()))
    else:
        raise DataError(
            f"feature_masks is a {type(given).__name__}: give a column of var for each group, "
            f"{{{groups[0]!r}: 'in_{groups[0]}', ...}}, or the name of a table in varm"
        )
    var = source.var(adata)
    for group, mask in columns.items():
        if isinstance(mask, str):
            if mask not in var.columns:
                raise DataError(
                    f"the feature mask of {group!r}, {mask!r}, is not a column of adata.var; it "
                    f"has: {some(var.columns, 20) or 'no column'}"
                )
            columns[group] = var[mask].to_numpy()
        elif isinstance(mask, NAMED):
            columns[group] = _aligned(mask, group, genes)
    return columns


def _by_group(columns: Mapping[str, Any], design: Design) -> dict[str, Any]:
    """Return the mask of each group, from those of all groups or of all levels of a column."""
    tables: list[dict[str, tuple[str, ...]]] = [{group: (group,) for group in design}]
    if len(design.keys) > 1:
        tables += [design.levels(key) for key in design.keys]
    fits = [table for table in tables if table.keys() >= columns.keys()]
    whole = [table for table in fits if table.keys() == columns.keys()]
    if len(whole) > 1:
        raise DataError(
            f"feature_masks name {some(columns)}, which are levels of several columns: give a mask "
            f"to each combination, {some(design.groups, 20)}"
        )
    if not fits:
        known = max(tables, key=lambda table: len(table.keys() & columns.keys()))
        unknown = [name for name in columns if name not in known]
        raise DataError(
            f"feature_masks name group(s) that no cell is of: {some(unknown)}; the groups are "
            f"{_choices(design)}"
        )
    if not whole:
        without = [name for name in fits[0] if name not in columns]
        raise DataError(
            f"feature_masks say nothing of group(s) {some(without)}: give every group a mask, "
            "also one that has all features"
        )
    (table,) = whole
    of_group = {group: columns[name] for name, groups in table.items() for group in groups}
    return {group: of_group[group] for group in design}


def _choices(design: Design) -> str:
    """Return what masks may be of."""
    levels = [
        f"or, by levels of {key!r}, {some(design.levels(key), 20)}"
        for key in design.keys
        if len(design.keys) > 1
    ]
    return "; ".join([some(design.groups, 20), *levels])


def _named_table(adata: AnnData, source: Source, groups: Design, name: str) -> dict[str, Any]:
    """Return the columns of a table in ``varm``, or entries of ``uns``, by name."""
    beside = annotated(adata)
    varm = adata.raw.varm if source.use_raw else beside.varm
    if name in varm:
        table = varm[name]
        if isinstance(table, pd.DataFrame):
            named = apart(table.columns, f"columns of varm[{name!r}]")
            return {group: column.to_numpy() for group, (_, column) in zip(named, table.items())}
        array = table.toarray() if sparse.issparse(table) else np.asarray(table)
        if len(groups.keys) > 1:
            raise DataError(
                f"varm[{name!r}] is an array, which does not say what its columns are: make it a "
                f"DataFrame; its columns may be {_choices(groups)}"
            )
        if array.ndim != 2 or array.shape[1] != len(groups):
            raise DataError(
                f"varm[{name!r}] has shape {array.shape}, and there are {len(groups)} groups "
                f"({some(groups)}): give it one column for each, or make it a DataFrame"
            )
        return dict(zip(groups, array.T))
    names = [*groups, *(level for key in groups.keys for level in groups.levels(key))]
    keys = {each: f"{name}_{each}" for each in names}
    found = {group: beside.uns[key] for group, key in keys.items() if key in beside.uns}
    if found:
        return {
            group: mask if isinstance(mask, NAMED) else np.asarray(mask).ravel()
            for group, mask in found.items()
        }
    raise DataError(
        f"feature_masks={name!r} is neither a table in adata.varm nor the start of keys in "
        f"adata.uns ({', '.join(map(repr, keys.values()))})"
    )


def _aligned(mask: pd.Series | pd.DataFrame, group: str, genes: pd.Index) -> np.ndarray:
    """Return a mask in the order of the genes; a table must be one column."""
    if isinstance(mask, pd.DataFrame):
        if mask.shape[1] != 1:
            raise DataError(
                f"the feature mask of {group!r} is a DataFrame of {mask.shape[1]} columns "
                f"({some(mask.columns) or 'none'}): give one of them"
            )
        mask = mask.iloc[:, 0]
    index = mask.index.map(str)
    missing = genes.difference(index)
    if index.has_duplicates or len(missing):
        raise DataError(
            f"the feature mask of {group!r} has an index that does not hold every gene once; "
            f"missing: {some(missing) or 'none'}"
        )
    ordered: np.ndarray = mask.set_axis(index).reindex(genes).to_numpy()
    return ordered


def _boolean(mask: object, group: str, genes: pd.Index) -> np.ndarray:
    """Return a mask as booleans; refuse anything but 0 and 1."""
    try:
        column = pd.Series(np.asarray(mask).ravel())
    except ValueError as error:
        raise DataError(f"the feature mask of {group!r} is no column: {error}") from error
    if len(column) != len(genes):
        raise DataError(
            f"the feature mask of {group!r} has {len(column)} value(s), and there are "
            f"{len(genes)} genes"
        )
    missing = column.isna().to_numpy()
    known = np.array([not gone and value in (0, 1) for value, gone in zip(column, missing)], bool)
    if not known.all():
        at = int(np.argmin(known))
        raise DataError(
            f"the feature mask of {group!r} is {column.iloc[at]} for gene {genes[at]!r}: it "
            "must be 1 (True) where the group has the gene, and 0 (False) where not"
        )
    has_g: np.ndarray = column.to_numpy().astype(bool)
    return has_g
