"""Predictive checks, against closed forms and data drawn from the model."""

import tracemalloc

import numpy as np
import pytest
import torch
from helpers.modalities import model, small
from scipy import stats

import pyro_mgvi
from pyro_mgvi import NB, Gaussian, Poisson, SettingsError, shared
from pyro_mgvi.criticism import predictive_checks


def fixed(adata, likelihood):
    """A model whose latents do nothing: its predictive distribution has a closed form."""
    mgvi = pyro_mgvi.MGVI.from_anndata(
        adata, "group", latents=(shared(1),), likelihood=likelihood, observed_library=True
    )
    with torch.no_grad():
        for parameter in (mgvi.model.decoder.heads[0].weight, mgvi.model.decoder.linear):
            parameter.zero_()
    return mgvi


def test_predictive_checks_against_closed_forms(adata):
    mgvi = fixed(adata, NB)
    x = adata.X.toarray().astype(float)
    checks = predictive_checks(mgvi, adata, n_draws=200, progress=False)
    genes, cells = checks.genes, checks.cells
    np.testing.assert_allclose(genes["mean_observed"], x.mean(0))
    np.testing.assert_allclose(genes["variance_observed"], x.var(0))
    np.testing.assert_allclose(genes["zeros_observed"], (x == 0).mean(0))
    np.testing.assert_allclose(cells["library_observed"], x.sum(1))
    np.testing.assert_allclose(cells["zeros_observed"], (x == 0).mean(1))
    assert (cells["group"].to_numpy() == adata.obs["group"].to_numpy()).all()

    decoder, group_n = mgvi.model.decoder, mgvi.read(adata).group_n
    location = (decoder.heads[0].bias + decoder.offset).detach().numpy().astype(float)
    share_ng = (np.exp(location) / np.exp(location).sum(1, keepdims=True))[group_n]
    mean_ng = share_ng * x.sum(1, keepdims=True)
    theta_g = mgvi.model.likelihood.log_theta.exp().detach().numpy()
    zero_ng = stats.nbinom.pmf(0, theta_g, theta_g / (theta_g + mean_ng))
    sd_ng = np.sqrt(mean_ng + mean_ng**2 / theta_g)
    error_g = np.sqrt((sd_ng**2).sum(0) / 200) / len(x)  # of the mean of 200 replicates
    assert (np.abs(genes["mean_predicted"] - mean_ng.mean(0)) < 5 * error_g).all()
    np.testing.assert_allclose(genes["zeros_predicted"], zero_ng.mean(0), atol=0.015)
    np.testing.assert_allclose(cells["zeros_predicted"], zero_ng.mean(1), atol=0.015)
    np.testing.assert_allclose(cells["library_predicted"], mean_ng.sum(1), rtol=0.1)
    # the central interval of a sum over cells is that of a normal, nearly
    half_width = (genes["mean_upper"] - genes["mean_lower"]) / 2
    np.testing.assert_allclose(half_width.mean(), (1.645 * 200**0.5 * error_g).mean(), rtol=0.1)


def replicate(adata, likelihood, seed=0):
    """Counts drawn from a model whose latents do nothing."""
    mgvi = fixed(adata, likelihood)
    drawn = adata.copy()
    torch.manual_seed(seed)
    batch = mgvi.read(adata).rows(np.arange(adata.n_obs))
    with torch.no_grad():
        parts = mgvi.model.decode({"z": torch.zeros(1, adata.n_obs, 1)}, batch.group, None)
        counts = mgvi.model.likelihood(parts, batch.counts.sum(-1).log()).sample()
    drawn.X = counts.numpy()
    return mgvi, drawn


def test_checks_pass_the_truth_and_find_what_a_model_lacks(adata):
    truth, drawn = replicate(adata, NB)
    drawn = drawn[drawn.X.sum(1) > 0]
    summary = predictive_checks(truth, drawn, progress=False).summary()
    for statistic in ("gene mean", "gene variance", "gene zeros", "cell zeros"):
        assert summary.loc[statistic, "inside"] > 0.7, statistic
    poisson = fixed(drawn, Poisson)
    checks = predictive_checks(poisson, drawn, progress=False)
    summary, genes = checks.summary(), checks.genes
    assert summary.loc["gene variance", "above"] > 0.8
    genes = genes[genes["zeros_observed"] > 0.05]
    assert len(genes) > 5 and (genes["zeros_observed"] > genes["zeros_upper"]).mean() > 0.7
    assert summary.loc["gene mean", "error"] < 0.1 * summary.loc["gene mean", "observed"]


def test_p_values_are_uniform_for_data_of_the_model(adata):
    truth, drawn = replicate(adata, Poisson)
    # the library was fixed before the counts were drawn: keep it
    drawn.X[:, 0] = np.maximum(drawn.X[:, 0], 1)
    checks = predictive_checks(truth, drawn, n_draws=200, progress=False)
    p = checks.genes["mean_p"]
    assert 0.01 < (p < 0.1).mean() < 0.25 and p.max() <= 1


@pytest.mark.slow
def test_predictive_checks_are_reproducible_and_never_hold_all_replicates(mgvi, adata):
    many = mgvi.read(adata).subset(np.tile(np.arange(120), 20))
    tracemalloc.start()
    checks = predictive_checks(mgvi, many, n_draws=20, progress=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 4 * 20 * 2400 * 60  # half of cells x genes x draws
    again = predictive_checks(mgvi, many, n_draws=20, progress=False)
    assert checks.genes.equals(again.genes) and checks.cells.equals(again.cells)
    other = predictive_checks(mgvi, many, n_draws=20, seed=1, progress=False)
    assert not checks.genes.equals(other.genes)


def test_predictive_checks_refuse_transformed_data_and_few_draws(mgvi, adata):
    with pytest.raises(SettingsError, match="n_draws"):
        predictive_checks(mgvi, adata, n_draws=5)
    log = adata.copy()
    log.X = np.log1p(log.X.toarray())
    gaussian = pyro_mgvi.MGVI.from_anndata(log, "group", likelihood=Gaussian)
    with pytest.raises(SettingsError, match="Gaussian"):
        predictive_checks(gaussian, log)


def test_open_regions_are_compared_with_open_ones(adata):
    mgvi = pyro_mgvi.MGVI.from_anndata(adata, "group", likelihood=pyro_mgvi.Bernoulli)
    checks = predictive_checks(mgvi, adata, n_draws=20, progress=False)
    is_open = (adata.X.toarray() > 0).mean(0)
    np.testing.assert_allclose(checks.genes["mean_observed"], is_open, rtol=1e-6)
    assert checks.genes["mean_predicted"].between(0, 1).all()


def test_cells_without_a_modality_are_no_cells_without_a_protein():
    mdata = small()
    lacks = np.arange(mdata.n_obs) < 20
    mdata["prot"].X[lacks] = 0
    mgvi = model(mdata)
    checks = predictive_checks(mgvi, mdata, n_draws=20, progress=False)
    proteins = checks.genes.filter(like="prot:", axis=0)
    counts = mdata["prot"].X[~lacks]
    np.testing.assert_allclose(proteins["mean_observed"], counts.mean(0), rtol=1e-5)
    np.testing.assert_allclose(proteins["zeros_observed"], (counts == 0).mean(0), atol=1e-6)
    rna_zeros = (mdata["rna"].X[lacks] == 0).mean(1)
    np.testing.assert_allclose(checks.cells["zeros_observed"][lacks], rna_zeros, atol=1e-6)
