"""The table that a run adds to, row by row: what is there is not run again."""

from __future__ import annotations

import argparse
import time

import anndata as ad
import numpy as np
import pandas as pd

from benchmarks.donors.cells import NOTHING, SHIFTED, VARYING
from benchmarks.donors.methods import p_values_of
from pyro_mgvi.analysis.efficient_scores import discovery_rates

KEYS = ["data", "donors", "planted", "split"]
LEAST_CELLS = 3  # with a gene, for it to be tested at all
RATE = 0.05


def expressed(adata: ad.AnnData) -> ad.AnnData:
    """Return the data with the genes that some cells have."""
    kept = np.asarray((adata.X > 0).sum(0)).ravel() >= LEAST_CELLS
    return adata[:, kept].copy()


def first_true(p_g: np.ndarray, true_g: np.ndarray, false_g: np.ndarray) -> int:
    """Return how many true genes a ranking begins with, while at most 5 % of them are false.

    Genes that are neither are passed over. It compares methods at one realised rate of false
    discoveries, whatever their q-values say.

    Examples
    --------
    >>> true_g = np.array([True, True, False, True])
    >>> first_true(np.array([0.1, 0.2, 0.3, 0.4]), true_g, ~true_g)
    2
    """
    order = np.argsort(p_g, kind="stable")
    order = order[(true_g | false_g)[order] & (p_g[order] < 1)]  # NaN is not below 1
    n_true, n_false = true_g[order].cumsum(), false_g[order].cumsum()
    within = n_false <= RATE * (n_true + n_false)
    return int(n_true[within].max(initial=0))


def row(p_g: np.ndarray, kind_g: np.ndarray) -> dict[str, float]:
    """Return what a method calls, of genes of each kind, and how its ranking begins."""
    if np.isnan(p_g).all():
        return {}
    called_g, false_g = discovery_rates(p_g) < RATE, kind_g == NOTHING
    return {
        "p < 0.05": float((p_g < RATE).sum() / (~np.isnan(p_g)).sum()),
        "q < 0.05": int(called_g.sum()),
        "true": int(called_g[~false_g].sum()),
        "shift": int(called_g[kind_g == SHIFTED].sum()),
        "program": int(called_g[kind_g == VARYING].sum()),
        "first shift": first_true(p_g, kind_g == SHIFTED, false_g),
        "first program": first_true(p_g, kind_g == VARYING, false_g),
    }


def run(
    adata: ad.AnnData,
    group: str,
    sample: str,
    key: tuple[object, ...],
    arguments: argparse.Namespace,
) -> None:
    """Add the rows of one comparison to the table, if they are not there.

    Parameters
    ----------
    adata
        Counts with ``obs["group"]``, and in ``var["planted"]`` what was done to each gene, if to
        any.
    group, sample
        The group that is tested, and the column of donors.
    key
        What is compared: ``KEYS``.
    arguments
        Of the command line: ``out``, ``epochs`` and ``only``.
    """
    path = arguments.out / "donors.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=KEYS)
    if (table[KEYS].astype(str) == list(map(str, key))).all(axis=1).any():
        return
    start, rows = time.monotonic(), []
    adata = expressed(adata)
    kind_g = adata.var.get("planted", pd.Series(NOTHING, adata.var_names)).to_numpy(object)
    settings = arguments.epochs, int(key[-1]), arguments.only
    for name, p_g in p_values_of(adata, group, sample, *settings):
        rows.append(
            dict(zip(KEYS, key))
            | {"cells": adata.n_obs, "genes": adata.n_vars, "method": name}
            | row(p_g, kind_g)
            | {"epochs": arguments.epochs, "seconds": round(time.monotonic() - start)}
        )
    parts = [table, pd.DataFrame(rows)] if len(table) else [pd.DataFrame(rows)]
    pd.concat(parts, ignore_index=True).to_csv(path, index=False)
    print(pd.DataFrame(rows).to_string(index=False), flush=True)
