"""Non-negative least squares against scipy's, column by column."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls as lawson_hanson

from pyro_mgvi.baselines.nonnegative import nnls as module
from pyro_mgvi.baselines.nonnegative.nnls import nnls


def problem(seed, n, k, m):
    rng = np.random.default_rng(seed)
    d_nk, y_nm = rng.gamma(0.5, size=(n, k)), rng.normal(0.5, size=(n, m))
    return d_nk, y_nm


def agrees(d_nk, y_nm):
    x_km = nnls(d_nk.T @ d_nk, d_nk.T @ y_nm)
    assert (x_km >= 0).all()
    ours = np.linalg.norm(d_nk @ x_km - y_nm, axis=0)
    theirs = [lawson_hanson(d_nk, y_n)[1] for y_n in y_nm.T]
    np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-7)
    return x_km


@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), k=st.integers(1, 8), m=st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_as_good_as_scipy_s_whatever_the_rank(seed, n, k, m):
    agrees(*problem(seed, n, k, m))  # of more variables than rows, too


def test_the_same_solutions_as_scipy_s():
    d_nk, y_nm = problem(0, 60, 12, 300)
    x_km = agrees(d_nk, y_nm)
    theirs = np.stack([lawson_hanson(d_nk, y_n)[0] for y_n in y_nm.T], 1)
    assert 0.1 < (theirs == 0).mean() < 0.9  # neither trivial nor unconstrained
    np.testing.assert_allclose(x_km, theirs, atol=1e-9)


def test_equal_and_empty_variables():
    d_nk, y_nm = problem(1, 40, 4, 50)
    d_nk = np.hstack([d_nk, d_nk[:, :2], np.zeros((40, 1))])
    x_km = agrees(d_nk, y_nm)
    assert (x_km[-1] == 0).all()


def test_what_does_not_settle_is_solved_by_scipy(monkeypatch):
    monkeypatch.setattr(module, "ROUNDS", 1)
    calls = []

    def counted(*arguments):
        calls.append(1)
        return lawson_hanson(*arguments)

    monkeypatch.setattr(module, "lawson_hanson", counted)
    agrees(*problem(2, 50, 8, 40))
    assert calls


@pytest.mark.parametrize("k", [0, 3])
def test_no_variables_or_no_columns(k):
    assert nnls(np.eye(k), np.zeros((k, 0))).shape == (k, 0)
    assert nnls(np.zeros((0, 0)), np.zeros((0, 4))).shape == (0, 4)
