"""Donors of real data: halved at random, with planted effects if asked, or in their groups."""

from __future__ import annotations

import argparse

import anndata as ad
import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.donors.cells import LEAST_MEAN, NOTHING, SHIFTED
from benchmarks.donors.rows import run


def null(arguments: argparse.Namespace) -> None:
    """Split donors at random."""
    adata = ad.read_h5ad(arguments.data)
    donors = np.unique(adata.obs["donor"].astype(str))
    for split in range(arguments.splits):
        for n in arguments.donors:
            drawn = np.random.default_rng([n, split]).permutation(donors)[:n]
            some = adata[adata.obs["donor"].isin(drawn)].copy()
            first = some.obs["donor"].isin(drawn[: n // 2])
            some.obs["group"] = np.where(first, "first", "second")
            if arguments.planted:
                plant(some, arguments.planted, split)
            key = (arguments.data.stem, n, arguments.planted, split)
            run(some, "first", "donor", key, arguments)


def plant(adata: ad.AnnData, n_genes: int, seed: int) -> None:
    """Thin the counts of some genes to half in the second group, and mark them."""
    rng = np.random.default_rng(seed)
    common = np.flatnonzero(np.asarray(adata.X.mean(0)).ravel() >= LEAST_MEAN)
    genes = rng.choice(common, n_genes, replace=False)
    x = adata.X.toarray()
    cells = np.flatnonzero(adata.obs["group"] == "second")
    at = np.ix_(cells, genes)
    x[at] = rng.binomial(x[at].astype(int), 0.5)
    adata.X = csr_matrix(x)
    adata.var["planted"] = np.where(np.isin(np.arange(adata.n_vars), genes), SHIFTED, NOTHING)


def effects(arguments: argparse.Namespace) -> None:
    """Compare the groups that there are."""
    adata = ad.read_h5ad(arguments.data)
    n = adata.obs[arguments.sample].nunique()
    for split in range(arguments.splits):
        key = (arguments.data.stem, n, 0, split)
        run(adata, arguments.group, arguments.sample, key, arguments)
