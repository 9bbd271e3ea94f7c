"""Cells of groups that have not got all genes."""

import numpy as np
from scipy import sparse

from pyro_mgvi.kernels.sparse import is_sparse


def random_masks(rng, n_groups, n_genes, share=0.3):
    """Return which group has which gene: each gene is in some group, and two are in all."""
    has_bg = rng.random((n_groups, n_genes)) > share
    has_bg[rng.integers(n_groups, size=n_genes), np.arange(n_genes)] = True
    has_bg[:, :2] = True
    return has_bg


def masked(adata, has_bg, fill=0.0, csr=False):
    """Return a copy with masks in ``var``, absent entries filled with a number or an array."""
    copy, groups = adata.copy(), sorted(adata.obs["group"].unique())
    for group, has_g in zip(groups, has_bg, strict=True):
        copy.var[f"in_{group}"] = has_g
    x = copy.X.toarray() if is_sparse(copy.X) else np.array(copy.X)
    absent_ng = ~has_bg[[groups.index(group) for group in adata.obs["group"]]]
    x = np.where(absent_ng, fill, x.astype(float))
    copy.X = sparse.csr_matrix(x) if csr else x
    return copy


def masks_of(adata):
    """Return the columns of ``var`` by group."""
    return {group: f"in_{group}" for group in sorted(adata.obs["group"].unique())}
