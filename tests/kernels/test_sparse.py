"""Mostly zero counts, never made dense, give what dense ones give."""

import numpy as np
import pyro
import pytest
import torch
from helpers.modalities import model, mosaic
from scipy import sparse

import pyro_mgvi
from pyro_mgvi import MGVI, WassersteinTraceELBO
from pyro_mgvi.kernels.sparse import (
    DENSITY,
    SparseInput,
    kept_entries,
    product,
    scaled_log,
    to_dense,
    to_torch,
    totals,
)
from pyro_mgvi.training.objective import Objective

LATENTS = (pyro_mgvi.shared(3), pyro_mgvi.private(2))


def test_totals_and_scaled_logs_are_those_of_dense_counts():
    dense = np.random.default_rng(0).poisson(0.3, (9, 31)).astype(np.float32)
    dense[4] = 0.0  # a cell without counts
    x, factor = to_torch(sparse.csr_matrix(dense)), torch.rand(9)
    torch.testing.assert_close(to_dense(x), torch.from_numpy(dense), rtol=0, atol=0)
    torch.testing.assert_close(totals(x), torch.from_numpy(dense.sum(1)))
    scaled = torch.log1p(torch.from_numpy(dense) * factor[:, None])
    torch.testing.assert_close(to_dense(scaled_log(x, factor)), scaled)


@pytest.mark.parametrize("n_covariates", [None, 0, 2])
def test_the_product_and_its_gradients_are_those_of_the_formula(n_covariates):
    x = to_torch(sparse.random(9, 31, 0.2, "csr", np.float32, np.random.default_rng(0)))
    input_g = torch.rand(31)
    covariates = None if n_covariates is None else torch.randn(9, n_covariates)
    dense = to_dense(x) - input_g
    torch.testing.assert_close(SparseInput(x, input_g).to_dense(), dense)
    joined = dense if covariates is None else torch.cat([dense, covariates], 1)
    weight = torch.randn(3, joined.shape[1], 4, requires_grad=True)
    bias = torch.randn(3, 1, 4, requires_grad=True)
    found, expected = product(SparseInput(x, input_g), covariates, weight, bias), joined @ weight
    expected = expected + bias
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    grad = torch.randn_like(expected)
    ours, truth = (torch.autograd.grad(h, (weight, bias), grad) for h in (found, expected))
    torch.testing.assert_close(ours, truth, rtol=1e-5, atol=1e-5)


def test_the_product_of_groups_with_centres_of_their_own_is_that_of_the_formula():
    x = to_torch(sparse.random(9, 31, 0.2, "csr", np.float32, np.random.default_rng(0)))
    centre_bg, group = torch.rand(3, 31), torch.tensor([0, 2, 1, 0, 0, 2, 2, 1, 0])
    dense = to_dense(x) - centre_bg[group]
    given = SparseInput(x, centre_bg, group)
    torch.testing.assert_close(given.to_dense(), dense)
    weight = torch.randn(3, 31, 4, requires_grad=True)
    bias = torch.randn(3, 1, 4, requires_grad=True)
    found, expected = product(given, None, weight, bias), dense @ weight + bias
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    grad = torch.randn_like(expected)
    ours, truth = (torch.autograd.grad(h, (weight, bias), grad) for h in (found, expected))
    torch.testing.assert_close(ours, truth, rtol=1e-5, atol=1e-5)


def test_entries_are_kept_by_the_group_of_their_row():
    rng = np.random.default_rng(0)
    x = sparse.random(9, 31, 0.4, "csr", np.float32, rng)
    keep_bg, group = torch.from_numpy(rng.random((3, 31)) > 0.5), torch.arange(9) % 3
    x.data[::3] = np.nan
    found = to_dense(kept_entries(to_torch(x), keep_bg, group))
    truth = torch.where(keep_bg[group], torch.from_numpy(x.toarray()), 0.0)
    torch.testing.assert_close(found, truth, rtol=0, atol=0, equal_nan=True)


def gradients_are_the_same(mgvi, data):
    """Assert that a sparse minibatch has the gradients of a dense one, and so the same loss."""
    objective = Objective(mgvi.model, mgvi.guide, WassersteinTraceELBO())
    found = []
    for keep_sparse in (False, True):
        batch = data.rows(np.arange(50), keep_sparse=keep_sparse)
        assert (batch.counts.layout == torch.sparse_csr) == keep_sparse
        torch.manual_seed(0)
        objective.zero_grad()
        with pyro.settings.context(module_local_params=True):
            sum(objective(*batch).values()).backward()
        found.append({k: p.grad for k, p in objective.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        scale = gradient.abs().max().clamp(min=1)
        torch.testing.assert_close(found[1][name] / scale, gradient / scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoder", [pyro_mgvi.SeparateEncoders, pyro_mgvi.SharedTrunk])
@pytest.mark.parametrize("batch_key", [None, "celltype"])
def test_a_sparse_minibatch_gives_the_dense_loss_and_gradients(adata, encoder, batch_key):
    mgvi = MGVI.from_anndata(adata, "group", batch_key=batch_key, latents=LATENTS, encoder=encoder)
    gradients_are_the_same(mgvi, mgvi.read(adata))


@pytest.mark.parametrize("settings", [{}, {"encoder": pyro_mgvi.SharedTrunk}], ids=str)
def test_genes_stay_sparse_beside_proteins(settings):
    mdata = mosaic(prot="d0")
    kept = np.random.default_rng(0).random(mdata["rna"].shape) < 0.1
    kept[:, 0] = True  # a cell without a count has not got the modality
    for part, keep in ((mdata["rna"], kept), (mdata["prot"], True)):
        part.X = sparse.csr_matrix(part.X * keep)
    mgvi = model(mdata, **settings)
    data = mgvi.read(mdata)
    assert data.x.nnz > DENSITY * np.prod(data.shape) and data.mostly_zero
    gradients_are_the_same(mgvi, data)


def test_latents_of_mostly_zero_counts_are_those_of_dense_ones(adata, monkeypatch):
    mgvi = MGVI.from_anndata(adata, "group", latents=LATENTS)
    dense = mgvi.latents(adata)
    monkeypatch.setattr("pyro_mgvi.data.stores.zeros.DENSITY", 1.1)
    assert mgvi.read(adata).mostly_zero
    for key, value in mgvi.latents(adata).items():
        np.testing.assert_allclose(value, dense[key], rtol=1e-4, atol=1e-5)
