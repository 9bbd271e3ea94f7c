"""A choice of genes that keeps what varies in one small group alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.data.genes.deviance import excess_deviance
from pyro_mgvi.data.grouped_counts import GroupedCounts
from pyro_mgvi.data.masks import FeatureMasks
from pyro_mgvi.errors import DataWarning
from pyro_mgvi.support.values import whole_number


def choose_genes(
    adata: AnnData,
    n: int,
    group_key: str | Sequence[str],
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    use_raw: bool = False,
    round_counts: bool = False,
    feature_masks: FeatureMasks | None = None,
) -> pd.Series:
    """Return which genes to model: those that vary most within some group.

    Genes are ranked within each group by :func:`~pyro_mgvi.data.genes.deviance.excess_deviance`,
    and those with the best rank in any group are taken, each group's as many, whatever its size.
    A choice over all cells is led by the largest groups, and by what groups differ in. Counts may
    stay in their file.

    Parameters
    ----------
    adata
        Annotated data, which stay as they are.
    n
        How many genes, at least 2.
    group_key, layer, batch_key, use_raw, round_counts, feature_masks
        As for :meth:`MGVI.from_anndata <pyro_mgvi.MGVI.from_anndata>`. What differs between the
        batches of a group is no reason to choose a gene. One that a group has not got is judged
        by those that have it.

    Returns
    -------
    A boolean Series with the names of the genes as index, for ``adata[:, chosen]`` or
    ``MGVI.from_anndata(adata, ..., genes=chosen)``. With ``use_raw`` it is of the genes of
    ``adata.raw``, which may be more than those of ``adata``: for ``adata.raw[:, chosen]`` or
    ``MGVI.from_anndata(adata, ..., use_raw=True, genes=chosen)``.

    Raises
    ------
    DataError
        Naming what is at fault in the data.
    SettingsError
        If ``n`` is no number of genes.

    Examples
    --------
    >>> from pyro_mgvi.datasets import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=200, n_shared_genes=60, n_program_genes=20)
    >>> chosen = choose_genes(adata, 20, "group")
    >>> adata[:, chosen].shape
    (200, 20)
    """
    with warnings.catch_warnings():  # of labels, which come when the model is made
        warnings.simplefilter("ignore", DataWarning)
        data = GroupedCounts.from_anndata(
            adata,
            group_key,
            layer,
            batch_key,
            drop_empty=True,
            use_raw=use_raw,
            round_counts=round_counts,
            feature_masks=feature_masks,
        )
    return chosen_of(data, n)


def chosen_of(data: GroupedCounts, n: int, name: str = "n") -> pd.Series:
    """Return what :func:`choose_genes` does, of counts that are read, for a number of this name."""
    n = whole_number(name, n, least=2, most=data.shape[1])
    chosen_g = np.zeros(data.shape[1], bool)
    chosen_g[by_best_rank(excess_deviance(data))[:n]] = True
    return pd.Series(chosen_g, index=pd.Index(data.schema.genes), name="chosen")


def by_best_rank(score_bg: np.ndarray) -> np.ndarray:
    """Return the order of genes by their best rank in a group, then by the next, and so on.

    Parameters
    ----------
    score_bg
        Scores, (groups, genes), the highest first; a gene without (NaN) is last.

    Examples
    --------
    >>> by_best_rank(np.array([[9.0, 8.0, 1.0, 0.0], [0.1, 0.2, 0.3, np.nan]]))
    array([0, 2, 1, 3])
    """
    order_bg = np.argsort(-score_bg, axis=1, kind="stable")  # NaN is sorted last
    rank_bg = np.argsort(order_bg, axis=1)
    rank_bg[np.isnan(score_bg)] = score_bg.shape[1]
    order: np.ndarray = np.lexsort(np.sort(rank_bg, axis=0)[::-1])
    return order
