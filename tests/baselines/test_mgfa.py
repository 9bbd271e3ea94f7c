"""Multi-group factor analysis against scikit-learn, the exact density and planted subspaces."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis

from pyro_mgvi import DataError, SettingsError
from pyro_mgvi.baselines.marginal import log_density
from pyro_mgvi.baselines.mgfa import MGFA


def planted(seed=0, sizes=(2000, 1500), p=20, k=2, j=(1, 2)):
    """Draw cells of a known model: x, group codes, shared and private loadings, uniquenesses."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(p, k))
    private = [rng.normal(size=(p, width)) for width in j]
    psi = rng.uniform(0.3, 1.5, size=(len(sizes), p))
    cells = [
        rng.normal(size=p)
        + rng.normal(size=(n, k)) @ shared.T
        + rng.normal(size=(n, own.shape[1])) @ own.T
        + rng.normal(size=(n, p)) * np.sqrt(psi_p)
        for n, own, psi_p in zip(sizes, private, psi)
    ]
    return np.concatenate(cells), np.repeat(range(len(sizes)), sizes), shared, private, psi


def degrees(a, b):
    return np.rad2deg(subspace_angles(a, b)).max()


def test_one_group_is_scikit_learn_s_factor_analysis():
    x, group, *_ = planted(sizes=(600,), j=(1,))
    mgfa = MGFA(3, 0, floor=1e-6, loading_scale=np.inf, tolerance=1e-13, max_iter=5000)
    mgfa.fit(x, group)
    theirs = FactorAnalysis(3, tol=1e-10, max_iter=10_000, svd_method="lapack").fit(x)
    assert mgfa.log_likelihood(x, group) == pytest.approx(theirs.score(x), abs=1e-6)
    assert degrees(mgfa.shared_pk, theirs.components_.T) < 0.01
    np.testing.assert_allclose(mgfa.psi_gp[0], theirs.noise_variance_, rtol=1e-3)
    z, _ = mgfa.scores(x, group)
    rotation, *_ = np.linalg.lstsq(theirs.transform(x), z, rcond=None)
    np.testing.assert_allclose(theirs.transform(x) @ rotation, z, atol=1e-3)


def test_planted_shared_and_private_subspaces_are_found():
    x, group, shared, private, psi = planted()
    mgfa = MGFA(2, (1, 2), tolerance=1e-10).fit(x, group)
    assert degrees(mgfa.shared_pk, shared) < 5
    assert max(degrees(a, b) for a, b in zip(mgfa.private_pj, private)) < 5
    np.testing.assert_allclose(mgfa.psi_gp, psi, rtol=0.25)
    truth = MGFA(2, (1, 2))
    truth.mean_gp, truth.psi_gp = mgfa.mean_gp, psi
    truth.shared_pk, truth.private_pj = shared, private
    assert mgfa.log_likelihood(x, group) > truth.log_likelihood(x, group)
    again = MGFA(2, (1, 2), tolerance=1e-10).fit(x, group, seed=1)
    assert degrees(again.shared_pk, mgfa.shared_pk) < 0.1


def test_wide_data_and_a_strong_private_factor():
    """More variables than cells, and a private factor stronger than all shared ones."""
    rng = np.random.default_rng(0)
    x, group, shared, private, _ = planted(1, sizes=(150, 150), p=300, k=2, j=(1, 1))
    x[group == 0] += 4 * rng.normal(size=(150, 1)) @ private[0].T
    mgfa = MGFA(2, 1).fit(x, group)
    assert degrees(mgfa.shared_pk, shared) < 15
    assert degrees(mgfa.private_pj[0], private[0]) < 15


@given(seed=st.integers(0, 1000), n=st.integers(2, 40), p=st.integers(1, 12), k=st.integers(1, 15))
@settings(max_examples=25, deadline=None)
def test_density_is_that_of_the_dense_normal(seed, n, p, k):
    rng = np.random.default_rng(seed)
    x, w, psi = rng.normal(size=(n, p)), rng.normal(size=(p, k)), rng.uniform(0.1, 3, p)
    dense = multivariate_normal(np.zeros(p), w @ w.T + np.diag(psi)).logpdf(x).sum()
    constant = -0.5 * n * p * np.log(2 * np.pi)
    ours = log_density(*map(torch.from_numpy, [x]), n, *map(torch.from_numpy, [w, np.log(psi)]))
    assert ours.item() + constant == pytest.approx(dense, rel=1e-9)
    if n > p:
        root = torch.from_numpy(np.linalg.qr(x, mode="r"))
        assert log_density(root, n, torch.from_numpy(w), torch.from_numpy(np.log(psi))).item() == (
            pytest.approx(ours.item(), rel=1e-9)
        )


def test_posterior_draws_have_the_posterior_s_moments():
    x, group, *_ = planted(sizes=(40, 30), p=6, k=1, j=(1, 1))
    mgfa = MGFA(1, 1).fit(x, group)
    mean_z, mean_t = mgfa.scores(x, group)
    draws = [mgfa.scores(x, group, draw=seed) for seed in range(400)]
    w = np.hstack([mgfa.shared_pk, mgfa.private_pj[1]])
    prior = np.eye(2)
    marginal = w @ w.T + np.diag(mgfa.psi_gp[1])
    covariance = prior - w.T @ np.linalg.solve(marginal, w)  # by conditioning the joint normal
    own = group == 1
    deviations = np.stack([np.hstack([z - mean_z, t[1] - mean_t[1]])[own] for z, t in draws])
    np.testing.assert_allclose(np.cov(deviations.reshape(-1, 2).T), covariance, atol=0.03)
    by_conditioning = (x[own] - mgfa.mean_gp[1]) @ np.linalg.solve(marginal, w)
    np.testing.assert_allclose(np.hstack([mean_z, mean_t[1]])[own], by_conditioning, atol=1e-9)
    assert np.isnan(mean_t[1][~own]).all() and np.isfinite(mean_z).all()


def test_as_many_factors_as_variables_end_at_the_floor_not_at_zero():
    x, group, *_ = planted(sizes=(300, 250), p=10)
    mgfa = MGFA(10, 10).fit(x, group)
    least = 1e-3 * np.concatenate([x[group == g] - x[group == g].mean(0) for g in (0, 1)]).var(0)
    assert (mgfa.psi_gp > least * (1 - 1e-6)).all()
    assert all(np.isfinite(t).all() for t in (mgfa.shared_pk, *mgfa.private_pj))


def test_bad_input_is_refused():
    x, group = np.ones((6, 3)), np.array([0, 0, 0, 1, 1, 1])
    with pytest.raises(SettingsError, match="numbers of factors"):
        MGFA(-1)
    with pytest.raises(SettingsError, match="3 entries, not 2"):
        MGFA(1, (1, 1, 1)).fit(x, group)
    with pytest.raises(DataError, match="finite"):
        MGFA(1, 1).fit(np.full((6, 3), np.nan), group)
    with pytest.raises(DataError, match="fewer than 2"):
        MGFA(1, 1).fit(x, np.array([0, 0, 0, 0, 0, 2]))


def test_groups_are_codes_that_it_has_seen():
    x, group = np.random.default_rng(0).normal(size=(40, 6)), np.repeat([0, 1], 20)
    mgfa = MGFA(2, 1).fit(x, group)
    for ask in (mgfa.log_likelihood, mgfa.scores):
        with pytest.raises(DataError, match="fitted on 2 groups: there is none of code 3"):
            ask(x, group + 2)
    for bad in (np.where(group, "b", "a"), group - 1, group * 1.0):
        with pytest.raises(DataError, match="integer codes from 0"):
            MGFA(2, 1).fit(x, bad)
