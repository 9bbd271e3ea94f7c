"""Checks of user input: each error names the key, cell or gene and says what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data.stores.annotations import in_memory
from pyro_mgvi.data.stores.on_disk import Stored, cell_totals
from pyro_mgvi.errors import DataError


def some(names: Iterable[object], limit: int = 5) -> str:
    """Return the first names, and how many more there are."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def annotated(adata: Any) -> AnnData:
    """Return cells with labels and latents as pandas can work with them; refuse what is no AnnData.

    See :func:`~pyro_mgvi.data.stores.annotations.in_memory`: ``adata`` itself, nearly always.

    Raises
    ------
    DataError
        Saying how to get one, or that there is no cell in it.
    """
    if not isinstance(adata, AnnData):
        how = "pass an AnnData of counts, cells x genes"
        if isinstance(adata, (str, Path)):
            how = f"read it first: adata = anndata.read_h5ad({str(adata)!r})"
        elif type(adata).__name__ == "MuData":
            modalities = list(adata.mod)
            name = "rna" if "rna" in modalities or not modalities else modalities[0]
            how = f"pass one modality of {some(modalities)}: adata = mdata[{name!r}]"
            how += "; or take MGVI.from_mudata for several"
        elif isinstance(adata, (pd.DataFrame, np.ndarray)) or sparse.issparse(adata):
            how = "wrap it: anndata.AnnData(counts, obs=a table with the groups of the cells)"
        raise DataError(f"adata is a {type(adata).__name__}, not an AnnData: {how}")
    if not adata.n_obs:
        raise DataError("adata holds no cell: look at what chose its cells")
    return in_memory(adata)


def keys(
    adata: AnnData,
    group_key: str | Sequence[str] | None,
    batch_key: str | None = None,
    covariate_keys: Sequence[str] = (),
    sample_key: str | None = None,
) -> None:
    """Refuse keys that ``obs`` lacks, that are no text, or that say the same thing twice."""
    group_keys = columns_of_groups(group_key)
    seen: dict[object, str] = {}
    for option, key in options_of(group_key, batch_key, covariate_keys, sample_key):
        if key is None and option == "group_key":
            raise DataError(
                "group_key is None: name the column of adata.obs that holds the groups; it has: "
                f"{some(adata.obs.columns, 20) or 'no column'}"
            )
        column(adata, key, option)
        if not isinstance(key, str):
            raise DataError(
                f"{option} {key!r} is no text, and a model keeps names of columns as text: rename "
                "the column, as in adata.obs.columns = adata.obs.columns.map(str)"
            )
        if seen.get(key) == option == "group_key":
            raise DataError(f"group_key names a column twice: {some(group_keys)}; name each once")
        if key in seen and (option != "sample_key" or group_keys == (key,)):
            raise DataError(
                f"{option} {key!r} is also the {seen[key]}: it would be registered but add nothing"
            )
        seen[key] = option


def options_of(
    group_key: object, batch_key: object, covariate_keys: Iterable[object], sample_key: object
) -> list[tuple[str, object]]:
    """Return the columns that are asked for, each with what it was given as."""
    listed = [("group_key", key) for key in columns_of_groups(group_key)]
    listed += [] if batch_key is None else [("batch_key", batch_key)]
    listed += [("covariate_keys", key) for key in covariate_keys]
    return listed + ([] if sample_key is None else [("sample_key", sample_key)])


def columns_of_groups(group_key: object) -> tuple[Any, ...]:
    """Return the columns that make up the groups: one, or several."""
    several = isinstance(group_key, (tuple, list)) and group_key
    return tuple(group_key) if several else (group_key,)  # type: ignore[arg-type]


def columns(covariate_keys: object) -> tuple[str, ...]:
    """Return names of columns as they are given, in a list or otherwise; refuse a single text."""
    if isinstance(covariate_keys, (str, bytes)):
        raise DataError(f"covariate_keys must be a list of columns: write [{covariate_keys!r}]")
    if not isinstance(covariate_keys, Iterable):
        raise DataError(f"covariate_keys must be a list of columns, not {covariate_keys!r}")
    return tuple(covariate_keys)


def one_name(key: object, option: str) -> None:
    """Refuse what cannot be the name of one column, such as a list of names."""
    several = isinstance(key, Iterable) and not isinstance(key, (str, bytes, tuple))
    if several or not isinstance(key, Hashable):
        raise DataError(
            f"{option} must be the name of one column of adata.obs, not the "
            f"{type(key).__name__} {some(key) if isinstance(key, Iterable) else key}"
        )


def column(adata: object, key: object, option: str) -> pd.Series:
    """Return a column of ``obs``; refuse a key of none, or of several, and complex numbers.

    Parameters
    ----------
    adata
        The cells.
    key
        Name of the column.
    option
        What the key was given as.
    """
    if not isinstance(adata, AnnData):
        kind = type(adata).__name__
        raise DataError(f"{option} {key!r} is a column of obs, which a {kind} has not got")
    one_name(key, option)
    times = list(adata.obs.columns).count(key)
    if times > 1:
        raise DataError(f"adata.obs has several columns {key!r} ({option}): rename them")
    if not times:
        raise DataError(
            f"{option} {key!r} is not a column of adata.obs; it has: "
            f"{some(adata.obs.columns, 20) or 'no column'}"
        )
    named: pd.Series = adata.obs[key]
    if pd.api.types.is_complex_dtype(named.infer_objects()):
        raise DataError(f"{option} {key!r} holds complex numbers: take a real part of them")
    return named


def texts(names: Iterable[object], where: str = "adata.var_names") -> pd.Index:
    """Return names as text, so that 1 is "1"; refuse bytes, and names that are missing.

    Parameters
    ----------
    names
        Such as those of genes.
    where
        What holds them.
    """
    listed = pd.Series(list(names), dtype=object)
    missing = np.flatnonzero(listed.isna())
    if len(missing):
        raise DataError(
            f"{where} lacks {len(missing)} name(s) (NaN), at position {some(missing)}: name these "
            "genes, or leave them out"
        )
    if any(isinstance(name, bytes) for name in listed):
        raise DataError(
            f"{where} holds bytes, not text ({some(listed)}): decode them, "
            f"[name.decode() for name in {where}]"
        )
    return pd.Index([str(name) for name in listed], dtype=object)


def apart(names: Iterable[object], what: str) -> list[str]:
    """Return names as text; refuse two that are the same then, such as 1 and "1"."""
    listed = [str(name) for name in names]
    twice = [name for name, times in Counter(listed).items() if times > 1]
    if twice:
        raise DataError(f"two {what} are called {some(twice)}, as text: rename one")
    return listed


def names(genes: pd.Index) -> None:
    """Refuse repeated gene names: results are addressed by them."""
    twice = genes[genes.duplicated()].unique()
    if len(twice):
        raise DataError(
            f"duplicate gene names: {some(twice)}; call adata.var_names_make_unique() first"
        )


def nonempty(
    adata: AnnData, x: Stored, drop_empty: bool, data_kind: DataKind, chosen: bool = False
) -> np.ndarray:
    """Return the positions of the cells to keep: all, or those with counts.

    Raises
    ------
    DataError
        If some have none, and these are not to be dropped.
    """
    if data_kind is not DataKind.COUNTS or not (empty := cell_totals(x) == 0).any():
        return np.arange(adata.n_obs)
    if not drop_empty:
        of = " of the chosen genes" if chosen else ""
        raise DataError(
            f"{empty.sum()} cell(s) have no counts{of}: {some(adata.obs_names[empty])}; filter "
            "them out, or build the model with drop_empty=True to leave them out"
        )
    if empty.all():
        raise DataError(f"none of the {len(empty)} cells has counts: no cell is left")
    return np.flatnonzero(~empty)


def labels(adata: AnnData, key: str) -> pd.Series:
    """Return a column as strings with named categories in a stable order, none missing."""
    column = adata.obs[key]
    missing = column.isna().to_numpy()
    if missing.any():
        raise DataError(
            f"obs[{key!r}] is missing (NaN) for {missing.sum()} cell(s): "
            f"{some(adata.obs_names[missing])}; label or remove them"
        )
    if not isinstance(column.dtype, pd.CategoricalDtype):
        try:
            column = column.astype("category")
        except TypeError as error:  # lists and the like
            raise DataError(f"obs[{key!r}] holds values that are no labels: {error}") from error
    column = column.cat.remove_unused_categories()
    if any(isinstance(level, bytes) for level in column.cat.categories):
        raise DataError(
            f"obs[{key!r}] holds bytes, not text ({some(column.cat.categories)}): decode them, "
            f"adata.obs[{key!r}] = [label.decode() for label in adata.obs[{key!r}]]"
        )
    names_ = [str(level) for level in column.cat.categories]
    if "" in names_:
        empty = (column.astype(str) == "").to_numpy()
        raise DataError(
            f"obs[{key!r}] is an empty text for {empty.sum()} cell(s): "
            f"{some(adata.obs_names[empty])}; label or remove them"
        )
    if len(set(names_)) < len(names_):
        raise DataError(f"obs[{key!r}] has levels that look the same as text: {some(names_, 20)}")
    named: pd.Series = column.cat.rename_categories(names_)
    return named


def group_sizes(group: pd.Series, key: str) -> None:
    """Refuse a single group, and groups of fewer than 2 cells."""
    sizes = group.value_counts()
    if len(sizes) < 2:
        raise DataError(
            f"obs[{key!r}] has one group only ({sizes.index[0]!r}): nothing can be shared or "
            "private; choose a key with two groups or more"
        )
    small = sizes[sizes < 2]
    if len(small):
        raise DataError(
            f"group(s) of fewer than 2 cells in obs[{key!r}]: {some(sorted(small.index))}; "
            "remove these cells or merge their group into another"
        )


def batches(adata: AnnData, key: str) -> pd.Series:
    """Return the batch labels; refuse a single batch, which nothing would use."""
    batch = labels(adata, key)
    if len(batch.cat.categories) < 2:
        raise DataError(
            f"batch_key {key!r} has the same value in every cell: it would be registered but "
            "used by nothing; leave it out"
        )
    return batch


def codes(adata: AnnData, key: str, levels: Sequence[str]) -> np.ndarray:
    """Return integer codes of a column in the order of ``levels``; refuse unknown levels."""
    values = labels(adata, key)
    unknown = [level for level in values.cat.categories if level not in levels]
    if unknown:
        raise DataError(
            f"obs[{key!r}] has value(s) unknown to the model: {some(unknown)}; "
            f"it knows: {some(levels, 20)}"
        )
    return pd.Categorical(values, categories=list(levels)).codes.astype(np.int64)
