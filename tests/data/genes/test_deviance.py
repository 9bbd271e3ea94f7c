"""Scores of genes within groups: by hand, of any storage, and without a taste of their own."""

import anndata as ad
import numpy as np
import pytest
from helpers.masked import masked, masks_of, random_masks
from helpers.variable import large_and_small, most_expressed
from scipy import sparse
from scipy.stats import nbinom, poisson

from pyro_mgvi import DataWarning, GroupedCounts
from pyro_mgvi.data.genes import deviance
from pyro_mgvi.data.genes.chance import common_dispersion
from pyro_mgvi.data.genes.deviance import COINCIDENCE, excess_deviance
from pyro_mgvi.data.stores import on_disk


def scores(adata, **how):
    return excess_deviance(GroupedCounts.from_anndata(adata, "group", drop_empty=True, **how))


def deviances_of(x, mean):
    return 2 * (np.where(x > 0, x * np.log(np.maximum(x, 1) / mean), 0) - x + mean)


def by_hand(x):
    """Return the score of each gene of one group from sums over every count that could be."""
    library_n = x.sum(1)
    dispersion = common_dispersion(x.sum(0), (x**2).sum(0), library_n @ x, library_n)
    found, count = [], np.arange(2000)
    for x_n in x.T:
        mean_n = library_n * x_n.sum() / library_n.sum()
        moments = []
        for mean in mean_n:
            share = (
                nbinom.pmf(count, 1 / dispersion, 1 / (1 + dispersion * mean))
                if dispersion
                else poisson.pmf(count, mean)
            )
            d = deviances_of(count, mean)
            moments.append((share @ d, share @ (d - share @ d) ** 2, share @ (d * (count - mean))))
        expected, variance, covariance = np.sum(moments, axis=0)
        of_total = (mean_n + dispersion * mean_n**2).sum()
        rest = variance - covariance**2 / of_total + COINCIDENCE**2
        found.append((deviances_of(x_n, mean_n).sum() - expected) / np.sqrt(rest))
    return np.array(found)


def test_scores_are_those_by_hand():
    adata = large_and_small(program=[3, 4], n=70, n_genes=25)
    found_bg = scores(adata)
    for group, found_g in zip(("large", "small"), found_bg, strict=True):
        x = adata.X[adata.obs["group"] == group]
        wanted_g = by_hand(x)
        # By hand, the share is taken as known: one of so many degrees of freedom.
        freedom = 1.2 / np.sqrt(2 * len(x) / 3)
        np.testing.assert_allclose(found_g, wanted_g, rtol=0.03, atol=freedom)


@pytest.mark.parametrize("at_a_time", [7, 1000])
@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_dense_sparse_and_stored_counts_give_the_same(tmp_path, monkeypatch, at_a_time, batch_key):
    adata = large_and_small(program=range(10), n=60, n_genes=40)
    adata.obs["batch"] = np.where(np.arange(60) % 3, "x", "y")
    whole = scores(adata, batch_key=batch_key)
    monkeypatch.setattr(deviance, "VALUES", at_a_time * adata.n_vars)
    monkeypatch.setattr(deviance, "CELLS", at_a_time)
    for form in (np.asarray, sparse.csr_matrix):
        other = ad.AnnData(form(adata.X), obs=adata.obs, var=adata.var)
        np.testing.assert_allclose(scores(other, batch_key=batch_key), whole, rtol=1e-9, atol=1e-9)
        path = tmp_path / f"{form.__name__}.h5ad"
        other.write_h5ad(path)
        with monkeypatch.context() as context:
            context.setattr(on_disk, "IN_MEMORY", 0.0)
            context.setattr(on_disk, "VALUES", at_a_time * adata.n_vars)
            stored = ad.read_h5ad(path, backed="r")
            found = scores(stored, batch_key=batch_key)
        np.testing.assert_allclose(found, whole, rtol=1e-9, atol=1e-9)


def test_a_group_is_judged_by_the_genes_that_it_has():
    adata = large_and_small(program=[3, 4])
    has_bg = random_masks(np.random.default_rng(0), 2, adata.n_vars)
    filled = masked(adata, has_bg, fill=7.0)  # of which nothing may be taken
    with pytest.warns(DataWarning, match="features that the masks say"):
        found_bg = scores(filled, feature_masks=masks_of(filled))
    for group, has_g, found_g in zip(("large", "small"), has_bg, found_bg, strict=True):
        assert np.isnan(found_g[~has_g]).all()
        mine = adata[adata.obs["group"] == group, has_g].copy()
        mine.obs["group"] = np.where(np.arange(mine.n_obs) % 2, "a", "b")
        data = GroupedCounts.from_anndata(mine, "group")
        alone_g = excess_deviance(data.with_groups(np.zeros(len(data), int)))[0]
        np.testing.assert_allclose(found_g[has_g], alone_g, rtol=1e-9, atol=1e-9)


def test_what_batches_do_counts_for_nothing():
    adata = large_and_small(n=400)
    adata.obs["batch"] = batch = np.where(np.arange(400) % 2, "x", "y")
    gene = int(most_expressed(adata, 10)[-1])
    rate_n = adata.X.sum(1) * np.where(batch == "x", 0.04, 0.01)
    adata.X[:, gene] = np.random.default_rng(0).poisson(rate_n)
    assert scores(adata)[0, gene] > 10
    assert scores(adata, batch_key="batch")[0, gene] < 4


@pytest.mark.parametrize("dispersion", [0.0, 0.1])
@pytest.mark.parametrize("n", [60, 300])
def test_without_variation_no_expression_is_preferred(dispersion, n):
    """Of genes alike but for their expression, a score is zero on average, with a spread of 1.

    Over several draws: the dispersion of one group is told by 60 genes of 60 cells.
    """
    found = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        share_g = np.sort(rng.lognormal(0, 2, 1200))
        rate_ng = rng.lognormal(8, 0.5, (2 * n, 1)) * share_g / share_g.sum()
        if dispersion:
            rate_ng *= rng.gamma(1 / dispersion, dispersion, rate_ng.shape)
        found.append(scores(ad.AnnData(rng.poisson(rate_ng) * 1.0, obs={"group": ["a", "b"] * n})))
    for quarter in np.split(np.concatenate(found), 4, axis=1):
        assert abs(np.nanmean(quarter)) < 0.7 and np.nanstd(quarter) < 1.5
        assert np.nanmax(quarter) < 7


def test_a_gene_without_counts_in_a_group_has_no_score():
    adata = large_and_small()
    adata.X[adata.obs["group"] == "small", 5] = 0
    adata.X[:, 6] = 0
    found_bg = scores(adata)
    assert np.isnan(found_bg[:, 6]).all() and np.isnan(found_bg[:, 5]).tolist() == [False, True]
