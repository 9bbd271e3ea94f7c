"""Observation models against scipy, and data that are no counts."""

import numpy as np
import pytest
import torch
from helpers.by_hand import scipy_log_prob
from helpers.cells import log_normalised
from scipy import stats

from pyro_mgvi import (
    MGVI,
    NB,
    DataError,
    DataKind,
    Gaussian,
    LogLinearDecoder,
    Poisson,
    TrainingPlan,
    shared,
)


@pytest.fixture(scope="module")
def transformed(adata):
    return log_normalised(adata)


@pytest.mark.parametrize("likelihood", [NB, Poisson, Gaussian])
def test_likelihoods_equal_scipy(adata, transformed, likelihood):
    data = adata if likelihood.data_kind is DataKind.COUNTS else transformed
    mgvi = MGVI.from_anndata(data, "group", latents=(shared(3),), likelihood=likelihood)
    batch = mgvi.read(data).rows(np.arange(120))
    parts = [(torch.randn(120, 60),), (torch.randn(120, 60),)]
    log_library = batch.counts.sum(-1).clamp(min=1).log()
    ours = mgvi.model.likelihood(parts, log_library).log_prob(batch.counts).detach()
    x, first, second = (v.double().numpy() for v in (batch.counts, parts[0][0], parts[1][0]))
    rho = (np.exp(first) / np.exp(first).sum(1, keepdims=True)) / 2
    rho += (np.exp(second) / np.exp(second).sum(1, keepdims=True)) / 2
    mean = rho * np.exp(log_library.double().numpy())[:, None]
    if likelihood is NB:
        theta = mgvi.model.likelihood.log_theta.detach().double().exp().numpy()
        expected = scipy_log_prob(x, mean, theta)
    elif likelihood is Poisson:
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
    mgvi.fit(transformed, TrainingPlan(batch_size=32), max_epochs=3, progress=False)
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
