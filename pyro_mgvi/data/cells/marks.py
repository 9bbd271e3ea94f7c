"""What tells cells apart: a number made of each one's counts, beside its labels."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from pyro_mgvi.data.grouped_counts import GroupedCounts

BLOCK = 4096  # cells to read at a time
KNOWN: WeakKeyDictionary[GroupedCounts, np.ndarray] = WeakKeyDictionary()  # a pass over the counts
KINDS = ("counts", "groups", "batches", "covariates", "samples")


def marks(data: GroupedCounts) -> np.ndarray:
    """Return marks of the cells, (n, 5): of counts, group, batch, covariates and sample.

    What was made of some cells can so be refused for others, for the same cells in another order,
    and for the same cells with other labels or other genes.

    Examples
    --------
    >>> from pyro_mgvi.datasets import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=40, n_shared_genes=30, n_program_genes=10)
    >>> cells, turned = (GroupedCounts.from_anndata(x, "group") for x in (adata, adata[::-1]))
    >>> differing(marks(cells), marks(cells)), differing(marks(cells), marks(turned))
    ([], ['counts', 'groups'])
    """
    if data in KNOWN:
        return KNOWN[data]
    weight_g, weight_c = (
        np.random.default_rng(0).uniform(0.5, 1.5, size)
        for size in (data.shape[1], data.covariate_nc.shape[1])
    )
    starts = range(0, len(data), BLOCK)
    blocks = [np.arange(start, min(start + BLOCK, len(data))) for start in starts]
    counts_n = [np.zeros(0), *(data.counts(cells) @ weight_g for cells in blocks)]
    sample_n = np.unique(data.sample_n, return_inverse=True)[1]
    columns = data.group_n, data.batch_n, data.covariate_nc @ weight_c, sample_n
    KNOWN[data] = np.column_stack([np.concatenate(counts_n), *columns])
    return KNOWN[data]


def differing(one_nk: np.ndarray, other_nk: np.ndarray) -> list[str]:
    """Return in which of :data:`KINDS` two marks of equally many cells differ."""
    if one_nk.shape != other_nk.shape:
        return [*KINDS]
    alike_k = np.isclose(one_nk, other_nk, rtol=1e-9, atol=1e-9).all(0)
    return [kind for kind, alike in zip(KINDS, alike_k) if not alike]


def reordered(one_nk: np.ndarray, other_nk: np.ndarray) -> bool:
    """Return whether marks are those of the same cells in another order."""
    return np.allclose(np.sort(one_nk[:, 0]), np.sort(other_nk[:, 0]), rtol=1e-9)
