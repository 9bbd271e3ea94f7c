"""Names of cells and genes, for tables that a user looks things up in, and labels of cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.data.checks import some
from pyro_mgvi.data.grouped_counts import GroupedCounts
from pyro_mgvi.data.schema import Schema
from pyro_mgvi.errors import DataError

Labels = Sequence[Any] | np.ndarray | pd.Series | pd.Categorical


def cell_index(data: GroupedCounts, adata: AnnData | GroupedCounts) -> pd.Index:
    """Return the names of the cells, or their positions if ``adata`` has none.

    Parameters
    ----------
    data
        The cells that were read.
    adata
        What they were read from.
    """
    names = data.cells if isinstance(adata, GroupedCounts) else adata.obs_names[data.cells]
    index: pd.Index = pd.Index(names, name="cell")
    return index


def gene_positions(
    schema: Schema, genes: str | Sequence[str] | None
) -> tuple[list[str], np.ndarray]:
    """Return the genes' names and where they are in the model; all genes for None.

    Raises
    ------
    DataError
        Naming those that the model does not know.
    """
    if genes is None:
        return list(schema.genes), np.arange(len(schema.genes))
    names = (
        [genes] if isinstance(genes, str) else list(genes) if isinstance(genes, Iterable) else []
    )
    if not names:
        raise DataError(f"genes={genes!r}: give the name of a gene, or a list of names")
    place = {gene: i for i, gene in enumerate(schema.genes)}
    unknown = [name for name in names if not isinstance(name, str) or name not in place]
    if unknown:
        raise DataError(f"genes not in the model: {some(unknown)}")
    return names, np.array([place[name] for name in names])


def group_code(schema: Schema, group: object) -> int:
    """Return the code of a group by its name; names are text, so 1 is "1".

    Raises
    ------
    DataError
        If the model does not know it.
    """
    if str(group) not in schema.groups:
        known = ", ".join(schema.groups)
        raise DataError(f"group {group!r} is unknown to the model; it knows: {known}")
    return schema.groups.index(str(group))


def known_labels(labels: Labels, name: str = "labels") -> tuple[np.ndarray, np.ndarray]:
    """Return labels as text, and which of them there are.

    Missing are NaN, None, NA and NaT, in any kind of column; the text "nan" is a label like any
    other.

    Parameters
    ----------
    labels
        One per cell.
    name
        What to call them in an error.

    Examples
    --------
    >>> text, known = known_labels(["a", np.nan, 1, None])
    >>> text[known].tolist(), known.tolist()
    (['a', '1'], [True, False, True, False])
    """
    try:
        column = labels if isinstance(labels, pd.Series) else pd.Series(labels)
    except ValueError as error:
        raise DataError(f"{name} must be one per cell: {error}") from error
    known_n: np.ndarray = column.notna().to_numpy()
    text_n = np.full(len(column), None, object)
    text_n[known_n] = [str(label) for label in column[known_n]]
    return text_n, known_n
