"""Genes that a user names, as positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from pyro_mgvi.data import checks
from pyro_mgvi.errors import DataError

#: Names of genes, or True for each that is meant: an array, or a Series with names as its index.
GeneChoice: TypeAlias = Sequence[str] | np.ndarray | pd.Series | pd.Index


def positions(genes: pd.Index, given: GeneChoice) -> np.ndarray:
    """Return where the genes are that are meant, in the order of the data.

    Raises
    ------
    DataError
        If a name is unknown or given twice, or truth values are not one for each gene.

    Examples
    --------
    >>> positions(pd.Index(["CD3D", "MS4A1", "NKG7"]), ["NKG7", "CD3D"])
    array([0, 2])
    """
    checks.names(genes)
    if isinstance(given, (str, bytes)) or not isinstance(
        given, (list, tuple, np.ndarray, pd.Series, pd.Index)
    ):
        raise DataError(
            f"genes must be a list of names or the result of choose_genes, not {given!r}"
        )
    column = given if isinstance(given, pd.Series) else pd.Series(list(given))
    known = column[column.notna()]
    if len(known) and all(isinstance(value, (bool, np.bool_)) for value in known):
        missing = np.flatnonzero(column.isna())
        if len(missing):
            raise DataError(
                f"genes is neither True nor False (NA) at position {checks.some(missing)}: fill it "
                "in, as in genes.fillna(False)"
            )
        if not isinstance(given, pd.Series):
            if len(column) != len(genes):
                raise DataError(
                    f"genes holds {len(column)} truth values, and there are {len(genes)} genes"
                )
            return np.flatnonzero(column.to_numpy(bool))
        column = pd.Series(column.index[column.to_numpy(bool)])
    if pd.api.types.is_numeric_dtype(column) and set(column) <= {0, 1} and len(column) > 2:
        raise DataError("genes holds 0 and 1 for each gene: make them truth values, astype(bool)")
    names = checks.texts(column, "genes")
    twice = names[names.duplicated()].unique()
    if len(twice):
        raise DataError(f"genes names a gene twice: {checks.some(twice)}; name each once")
    unknown = names.difference(genes)
    if len(unknown):
        raise DataError(
            f"genes names {len(unknown)} gene(s) that the data have not got: {checks.some(unknown)}"
        )
    return np.sort(genes.get_indexer(names))
