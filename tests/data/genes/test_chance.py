"""What chance makes of a deviance, against sums over all counts and against draws."""

import numpy as np
import pytest
from scipy.stats import nbinom, poisson

from pyro_mgvi.data.genes.chance import (
    LOG_MEAN,
    common_dispersion,
    count_moments,
    gene_moments,
)


@pytest.mark.parametrize("dispersion", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("mean", [1e-4, 0.3, 5.0, 200.0, 4000.0])
def test_moments_of_a_count_are_sums_over_all_counts(dispersion, mean):
    at = np.abs(LOG_MEAN - np.log(mean)).argmin()
    mean = np.exp(LOG_MEAN[at])
    x = np.arange(int(mean + 40 * np.sqrt(mean + dispersion * mean**2)) + 60)
    if dispersion:
        share = nbinom.pmf(x, 1 / dispersion, 1 / (1 + dispersion * mean))
    else:
        share = poisson.pmf(x, mean)
    deviance = 2 * (np.where(x > 0, x * np.log(np.maximum(x, 1) / mean), 0) - x + mean)
    expected = (share * deviance).sum()
    variance = (share * (deviance - expected) ** 2).sum()
    covariance = (share * deviance * (x - mean)).sum()
    found = count_moments(dispersion)[:, at]
    np.testing.assert_allclose(found, [expected, variance, covariance], rtol=0.02, atol=0.01)


@pytest.mark.parametrize("total", [40, 400, 20_000])
@pytest.mark.parametrize("spread", [0.05, 0.8])
def test_moments_given_the_total_are_those_of_draws(total, spread):
    """Poisson counts with a given total are multinomial: nothing else is to be assumed."""
    rng = np.random.default_rng(0)
    library_n = rng.lognormal(8, spread, 200)
    share_n = library_n / library_n.sum()
    x = rng.multinomial(total, share_n, size=4000)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviance = 2 * np.nansum(x * np.log(x / (total * share_n)), axis=1)
    mean, variance = gene_moments(np.array([float(total)]), library_n, 0.0)
    noise = deviance.std() / np.sqrt(len(deviance))
    assert abs(mean[0] - deviance.mean()) < 4 * noise + 0.06 * np.sqrt(variance[0])
    np.testing.assert_allclose(variance[0], deviance.var(), rtol=0.12)


@pytest.mark.parametrize("dispersion", [0.05, 0.5])
@pytest.mark.parametrize("mean", [1.0, 100.0, 1e4, 1e6])
def test_moments_of_genes_with_a_dispersion_are_those_of_draws(mean, dispersion):
    """However many counts there are: loud genes are no more variable than their dispersion says."""
    rng = np.random.default_rng(0)
    rate = rng.gamma(1 / dispersion, dispersion * mean, (300, 1000))
    x = rng.poisson(rate * rng.lognormal(0, 0.3, (300, 1))).astype(float)
    library_n, total_g = x.sum(1), x.sum(0)
    fitted = library_n[:, None] * total_g / library_n.sum()
    deviance_g = 2 * (x * np.log(np.maximum(x, 1) / fitted)).sum(0)
    mean_g, variance_g = gene_moments(total_g, library_n, dispersion)
    score_g = (deviance_g - mean_g) / np.sqrt(variance_g)
    assert abs(score_g.mean()) < 0.25 and 0.85 < score_g.std() < 1.15


@pytest.mark.parametrize("total", [1, 2, 4])
def test_chance_is_not_understated_of_genes_with_a_few_counts(total):
    rng = np.random.default_rng(0)
    x = rng.multinomial(total, np.full(200, 1 / 200), size=4000)
    deviance = 2 * (np.where(x > 0, x * np.log(np.maximum(x, 1) * 200 / total), 0)).sum(1)
    mean, variance = gene_moments(np.array([float(total)]), np.full(200, 1000.0), 0.0)
    assert mean[0] > deviance.mean() - 0.1 and variance[0] > deviance.var()


@pytest.mark.parametrize("dispersion", [0.0, 0.1, 0.6])
def test_the_dispersion_of_all_genes_is_found_though_some_have_more(dispersion):
    rng = np.random.default_rng(1)
    library_n, share_g = rng.lognormal(8, 0.4, 400), rng.lognormal(0, 1.5, 1000)
    mean_ng = library_n[:, None] * share_g / share_g.sum()
    if dispersion:
        mean_ng *= rng.gamma(1 / dispersion, dispersion, mean_ng.shape)
    mean_ng[:200] *= rng.choice([3.0, 1.0, 0.33], 1000, p=[0.1, 0.8, 0.1])  # a program
    x = rng.poisson(mean_ng).astype(float)
    library_n = x.sum(1)
    found = common_dispersion(x.sum(0), (x**2).sum(0), library_n @ x, library_n)
    assert abs(found - dispersion) < 0.02 + 0.25 * dispersion


def test_without_a_count_there_is_no_dispersion():
    nothing = np.zeros(3)
    assert common_dispersion(nothing, nothing, nothing, np.ones(4)) == 0.0
