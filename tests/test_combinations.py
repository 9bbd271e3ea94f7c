"""Every encoder, decoder, likelihood and foreign prior together; likelihoods by formula."""

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI
from scipy import stats
from test_likelihoods import scipy_log_prob

import pyro_mgvi
from pyro_mgvi import (
    MGVI,
    DataError,
    Gaussian,
    LogLinearDecoder,
    WassersteinTraceELBO,
    private,
    shared,
)

ENCODERS = (pyro_mgvi.SeparateEncoders, pyro_mgvi.SharedTrunk)
DECODERS = (
    pyro_mgvi.JointDecoder,
    pyro_mgvi.AdditiveDecoder,
    pyro_mgvi.LogLinearDecoder,
    pyro_mgvi.BasisDecoder,
)
LIKELIHOODS = (pyro_mgvi.ZINB, pyro_mgvi.NB, pyro_mgvi.Poisson, pyro_mgvi.Gaussian)
PRIORS = (pyro_mgvi.Dirac, pyro_mgvi.SameAsOwn, pyro_mgvi.Davison, pyro_mgvi.Absent)


@pytest.fixture(scope="module")
def transformed(adata):
    """Log-normalised, centred values of the same cells: no counts."""
    copy = adata.copy()
    x = np.log1p(copy.X.toarray())
    copy.X = x - x.mean(0) * 0.9
    return copy


@pytest.mark.parametrize("foreign", PRIORS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_one_step_save_load(adata, transformed, tmp_path, encoder, decoder, likelihood, foreign):
    data = adata if likelihood.counts_only else transformed
    latents = (shared(3), private(2, foreign=foreign()))
    mgvi = MGVI.from_anndata(
        data, "group", latents=latents, encoder=encoder, decoder=decoder, likelihood=likelihood
    )
    before = mgvi.latents(data)["z"]
    svi = SVI(mgvi.model, mgvi.guide, pyro.optim.Adam({"lr": 1e-2}), loss=WassersteinTraceELBO())
    assert np.isfinite(svi.step(*next(mgvi.read(data).minibatches(60, seed=0))))
    mgvi.save(tmp_path / "m")
    loaded = MGVI.load(tmp_path / "m")
    ours, theirs = mgvi.latents(data), loaded.latents(data)
    assert not np.array_equal(ours["z"], before)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key])
    expression = mgvi.normalized_expression(data)
    np.testing.assert_array_equal(expression, loaded.normalized_expression(data))
    if likelihood.counts_only:
        np.testing.assert_allclose(expression.sum(axis=1), 1, rtol=1e-4)


@pytest.mark.parametrize("likelihood", LIKELIHOODS[1:])
def test_likelihoods_equal_scipy(adata, transformed, likelihood):
    data = adata if likelihood.counts_only else transformed
    mgvi = MGVI.from_anndata(data, "group", latents=(shared(3),), likelihood=likelihood)
    batch = mgvi.read(data).rows(np.arange(120))
    parts = [(torch.randn(120, 60),), (torch.randn(120, 60),)]
    log_library = batch.counts.sum(-1).clamp(min=1).log()
    ours = mgvi.model.likelihood(parts, log_library).log_prob(batch.counts).detach()
    x, first, second = (v.double().numpy() for v in (batch.counts, parts[0][0], parts[1][0]))
    rho = (np.exp(first) / np.exp(first).sum(1, keepdims=True)) / 2
    rho += (np.exp(second) / np.exp(second).sum(1, keepdims=True)) / 2
    mean = rho * np.exp(log_library.double().numpy())[:, None]
    if likelihood is pyro_mgvi.NB:
        theta = mgvi.model.likelihood.log_theta.detach().double().exp().numpy()
        expected = scipy_log_prob(x, mean, theta)
    elif likelihood is pyro_mgvi.Poisson:
        expected = stats.poisson.logpmf(x, mean)
    else:
        group_means = data.to_df().groupby(data.obs["group"], observed=True).transform("mean")
        scale = (data.X - group_means.to_numpy()).std(0)
        expected = stats.norm.logpdf(x, (first + second) / 2, scale)
    np.testing.assert_allclose(ours, expected.sum(1), rtol=1e-4)


def test_values_that_are_no_counts_need_a_likelihood_that_says_so(transformed):
    with pytest.raises(DataError, match="likelihood=Gaussian"):
        MGVI.from_anndata(positive(transformed), "group")
    mgvi = MGVI.from_anndata(transformed, "group", likelihood=Gaussian, decoder=LogLinearDecoder)
    mgvi.fit(transformed, max_epochs=3, batch_size=32, progress=False)
    assert "train_library" not in mgvi.history
    assert mgvi.history["train"].iloc[-1] < mgvi.history["train"].iloc[0]
    broken = transformed.copy()
    broken.X[3, 4] = np.nan
    with pytest.raises(DataError, match="not finite value nan in cell 'cell_4', gene 'shared_5'"):
        mgvi.latents(broken)


def positive(adata):
    copy = adata.copy()
    copy.X = np.abs(copy.X)
    return copy
