"""iNMF is GMDF with tied scores: LIGER's formula, and what the tie costs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mgvi import DataError, SettingsError
from pyro_mgvi.baselines import GMDF, INMF

SIZES = (25, 20)


def cells(seed, sizes=SIZES, p=12):
    rng = np.random.default_rng(seed)
    return rng.gamma(0.5, size=(sum(sizes), p)), np.repeat(range(len(sizes)), sizes)


def liger(x, group, penalty, found):
    """Write out the objective of Welch et al. (2019)."""
    total = 0.0
    for i, v_kp in enumerate(found.context_ckp):
        h_nk = found.shared_nk[group == i]
        error = x[group == i] - h_nk @ (found.shared_kp + v_kp)
        total += (error**2).sum() + penalty * ((h_nk @ v_kp) ** 2).sum()
    return total


def test_objective_is_liger_s():
    x, group = cells(0)
    found = INMF(3, 3, penalty=2.0).fit(x, group)
    assert found.objectives[-1] == pytest.approx(liger(x, group, 2.0, found), rel=1e-10)
    for i, h_nk in enumerate(found.context_cnk):
        own = group == i
        np.testing.assert_array_equal(h_nk[own], found.shared_nk[own])
        assert np.isnan(h_nk[~own]).all()


@given(seed=st.integers(0, 10**6), k=st.integers(1, 4), penalty=st.sampled_from([0.0, 1.0, 5.0]))
@settings(max_examples=20, deadline=None)
def test_no_block_raises_the_objective_and_untied_scores_lower_it(seed, k, penalty):
    x, group = cells(seed, sizes=(9, 8), p=6)
    inmf, gmdf = INMF(k, k, penalty), GMDF(k, k, penalty)
    root_nc = np.eye(2)[group]
    factors = inmf.start(x, root_nc, np.random.default_rng(seed))
    values = [factors.objective()]
    for method in (inmf, inmf, inmf, gmdf):
        for _block in method.sweep(factors, root_nc > 0):
            values.append(factors.objective())
    assert (np.diff(values) <= 1e-9 * factors.total).all()


def test_scores_are_the_best_for_their_programs():
    """Against a gradient: zero where a score is positive, not negative where it is zero."""
    x, group = cells(3)
    inmf = INMF(2, 2, penalty=1.5)
    root_nc = np.eye(2)[group]
    factors = inmf.start(x, root_nc, np.random.default_rng(0))
    blocks = inmf.sweep(factors, root_nc > 0)
    next(blocks), next(blocks)
    w = factors.programs_fp[:2]
    for i, v in enumerate((factors.programs_fp[2:4], factors.programs_fp[4:])):
        h = factors.scores_nf[group == i, :2]
        error = x[group == i] - h @ (w + v)
        slope = -2 * error @ (w + v).T + 2 * 1.5 * (h @ v) @ v.T
        assert np.abs(slope[h > 0]).max() < 1e-9 and slope.min() > -1e-9
        assert 0 < (h == 0).sum() < h.size


def test_bad_settings_and_designs_are_refused():
    x, group = cells(0)
    with pytest.raises(SettingsError, match="must be equal, not 3 and 2"):
        INMF(3, 2)
    with pytest.raises(SettingsError, match="at least 1"):
        INMF(0, 0)
    for design in (0.5 * np.eye(2), np.ones((2, 2)), np.array([[1.0], [0.0]])):
        with pytest.raises(DataError, match="one 1 in each row"):
            INMF(2, 2).fit(x, group, design)
