"""Normal scores and q-values of many genes: exactly normal without an effect."""

import numpy as np
from scipy.stats import kstest, norm

from pyro_mgvi.analysis.efficient_scores import efficient_scores, q_values, recentred


def test_q_values_are_of_doubled_tails_and_missing_stay_missing():
    z = np.array([4.0, 0.0, 3.0, -5.0])
    p = np.sort(2 * norm.sf(z[[0, 2]]))
    np.testing.assert_allclose(q_values(z), [4 * p[0], 1, 2 * p[1], 1])
    np.testing.assert_allclose(q_values(np.r_[np.nan, z]), np.r_[np.nan, q_values(z)])
    assert np.isnan(q_values(np.full(2, np.nan))).all()


def test_efficient_scores_are_normal_without_effect_and_ignore_the_nuisance():
    rng = np.random.default_rng(0)
    n, genes = 400, 1000
    nuisance = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    delta = nuisance @ rng.normal(size=(3, genes)) + rng.normal(size=(n, genes))
    mean = np.exp(rng.normal(size=genes)) * np.ones((n, genes))
    counts = rng.negative_binomial(2.0, 2.0 / (2.0 + mean))
    slope = 1 / (1 + mean / 2.0)
    z = efficient_scores(delta, (counts - mean) * slope, mean * slope, nuisance)
    assert kstest(z, norm.cdf).pvalue > 0.01
    confounded = efficient_scores(
        delta, (counts - mean) * slope + (mean * slope) * (nuisance @ [3.0, 2.0, -1.0])[:, None],
        mean * slope, nuisance,
    )  # fmt: skip
    np.testing.assert_allclose(confounded, z, atol=1e-6)
    affected = rng.negative_binomial(2.0, 2.0 / (2.0 + mean * np.exp(0.3 * delta)))
    effect = efficient_scores(delta, (affected - mean) * slope, mean * slope, nuisance)
    assert np.median(effect) > 3
    assert (efficient_scores(0 * delta, counts - mean, mean, nuisance) == 0).all()


def test_recentring_undoes_a_shifted_null_and_never_helps():
    z = np.random.default_rng(0).normal(size=20_000)
    np.testing.assert_allclose(recentred(0.5 + 1.5 * z), z, atol=0.1)
    assert (recentred(0.5 * z - 1) <= 0.5 * z - 1 + 1e-12).all()
