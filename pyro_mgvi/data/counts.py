"""The counts of an AnnData: brought into memory, and checked value by value."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data.schema import Source
from pyro_mgvi.data.stores.in_memory import Counts, canonical, rounded, wide
from pyro_mgvi.data.stores.on_disk import OnDisk, taken
from pyro_mgvi.errors import DataError, MGVIError
from pyro_mgvi.kernels.sparse import is_sparse

BLOCK = 1 << 24  # values checked at a time: bounds the memory of every check
LARGEST = 1e8  # no cell holds so many molecules; log-gammas of more lose their digits
LOOKED_AT = 300  # cells that tell counts from normalised values


def matrix(adata: AnnData, source: Source) -> Counts | OnDisk:
    """Return the counts, unchecked: canonical CSR, the caller's dense array, or what stays on disk.

    Raises
    ------
    DataError
        If there are none, they cannot be read, or they are no numbers.
    """
    if source.is_x and (on_disk := OnDisk.of(adata)) is not None:
        return on_disk
    try:
        x = _in_memory(source.of(adata))
        if x is not None:
            x = canonical(x) if is_sparse(x) else _array(x)
    except MGVIError:
        raise
    except Exception as error:  # of the many libraries that an AnnData may be backed by
        raise DataError(
            f"{source.name} cannot be read ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:120]}): load the whole file into memory "
            "(adata.to_memory(), or read_h5ad without backed=) before choosing cells or genes"
        ) from error
    if x is None:
        raise DataError(f"{source.name} is empty{_instead(adata, source)}")
    if x.ndim != 2 or x.dtype.kind not in "iufb":
        raise DataError(
            f"{source.name} holds {x.dtype} values in {x.ndim} dimension(s), not counts of cells x "
            "genes: convert it to numbers, as in astype('float32')"
        )
    shape = adata.n_obs, len(source.var_names(adata))
    if x.shape != shape:  # anndata 0.13 on genes of a backed file in another order
        raise DataError(
            f"{source.name} holds {x.shape} values where {shape} are announced: load the whole "
            "file into memory (read_h5ad without backed=) before choosing cells or genes"
        )
    return x


def _in_memory(x: object) -> object:
    dask = sys.modules.get("dask.array")  # there, if anybody has made such an array
    if dask is not None and isinstance(x, dask.Array):
        x = x.compute()
    if hasattr(x, "to_memory"):  # a sparse matrix of an AnnData opened in backed mode
        x = x.to_memory()
    return x


def _array(x: object) -> np.ndarray:
    if isinstance(x, np.ma.MaskedArray) and x.mask.any():
        raise DataError("masked values are no counts: fill them in, as in adata.X.filled(0)")
    return wide(np.asarray(x))


def checked(
    x: Counts | OnDisk,
    adata: AnnData,
    genes: pd.Index,
    source: Source,
    data_kind: DataKind,
    known: bool,
) -> Counts | OnDisk:
    """Return the counts, rounded if that was asked for, after a look at every value.

    For transformed data any finite value will do.

    Parameters
    ----------
    x
        What :func:`matrix` has found, with these genes.
    adata, genes, source, data_kind
        Where it comes from, and what it should be.
    known
        Whether it is read for a model that is there.

    Raises
    ------
    DataError
        Naming cell, gene and value, and where counts are.
    """
    rounds = source.round_counts and data_kind is DataKind.COUNTS
    if rounds:
        _check_corrected(x, source)
    if isinstance(x, OnDisk):
        x = replace(x, rounded=rounds)
        for cells, block in x.blocks():
            names = adata.obs_names[cells]
            _checked(block, adata, names, genes, source, data_kind, known)
        return x
    x = rounded(x) if rounds else x
    return _checked(x, adata, adata.obs_names, genes, source, data_kind, known)


def _checked(
    x: Counts,
    adata: AnnData,
    cells: pd.Index,
    genes: pd.Index,
    source: Source,
    data_kind: DataKind,
    known: bool,
) -> Counts:
    is_bad = _not_a_count if data_kind is DataKind.COUNTS else _not_finite
    at = _first_bad(x, is_bad)
    if at is None:
        return x
    cell, gene = at
    _refuse(x, cell, gene, adata, cells, genes, source, known)


def _first_bad(x: Counts, is_bad: Callable[[np.ndarray], int | None]) -> tuple[int, int] | None:
    n_cells, n_genes = x.shape
    if is_sparse(x):
        for start in range(0, x.nnz, BLOCK):
            bad = is_bad(x.data[start : start + BLOCK])
            if bad is not None:
                at = start + bad
                cell = int(np.searchsorted(x.indptr, at, side="right")) - 1
                return cell, int(x.indices[at])
        return None
    rows = max(1, BLOCK // max(1, n_genes))
    for start in range(0, n_cells, rows):
        bad = is_bad(x[start : start + rows].ravel())
        if bad is not None:
            return start + bad // n_genes, bad % n_genes
    return None


def _not_a_count(values: np.ndarray) -> int | None:
    """Return the position of the first value that is no count, or None."""
    if values.dtype.kind == "b":
        return None
    bad = (values < 0) | (values > LARGEST)
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            bad = ~((values >= 0) & (values == np.floor(values)) & (values <= LARGEST))
    return int(bad.argmax()) if bad.any() else None


def _not_finite(values: np.ndarray) -> int | None:
    """Return the position of the first value that is not finite, or None."""
    bad = ~np.isfinite(values)
    return int(bad.argmax()) if bad.any() else None


def _check_corrected(x: Counts | OnDisk, source: Source) -> None:
    """Refuse to round what was normalised."""
    some_cells = _some_cells(x)
    if some_cells.dtype.kind == "f" and normalised(some_cells):
        raise DataError(
            f"{source.name} looks normalised, and rounding normalised values makes no counts: "
            "pass raw counts (layer=..., use_raw=True), or leave out round_counts"
        )


def _some_cells(x: Counts | OnDisk) -> Counts:
    """Return the values of some cells, spread over the data."""
    n_cells = x.shape[0]
    return taken(x, np.unique(np.linspace(0, n_cells - 1, min(LOOKED_AT, n_cells)).astype(int)))


def _rows(x: Counts) -> list[np.ndarray]:
    """Return the values other than zero of some cells."""
    some_cells = _some_cells(x)
    dense = some_cells.toarray() if is_sparse(some_cells) else some_cells
    return [row[row != 0].astype(float) for row in dense if (row != 0).any()]


def normalised(x: Counts) -> bool:
    """Return whether values look like normalised counts rather than like corrected ones.

    Normalised cells add up to one total, or their exponentials do; and where a cell had the same
    count twice, it has the same fraction twice. Counts that were corrected for ambient RNA, or
    shared out among genes, do neither, or many of them are still whole numbers.
    """
    rows = _rows(x)
    if not rows:
        return False
    values = np.concatenate(rows)
    if not np.isfinite(values).all() or (values < 0).any():
        return True
    fractional = values != np.floor(values)
    if not fractional.any():
        return False
    totals = [np.array([row.sum() for row in rows])]
    if values.max() < 50:
        totals.append(np.array([np.expm1(row).sum() for row in rows]))
        totals.append(np.array([np.expm1(row * np.log(2)).sum() for row in rows]))
    if len(rows) > 2 and any(total.std() < 1e-3 * total.mean() for total in totals):
        return True
    if fractional.mean() < 0.95:
        return False
    ties = 1 - sum(len(np.unique(row)) for row in rows) / len(values)
    return bool(ties > 0.3)


def _looks_like_counts(adata: AnnData, source: Source) -> bool:
    try:
        x = matrix(adata, source)
    except MGVIError:
        return False
    rows = [] if isinstance(x, OnDisk) or x.dtype.kind == "b" else _rows(x)
    return bool(rows) and all(_not_a_count(row) is None for row in rows)


def _with_counts(adata: AnnData, source: Source) -> list[Source]:
    """Return the other places of an AnnData that hold counts."""
    others = [Source(layer) for layer in (None, *(key for key in adata.layers if key))]
    others += [Source(use_raw=True)] if adata.raw is not None else []
    here = replace(source, round_counts=False)
    return [other for other in others if other != here and _looks_like_counts(adata, other)]


def _instead(adata: AnnData, source: Source, known: bool = False) -> str:
    """Return what to pass in place of a source that holds no counts, if something else does."""
    found = _with_counts(adata, source)
    if not found:
        return "" if source.use_raw else ": name the layer that holds the counts"
    where = found[0]
    asked = "use_raw=True" if where.use_raw else f"layer={where.layer or 'X'!r}"
    how = f"mgvi.read(adata, {asked}) in place of adata" if known else asked
    return f"; counts seem to be in {' and '.join(other.name for other in found)}: pass {how}"


def _refuse(
    x: Counts,
    cell: int,
    gene: int,
    adata: AnnData,
    cells: pd.Index,
    genes: pd.Index,
    source: Source,
    known: bool,
) -> NoReturn:
    value = x[cell, gene]
    kind = "not finite" if not np.isfinite(value) else "negative" if value < 0 else "fractional"
    if kind == "fractional" and value == np.floor(value):
        kind, advice = "too large", f"; no count is above {LARGEST:g}: correct or remove this value"
    else:
        advice = _instead(adata, source, known) if _with_counts(adata, source) else ""
    if not advice and kind != "fractional":
        advice = "; counts must be whole numbers from 0: correct or remove this value"
    elif not advice and not normalised(x):
        advice = (
            "; if these are counts that were corrected for ambient RNA or shared out among genes, "
            "build the model with round_counts=True; normalised data need "
            "likelihood=Gaussian"
        )
    elif not advice:
        advice = (
            "; normalised data cannot be used: pass raw counts (layer=... if they lie in a layer, "
            "use_raw=True if in adata.raw), or choose likelihood=Gaussian"
        )
    raise DataError(
        f"{source.name} has the {kind} value {value} in cell {cells[cell]!r}, "
        f"gene {genes[gene]!r}{advice}"
    )
