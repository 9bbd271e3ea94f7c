"""Data that were read for one schema, as another one codes them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pyro_mgvi.data import checks
from pyro_mgvi.data.schema import Schema
from pyro_mgvi.errors import DataError


def matched(
    theirs: Schema, ours: Schema, group_n: np.ndarray, batch_n: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Return the columns of our genes (None if in order), and our codes of groups and batches.

    Raises
    ------
    DataError
        If the counts are of other keys, genes, groups, batches or covariates, by name.
    """
    for field in ("group_key", "layer", "batch_key", "covariate_keys", "categories", "moments"):
        mine, found = getattr(ours, field), getattr(theirs, field)
        if mine != found:
            raise DataError(
                f"the counts were read with {field} {found!r}, the model's is {mine!r}: pass the "
                "AnnData itself, or counts read with the model's keys"
            )
    columns = checks.gene_order(pd.Index(theirs.genes), ours.genes)
    group_n = _recoded(group_n, theirs.groups, ours.groups, f"group(s) of {ours.group_key!r}")
    batch_n = _recoded(batch_n, theirs.batches, ours.batches, "batch(es)")
    return columns, group_n, batch_n


def _recoded(code_n: np.ndarray, theirs, ours, what: str) -> np.ndarray:
    used = [theirs[code] for code in np.unique(code_n)]
    unknown = [name for name in used if name not in ours]
    if unknown:
        raise DataError(
            f"the counts have {what} unknown to the model: {checks.some(unknown)}; "
            f"it knows: {checks.some(ours, 20)}"
        )
    new = np.array([ours.index(name) if name in ours else -1 for name in theirs], np.int64)
    return new[code_n]
