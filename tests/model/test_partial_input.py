"""The posterior from some genes alone: what is hidden has no influence whatever."""

import numpy as np
import pytest
import torch
from helpers.by_hand import away_from_start

from pyro_mgvi import MGVI, DataKind, Gaussian
from pyro_mgvi.kernels.sparse import to_torch


@pytest.fixture(params=DataKind, ids=lambda kind: kind.name)
def cells(request, adata):
    """A model away from its start, with covariates, and all its cells."""
    settings = {}
    if request.param is DataKind.VALUES:
        adata = adata.copy()
        adata.X, settings["likelihood"] = np.log1p(adata.X.toarray()), Gaussian
    latents = ["z:3", "t:2", "pair:2"]
    mgvi = MGVI.from_anndata(adata, "group", batch_key="celltype", latents=latents, **settings)
    away_from_start(mgvi)
    data = mgvi.read(adata)
    return mgvi, data.rows(np.arange(len(data)))


def seen(*hidden):
    seen_g = torch.ones(60)
    seen_g[list(hidden)] = 0.0
    return seen_g


@torch.no_grad()
def moments(mgvi, counts, batch, seen_g=None):
    return mgvi.guide.moments(counts, batch.covariates, seen_g)


def test_the_counts_of_a_hidden_gene_do_not_change_the_posterior_at_all(cells):
    mgvi, batch = cells
    hidden = [7, 20, 55]
    before = moments(mgvi, batch.counts, batch, seen(*hidden))
    for value in (0.0, 1.0, 1e6):
        other = batch.counts.clone()
        other[:, hidden] = value
        other[::2, hidden] *= 3
        after = moments(mgvi, other, batch, seen(*hidden))
        assert after.keys() == before.keys()
        for name, both in before.items():
            for part, again in zip(both, after[name], strict=True):
                assert torch.equal(part, again), name
        unmasked = moments(mgvi, other, batch)
        assert (unmasked["z"][0] - before["z"][0]).abs().max() > 1e-3


def test_the_counts_of_a_seen_gene_change_all_of_it(cells):
    mgvi, batch = cells
    before = moments(mgvi, batch.counts, batch, seen(7))
    other = batch.counts.clone()
    other[:, 8] += 50
    after = moments(mgvi, other, batch, seen(7))
    for name, both in before.items():
        assert (both[0] - after[name][0]).abs().min() > 0, name


def test_the_program_s_posterior_hides_them_too(cells):
    mgvi, batch = cells
    other = batch.counts.clone()
    other[:, 7] = 1e6
    before, after = (mgvi.posterior(x, seen(7)) for x in (batch, batch._replace(counts=other)))
    for name, mean in before.means().items():
        assert torch.equal(mean, after.mean(name)), name


def test_all_genes_seen_is_the_whole_posterior(cells):
    mgvi, batch = cells
    whole, partial = (moments(mgvi, batch.counts, batch, x) for x in (None, seen()))
    for name, both in whole.items():
        torch.testing.assert_close(partial[name], both, rtol=1e-4, atol=1e-5)


def test_without_any_gene_all_cells_are_alike(cells):
    mgvi, batch = cells
    batch = batch._replace(covariates=torch.zeros_like(batch.covariates))
    nothing = moments(mgvi, batch.counts, batch, torch.zeros(60))
    for name, both in nothing.items():
        for part in both:
            assert torch.isfinite(part).all(), name
            per_cell = part if part.dim() == 1 else part.movedim(1, 0)
            torch.testing.assert_close(per_cell, per_cell[:1].expand_as(per_cell))


def test_a_hidden_gene_is_given_its_mean_and_the_total_is_scaled_up(mgvi):
    usual_g = mgvi.guide.input_g.expm1()
    depth_n = torch.tensor([1.0, 2.0, 50.0])
    counts = depth_n[:, None] * usual_g  # cells of the usual profile
    for hidden in ([3], [3, 4, 30], range(40)):
        x_ng, total_n = mgvi.guide.partial_input(counts, seen(*hidden))
        torch.testing.assert_close(total_n, depth_n * usual_g.sum(), rtol=1e-4, atol=0)
        assert (x_ng[:, list(hidden)] == 0).all()


def test_sparse_counts_give_the_same(mgvi, adata):
    data = mgvi.read(adata)
    batch = data.rows(np.arange(len(data)))
    dense, packed = (
        moments(mgvi, counts, batch, seen(7, 20)) for counts in (batch.counts, to_torch(data.x))
    )
    for name, both in dense.items():
        torch.testing.assert_close(packed[name], both)
