"""A handful of cells to read, right or wrong, and the values of cells that are no counts."""

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from pyro_mgvi import GroupedCounts

N, G = 12, 5


def make(counts=None, **obs):
    """Return N cells of the tissues b and a, with more columns of ``obs`` if given."""
    if counts is None:
        counts = np.random.default_rng(0).poisson(3.0, (N, G)) + 1.0
    table = {"tissue": ["b"] * 5 + ["a"] * 7} | obs
    cells = [f"cell{i}" for i in range(len(counts))]
    genes = [f"gene{i}" for i in range(counts.shape[1])]
    obs = pd.DataFrame(table, index=cells)
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=genes))


def read(adata, **kwargs):
    return GroupedCounts.from_anndata(adata, **{"group_key": "tissue"} | kwargs)


def log_normalised(adata):
    """Return a copy with centred logarithms instead of counts."""
    copy = adata.copy()
    x = np.log1p(copy.X.toarray())
    copy.X = x - x.mean(0) * 0.9
    return copy
