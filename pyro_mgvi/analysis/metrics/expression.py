"""Values of genes that a score is of: a dense table of numbers."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse

from pyro_mgvi.data.checks import some
from pyro_mgvi.errors import DataError
from pyro_mgvi.kernels.sparse import is_sparse

Expression: TypeAlias = ArrayLike | sparse.csr_matrix


def dense_genes(given_ng: Expression, what: str) -> np.ndarray:
    """Return values of genes as a dense table of at least 32-bit numbers.

    Parameters
    ----------
    given_ng
        Cells x genes: an array, a table, or a sparse array.
    what
        What to call them in an error.

    Raises
    ------
    DataError
        If they are no numbers, or not cells x genes.

    Examples
    --------
    >>> dense_genes(sparse.csr_matrix([[0, 1], [2, 0]]), "counts").tolist()
    [[0.0, 1.0], [2.0, 0.0]]
    """
    try:
        values_ng = np.asarray(given_ng.toarray() if is_sparse(given_ng) else given_ng)
        if values_ng.dtype == object:  # as of a table whose numbers may be missing
            values_ng = pd.DataFrame(values_ng).to_numpy(float, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be numbers, cells x genes: {error}") from error
    if values_ng.ndim != 2 or values_ng.dtype.kind not in "fiub":
        raise DataError(
            f"{what} must be numbers, cells x genes, not {values_ng.dtype} values of shape "
            f"{values_ng.shape}"
        )
    return values_ng.astype(np.result_type(values_ng, np.float32), copy=False)


def check_finite(values_ng: np.ndarray, given_ng: Expression, what: str) -> None:
    """Refuse values that are missing or infinite.

    Parameters
    ----------
    values_ng
        Values of the cells that are used.
    given_ng
        What was given: a table names its genes, others are numbered from 1.
    what
        What to call them in an error.

    Raises
    ------
    DataError
        Naming the genes.
    """
    bad = np.flatnonzero(~np.isfinite(values_ng).all(0))
    if len(bad):
        names = given_ng.columns[bad] if isinstance(given_ng, pd.DataFrame) else bad + 1
        raise DataError(
            f"{what} are missing (NaN) or infinite in some cells: gene {some(names)}; correct "
            "them, or leave these genes out"
        )
