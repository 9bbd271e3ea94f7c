"""Checks of user input: each error names the key, cell or gene and says what to do."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.errors import DataError

BLOCK = 1 << 24  # values checked at a time: bounds the memory of every check


def some(names, limit: int = 5) -> str:
    """Return the first names, and how many more there are."""
    names = [str(name) for name in names]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def keys(adata, group_key, batch_key=None, covariate_keys=()) -> None:
    """Refuse keys that ``obs`` lacks, and keys that say the same thing twice."""
    if isinstance(covariate_keys, str):
        raise DataError(f"covariate_keys must be a list of columns: write [{covariate_keys!r}]")
    wanted = [("group_key", group_key), ("batch_key", batch_key)]
    wanted += [("covariate_keys", key) for key in covariate_keys]
    seen = {}
    for option, key in wanted:
        if key is None and option == "group_key":
            raise DataError(
                "group_key is None: name the column of adata.obs that holds the groups; it has: "
                f"{some(adata.obs.columns, 20) or 'no column'}"
            )
        if key is None:
            continue
        if key not in adata.obs:
            raise DataError(
                f"{option} {key!r} is not a column of adata.obs; it has: "
                f"{some(adata.obs.columns, 20) or 'no column'}"
            )
        if key in seen:
            raise DataError(
                f"{option} {key!r} is also the {seen[key]}: it would be registered but add nothing"
            )
        seen[key] = option


def counts(adata, layer: str | None, data_kind: DataKind = DataKind.COUNTS):
    """Return the counts as CSR or as the caller's dense array, after checking every value.

    For transformed data any finite value will do.
    """
    is_bad = _not_a_count if data_kind is DataKind.COUNTS else _not_finite
    if layer is not None and layer not in adata.layers:
        raise DataError(
            f"layer {layer!r} is not in adata.layers; it has: {some(adata.layers, 20) or 'none'}"
        )
    x = adata.X if layer is None else adata.layers[layer]
    where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    if x is None:
        raise DataError(f"{where} is empty: name the layer that holds the counts")
    if hasattr(x, "to_memory"):  # an AnnData opened in backed mode
        x = x.to_memory()
    x = x.tocsr() if sparse.issparse(x) else np.asarray(x)
    if x.dtype.kind not in "iufb":
        raise DataError(f"{where} holds {x.dtype} values, not counts")
    n_cells, n_genes = x.shape
    if sparse.issparse(x):
        for start in range(0, x.nnz, BLOCK):
            stop = min(start + BLOCK, x.nnz)
            bad = is_bad(x.data[start:stop])
            if bad is not None:
                at = start + bad
                cell = int(np.searchsorted(x.indptr, at, side="right")) - 1
                _refuse(adata, where, x.data[at], cell, int(x.indices[at]))
    else:
        rows = max(1, BLOCK // max(1, n_genes))
        for start in range(0, n_cells, rows):
            bad = is_bad(x[start : start + rows].ravel())
            if bad is not None:
                cell, gene = start + bad // n_genes, bad % n_genes
                _refuse(adata, where, x[cell, gene], cell, gene)
    return x


def _not_a_count(values: np.ndarray) -> int | None:
    """Return the position of the first value that is no count, or None."""
    if values.dtype.kind in "ub":
        return None
    bad = values < 0
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            bad = ~((values >= 0) & (values == np.floor(values)) & np.isfinite(values))
    return int(bad.argmax()) if bad.any() else None


def _not_finite(values: np.ndarray) -> int | None:
    """Return the position of the first value that is not finite, or None."""
    bad = ~np.isfinite(values)
    return int(bad.argmax()) if bad.any() else None


def _refuse(adata, where: str, value, cell: int, gene: int) -> None:
    kind = "not finite" if not np.isfinite(value) else "negative" if value < 0 else "fractional"
    advice = (
        "normalised data cannot be used: pass raw counts (layer=... if they lie in a layer), or "
        "choose likelihood=Gaussian"
        if kind == "fractional"
        else "counts must be whole numbers from 0: correct or remove this value"
    )
    raise DataError(
        f"{where} has the {kind} value {value} in cell {adata.obs_names[cell]!r}, "
        f"gene {adata.var_names[gene]!r}; {advice}"
    )


def names(adata) -> None:
    """Refuse repeated gene names: results are addressed by them."""
    twice = adata.var_names[adata.var_names.duplicated()].unique()
    if len(twice):
        raise DataError(
            f"duplicate gene names: {some(twice)}; call adata.var_names_make_unique() first"
        )
    if adata.n_vars < 2:
        raise DataError(f"the data have {adata.n_vars} gene(s); at least 2 are needed")


def nonempty(adata, x, drop_empty: bool, data_kind: DataKind) -> np.ndarray:
    """Return the positions of the cells to keep: all, or those with counts.

    Raises
    ------
    DataError
        If some have none, and these are not to be dropped.
    """
    everything = np.arange(adata.n_obs)
    if data_kind is not DataKind.COUNTS:
        return everything
    empty = np.asarray(x.sum(axis=1)).ravel() == 0
    if not empty.any():
        return everything
    if not drop_empty:
        raise DataError(
            f"{empty.sum()} cell(s) have no counts: {some(adata.obs_names[empty])}; filter them "
            "out, or build the model with drop_empty=True (fit --drop-empty) to leave them out"
        )
    return np.flatnonzero(~empty)


def labels(adata, key: str) -> pd.Series:
    """Return a column as strings with named categories in a stable order, none missing."""
    column = adata.obs[key]
    missing = column.isna().to_numpy()
    if missing.any():
        raise DataError(
            f"obs[{key!r}] is missing (NaN) for {missing.sum()} cell(s): "
            f"{some(adata.obs_names[missing])}; label or remove them"
        )
    if not isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("category")
    column = column.cat.remove_unused_categories()
    names_ = [str(level) for level in column.cat.categories]
    if len(set(names_)) < len(names_):
        raise DataError(f"obs[{key!r}] has levels that look the same as text: {some(names_, 20)}")
    return column.cat.rename_categories(names_)


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


def covariates(adata, covariate_keys) -> tuple[dict, dict]:
    """Return levels of categorical covariates, and moments of continuous ones."""
    categories, moments = {}, {}
    for key in covariate_keys:
        column = adata.obs[key]
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            values = continuous(adata, key)
            moments[key] = (float(values.mean()), float(values.std()))
            constant = moments[key][1] <= 1e-12 * max(1.0, abs(moments[key][0]))
        else:
            categories[key] = tuple(labels(adata, key).cat.categories)
            constant = len(categories[key]) < 2
        if constant:
            raise DataError(
                f"covariate {key!r} has the same value in every cell: it would be registered "
                "but used by nothing; leave it out"
            )
    return categories, moments


def continuous(adata, key: str) -> np.ndarray:
    """Return a numeric covariate; refuse text, and values that are not finite."""
    column = adata.obs[key]
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise DataError(f"covariate {key!r} was numeric, but holds {column.dtype} values here")
    values = column.to_numpy(float)
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(
            f"covariate {key!r} is not finite for cell(s) {some(adata.obs_names[bad])}; "
            "fill in or remove them"
        )
    return values


def batches(adata, key: str) -> pd.Series:
    """Return the batch labels; refuse a single batch, which nothing would use."""
    batch = labels(adata, key)
    if len(batch.cat.categories) < 2:
        raise DataError(
            f"batch_key {key!r} has the same value in every cell: it would be registered but "
            "used by nothing; leave it out"
        )
    return batch


def codes(adata, key: str, levels) -> np.ndarray:
    """Return integer codes of a column in the order of ``levels``; refuse unknown levels."""
    values = labels(adata, key)
    unknown = [level for level in values.cat.categories if level not in levels]
    if unknown:
        raise DataError(
            f"obs[{key!r}] has value(s) unknown to the model: {some(unknown)}; "
            f"it knows: {some(levels, 20)}"
        )
    return pd.Categorical(values, categories=list(levels)).codes.astype(np.int64)


def gene_order(var_names: pd.Index, genes) -> np.ndarray | None:
    """Return where the model's genes are among those of the data, or None if in order."""
    if list(var_names) == list(genes):
        return None
    position = var_names.get_indexer(list(genes))
    missing = [gene for gene, at in zip(genes, position, strict=True) if at < 0]
    extra = var_names.difference(list(genes))
    if missing or len(extra):
        problem = (
            f"lack {len(missing)} of its genes: {some(missing)}"
            if missing
            else (f"have {len(extra)} gene(s) it was not trained on: {some(extra)}")
        )
        raise DataError(
            f"the data do not fit the model's {len(genes)} genes: they {problem}; "
            "pass the genes it was trained on (any order)"
        )
    return position
