"""Counts in files, and fits of them in the order of those in memory."""

import anndata as ad
import numpy as np
from scipy import sparse

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.minibatch import near_orders

N, G = 90, 12


def counts(seed=0, n=N, n_genes=G, density=0.3):
    rng = np.random.default_rng(seed)
    x = rng.poisson(2, (n, n_genes)) * (rng.random((n, n_genes)) < density)
    x[:, 0] += 1
    return x.astype(np.float32)


def written(path, x, form="csr", **kwargs):
    make = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}[form]
    obs = {"group": np.array(["a", "b", "c"])[np.arange(len(x)) * 3 // len(x)]}
    adata = ad.AnnData(make(x), obs=obs)
    adata.obs_names = [f"cell{i}" for i in range(len(x))]
    adata.var_names = [f"gene{i}" for i in range(x.shape[1])]
    adata.write_h5ad(path, **kwargs)
    return adata


def backed(path):
    return ad.read_h5ad(path, backed="r")


def plain(x):
    return x.toarray() if sparse.issparse(x) else x


def in_the_same_order(monkeypatch, buffer):
    """Let counts in memory come in the order that is for those on disk."""
    real = GroupedCounts.orders

    def orders(self, size, seed=None, stratified=False, shuffle=True):
        if not shuffle:
            return real(self, size, seed, stratified, shuffle)
        return near_orders(self.group_n, size, seed, buffer, stratified)

    monkeypatch.setattr(GroupedCounts, "orders", orders)
