"""Poisson counts of a large group and a small one, with programs."""

import anndata as ad
import numpy as np

SMALL = 20  # cells of the small group


def large_and_small(program=(), of_large=(), seed=0, n=220, n_genes=150):
    """Return cells in which some genes vary in the small group alone, some in the large one."""
    rng = np.random.default_rng(seed)
    share_g = rng.lognormal(0, 1, n_genes)
    rate_ng = rng.lognormal(6, 0.3, (n, 1)) * share_g / share_g.sum()
    for first, last, genes in ((0, SMALL, program), (SMALL, n, of_large)):
        for up in (0, 1):  # as many up as down: else libraries vary, and all other genes
            cells, others = np.arange(first + up, last, 2), np.arange(first + 1 - up, last, 2)
            rate_ng[np.ix_(cells, genes[up::2])] *= 1.8
            rate_ng[np.ix_(others, genes[up::2])] *= 0.2
    obs = {"group": np.where(np.arange(n) < SMALL, "small", "large")}
    adata = ad.AnnData(rng.poisson(rate_ng).astype(float), obs=obs)
    adata.var_names = [f"gene{i}" for i in range(n_genes)]
    adata.obs_names = [f"cell{i}" for i in range(n)]
    return adata


def most_expressed(adata, number):
    """Return positions of the genes with most counts."""
    return np.argsort(-adata.X.sum(0))[:number]
