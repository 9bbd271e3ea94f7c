"""Simulated groups whose programs are of few genes with low counts: hard to find by gradients."""

import numpy as np

from pyro_mgvi.datasets import SplatParams, grouped


def sparse_programs(seed, n_cells=1600):
    """Few genes of low counts differ: what the paper's recipe is like, at a smaller size."""
    program = SplatParams(lib_loc=6.5, de_prob=0.1, de_fac_loc=0.4, de_fac_scale=0.4)
    return grouped(seed, SplatParams(lib_loc=8.5), program, n_cells, 800, 150)


def with_a_small_group():
    """Return data of which group2 has 60 cells, too few to be searched."""
    adata = sparse_programs(1)
    left_out = np.flatnonzero(adata.obs["group"] == "group2")[60:]
    return adata[np.setdiff1d(np.arange(adata.n_obs), left_out)].copy()
