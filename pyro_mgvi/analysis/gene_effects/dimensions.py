"""Each dimension in a row: how far it varies, in which cells, and with what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.analysis.gene_effects.effects import Effects, effects
from pyro_mgvi.analysis.gene_effects.table import chosen_copies, owned
from pyro_mgvi.analysis.metrics import known_labels
from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.checks import column
from pyro_mgvi.data.modalities import labelled
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search.pruning import dimension_divergence

GENES = 8  # named in each direction
LABELS = 3  # named
LEAST_TOLD = 1 / 25  # of what the first gene tells, for a gene to be named
LEAST = 10  # cells of a label, at least


def program_summary(
    mgvi: Program,
    adata: AnnData | GroupedCounts,
    label_key: str | None = None,
    latents: Iterable[str] | str | None = None,
) -> pd.DataFrame:
    """Return a row for each dimension in use: how far it varies, in which cells, with what.

    All is over the cells that own the latent, and of the dimension times its ``orientation``, as
    in :func:`programs`. Nothing is refitted; whether a latent is worth anything on unseen cells,
    :func:`~pyro_mgvi.diagnose` says.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`).
    label_key
        Column of ``obs`` with labels, such as cell types. Cells without one are left out of what
        is said of labels.
    latents
        As for :func:`programs`.

    Returns
    -------
    The columns ``latent``; ``dimension``, from 1; ``cells`` that own it; ``nats`` that it says
    about each, the divergence of posterior from prior; ``standard_deviation`` of the posterior
    means; ``orientation``; ``genes_up`` and ``genes_down``, the most telling ones;
    with labels, ``labels_explain``, the share of its variance that lies between them (near 1, it
    tells labels and nothing else), and ``varies_in``, the labels within which its standard
    deviation is largest, and that; ``<column>_correlation``, of ranks (Spearman), with each column
    of real numbers in ``obs`` that varies (NaN where it does not among the cells that own the
    latent); and ``depth_correlation`` with the counts of a cell. Where ``obs`` has a column
    ``depth``, of whatever kind, that of the counts is ``depth_of_counts_correlation``; where it has
    this one, too, ``depth_of_counts_of_counts_correlation``.

    Raises
    ------
    SettingsError, DataError
        If a latent or the column of labels is unknown, or no cell owns a latent.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group", latents=["z:2", "t:1"])
    >>> table = program_summary(mgvi, adata, label_key="celltype")
    >>> table["latent"].tolist(), int(table["cells"].sum())
    (['t_group1', 't_group2'], 120)
    """
    copies, obs = chosen_copies(mgvi, latents), pd.DataFrame()
    labels = labelled(adata, [label_key])
    if not isinstance(adata, GroupedCounts):
        obs = labels.obs
    if label_key is not None:
        column(labels, label_key, "label_key")
    data, rows = mgvi.read_for_results(adata), []
    obs = obs.iloc[data.cells] if len(obs.columns) else obs
    numbers, depth = _numbers(obs), "depth"
    while depth in obs.columns:
        depth += "_of_counts"
    for copy in copies:
        own = owned(mgvi, data, copy)
        cells = data.subset(own)
        found = effects(mgvi, cells, copy)
        nats_d = dimension_divergence(mgvi, cells)[copy.latent][copy.index].numpy()
        beside = {key: values[own] for key, values in numbers.items()}
        if mgvi.data_kind is DataKind.COUNTS:
            beside[depth] = np.asarray(cells.x.sum(1), float).ravel()
        label_n = None if label_key is None else obs[label_key].iloc[own]
        rows += [
            {"latent": copy.key, "dimension": int(dim) + 1, "cells": len(own)}
            | {"nats": float(nats_d[dim])}
            | _row(found, i, mgvi.schema.genes, label_n)
            | {f"{key}_correlation": _rank_correlation(found, i, x) for key, x in beside.items()}
            for i, dim in enumerate(found.dims)
        ]
    return pd.DataFrame(rows, columns=None if rows else ["latent", "dimension", "cells"])


def _numbers(obs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the columns of real numbers that vary, with NaN where a value is missing."""
    kinds = pd.api.types
    numbers = {
        str(key): obs[key].to_numpy(float, na_value=np.nan)
        for key in obs
        if kinds.is_numeric_dtype(obs[key])
        and not kinds.is_bool_dtype(obs[key])
        and not kinds.is_complex_dtype(obs[key])
    }
    return {key: x for key, x in numbers.items() if len(np.unique(x[np.isfinite(x)])) > 1}


def _row(
    found: Effects, i: int, genes: Sequence[str], labels: pd.Series | None
) -> dict[str, float | int | str]:
    """Return what one dimension does, and within which labels."""
    up, down = first_genes(found, i, genes)
    row: dict[str, float | int | str] = {
        "standard_deviation": float(found.mean_nd[:, i].std()),
        "orientation": int(found.orientation_d[i]),
        "genes_up": ", ".join(up),
        "genes_down": ", ".join(down),
    }
    if labels is not None:
        value = pd.Series(found.mean_nd[:, i])
        text_n, known_n = known_labels(labels)
        by = value[known_n].groupby(text_n[known_n].astype(str))
        total = float(((value[known_n] - value[known_n].mean()) ** 2).sum())
        within = float(((value[known_n] - by.transform("mean")) ** 2).sum())
        row["labels_explain"] = 1 - within / total if total > 0 else np.nan
        spread = by.std(ddof=0)[by.size() >= LEAST].sort_values(ascending=False, kind="stable")
        named = [f"{name} ({sd:.2f})" for name, sd in spread.head(LABELS).items()]
        row["varies_in"] = ", ".join(named)
    return row


def first_genes(
    found: Effects, i: int, names: Sequence[str], most: int = GENES
) -> tuple[list[str], list[str]]:
    """Return the most telling genes that rise along a dimension in use, and those that fall.

    Only those that tell a twenty-fifth of what the first one tells, or more: the rest of a program
    of few genes is no program.

    Parameters
    ----------
    found
        The effects.
    i
        Which of the dimensions in use.
    names
        Of all genes.
    most
        How many in each direction.
    """
    information_g, effect_g = found.information_dg[i], found.orientation_d[i] * found.effect_dg[i]
    order = np.argsort(-information_g, kind="stable")
    told = order[information_g[order] >= LEAST_TOLD * information_g.max()]
    sides = (told[effect_g[told] > 0], told[effect_g[told] < 0])
    up, down = ([str(names[gene]) for gene in side[:most]] for side in sides)
    return up, down


def _rank_correlation(found: Effects, i: int, values: np.ndarray) -> float:
    """Return Spearman's correlation over the cells that have a value; NaN if it is constant."""
    known = np.isfinite(values)
    pair = pd.DataFrame({"dimension": found.mean_nd[known, i], "value": values[known]}).rank()
    if (pair.nunique() < 2).any():
        return float("nan")
    return float(found.orientation_d[i] * np.corrcoef(pair.to_numpy().T)[0, 1])
