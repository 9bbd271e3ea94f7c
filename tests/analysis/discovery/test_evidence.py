"""Evidence that a group varies along a direction: closed forms, and its error rate."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_mgvi.analysis.discovery.evidence import (
    Evidence,
    evidence,
    selective_rates,
    variance_along,
)
from pyro_mgvi.training.search.residuals import Residuals


def residuals(rng, n, loading_g, sd, slope_g=None):
    """Residuals of independent genes, and of a program with this standard deviation."""
    slope_g = np.ones(len(loading_g)) if slope_g is None else slope_g
    program_n = sd * rng.normal(size=n)
    r_ng = rng.normal(size=(n, len(loading_g))) + np.outer(program_n, slope_g * loading_g)
    r_ng -= r_ng.mean(0)
    return Residuals(torch.from_numpy(r_ng), torch.from_numpy(slope_g), np.arange(n))


@given(st.integers(0, 100), st.integers(2, 30), st.integers(2, 6))
def test_the_variance_is_that_of_all_pairs_of_genes(seed, n, n_genes):
    rng = np.random.default_rng(seed)
    w_g, slope_g = rng.normal(size=n_genes), rng.uniform(0.5, 2, n_genes)
    r_ng, v_g = rng.normal(size=(n, n_genes)), w_g * slope_g
    parts = torch.from_numpy(r_ng), torch.from_numpy(slope_g), np.arange(n)
    pairs = [(i, j) for i in range(n_genes) for j in range(n_genes) if i != j]
    scale = sum((v_g[i] * v_g[j]) ** 2 for i, j in pairs)
    of_cells = sum(v_g[i] * v_g[j] * r_ng[:, i] * r_ng[:, j] for i, j in pairs) / scale
    variance, error = variance_along(Residuals(*parts), torch.from_numpy(w_g))
    assert variance == pytest.approx(of_cells.mean(), rel=1e-6, abs=1e-9)
    assert error == pytest.approx(of_cells.std() / n**0.5, rel=1e-6)


def test_a_planted_variance_is_estimated_whatever_the_depth_of_a_group():
    rng = np.random.default_rng(0)
    loading_g = rng.normal(size=40)
    for sd, slope in ((0.0, 1.0), (0.3, 1.0), (0.3, 0.5), (1.0, 2.0)):
        group = residuals(rng, 4000, loading_g, sd, np.full(40, slope))
        variance, error = variance_along(group, torch.from_numpy(loading_g))
        assert abs(variance - sd**2) < 4 * error


def test_a_group_without_two_of_the_genes_says_nothing():
    group = Residuals(torch.ones(5, 3), torch.tensor([1.0, 0.0, 0.0]), np.arange(5))
    assert np.isnan(variance_along(group, torch.ones(3))).all()
    found = Evidence(np.array([np.nan, 1.0]), np.array([np.nan, 0.1]))
    assert np.isnan(found.z_varies(4.0)[0]) and found.z_varies(4.0)[1] > 5
    nothing = Evidence(np.full(2, np.nan), np.full(2, np.nan))
    assert np.isnan(nothing.z_varies(4.0)).all() and np.isnan(nothing.z_absent()).all()


def test_what_leaks_from_another_group_is_no_program_of_a_group():
    found = Evidence(np.array([1.0, 0.05, 0.6]), np.array([0.02, 0.005, 0.02]))
    z_b = found.z_varies(dead=4.0)
    assert found.variance_b[1] / found.error_b[1] > 9 and z_b[1] < -5  # sure, but too little
    assert z_b[0] > 9 and z_b[2] > 9
    np.testing.assert_array_equal(found.z_absent() > 2, [False, True, False])


def test_normal_scores_of_groups_without_a_program_are_seldom_large():
    rng = np.random.default_rng(1)
    loading_g = rng.normal(size=30)
    z = [
        float(
            np.divide(
                *variance_along(residuals(rng, 150, loading_g, 0.0), torch.from_numpy(loading_g))
            )
        )
        for _ in range(400)
    ]
    assert np.mean(np.array(z) > 1.645) < 0.08


def test_groups_are_called_within_the_programs_that_are_there():
    p_pb = np.array([[1e-9, 1e-8, 0.9], [0.5, 0.6, 0.7], [0.03, 0.9, 0.95]])
    q_pb = selective_rates(p_pb)
    np.testing.assert_array_equal(q_pb < 0.05, [[True, True, False], [False] * 3, [False] * 3])
    one = selective_rates(p_pb[:1])
    assert (one <= q_pb[:1] + 1e-12).all()  # programs that are not there cost something
    with_nan = selective_rates(np.array([[np.nan, 1e-9], [np.nan, np.nan]]))
    assert np.isnan(with_nan[0, 0]) and with_nan[0, 1] < 1e-6 and np.isnan(with_nan[1]).all()


@pytest.mark.slow
@given(st.integers(0, 50))
def test_rates_call_what_the_two_steps_call(seed):
    """Benjamini and Bogomolov's procedure, step by step."""
    rng = np.random.default_rng(seed)
    p_pb = rng.uniform(size=(6, 4)) ** 3
    p_pb[: rng.integers(4)] **= 4
    for rate in (0.01, 0.05, 0.2):
        m = p_pb.shape[1]
        simes_p = (np.sort(p_pb, 1) * m / np.arange(1, m + 1)).min(1)
        ordered = np.sort(simes_p)
        passed = np.flatnonzero(ordered <= rate * np.arange(1, 7) / 6)
        n = passed.max() + 1 if len(passed) else 0
        selected = simes_p <= (ordered[n - 1] if n else -1)
        level = rate * n / 6
        for p in range(6):
            row = np.sort(p_pb[p])
            below = np.flatnonzero(row <= level * np.arange(1, m + 1) / m)
            most = row[below.max()] if len(below) and selected[p] else -1
            np.testing.assert_array_equal(selective_rates(p_pb)[p] <= rate, p_pb[p] <= most)


def test_evidence_is_that_of_each_group():
    rng = np.random.default_rng(2)
    loading_g = rng.normal(size=20)
    groups = [residuals(rng, 300, loading_g, sd) for sd in (1.0, 0.0, 1.0)]
    found = evidence(groups, torch.from_numpy(loading_g))
    np.testing.assert_array_equal(found.z_varies(4.0) > 3, [True, False, True])
    assert found.share_b.max() == pytest.approx(1.0)


def test_groups_of_one_variance_seldom_differ_and_of_two_do():
    rng = np.random.default_rng(3)
    loading_g = rng.normal(size=10)
    w_g = torch.from_numpy(loading_g)

    def p_alike(*sds):
        return evidence([residuals(rng, 150, loading_g, sd) for sd in sds], w_g).p_alike

    alike = [p_alike(*[0.5] * 6) for _ in range(100)]
    assert np.mean(np.array(alike) < 0.01) < 0.05
    assert p_alike(1.0, 1.0, 0.0, 1.0) < 1e-6
    assert np.isnan(p_alike(1.0))  # one group differs from none
