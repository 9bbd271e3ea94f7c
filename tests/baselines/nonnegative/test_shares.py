"""What factorisations are given: chosen genes and scales, against their definitions."""

import numpy as np
import pytest
from scipy import sparse

from pyro_mgvi import DataError
from pyro_mgvi.baselines.nonnegative.shares import (
    relative_expression,
    scaled_shares,
    variable_genes,
)

N = 400
GROUP = np.repeat([0, 1], N // 2)


@pytest.fixture(scope="module")
def x():
    """Poisson counts of 40 genes; 0-9 vary in both data sets, 10-19 in the first, 20-29 nowhere."""
    rng = np.random.default_rng(0)
    rate = np.full((N, 40), 20.0)
    rate[:, :10] *= rng.gamma(1.0, size=(N, 1))
    rate[: N // 2, 10:20] *= rng.gamma(1.0, size=(N // 2, 1))
    rate[:, 30:] *= 50  # totals are nearly the same
    return rng.poisson(rate)


def test_genes_that_vary_more_than_poisson(x):
    assert set(range(20)) <= set(np.flatnonzero(variable_genes(x[: N // 2], 0.2)))
    assert not variable_genes(x[: N // 2], 0.2)[20:30].any()
    assert set(np.flatnonzero(variable_genes(x[N // 2 :], 0.2))) & set(range(30)) == set(range(10))


def test_excess_is_a_ratio_of_variances():
    """Each gene against its own bound, written out."""
    rng = np.random.default_rng(1)
    x = rng.poisson(rng.gamma(5.0, 4.0, size=(300, 50)))
    total = x.sum(1)
    share = x / total[:, None]
    ratio = np.log10(share.var(0, ddof=1) / (share.mean(0) * (1 / total).mean()))
    for excess in (np.median(ratio) - 1e-9, np.median(ratio) + 1e-9, ratio.max() + 1e-9):
        np.testing.assert_array_equal(variable_genes(x, excess), ratio > excess)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_shares_have_root_mean_square_one_in_each_data_set(x, form):
    both, in_both = scaled_shares(form(x), GROUP)
    any_, in_any = scaled_shares(form(x), GROUP, combine=np.logical_or)
    assert set(np.flatnonzero(in_both)) & set(range(30)) == set(range(10))
    assert set(np.flatnonzero(in_any)) & set(range(30)) == set(range(20))
    share = x / x.sum(1, keepdims=True)
    for values, chosen in ((both, in_both), (any_, in_any)):
        for g in (0, 1):
            own = share[GROUP == g][:, chosen]
            expected = own / np.sqrt((own**2).sum(0) / (len(own) - 1))
            np.testing.assert_allclose(values[GROUP == g], expected)
    assert (both >= 0).all() and both.mean() > 0.3  # not centred


def test_relative_expression_is_positive_and_centred_by_group(x):
    x = x.copy()
    x[:, 5] = 0
    x[:3, 5] = 500  # in less than 2 % of the cells
    values, chosen = relative_expression(x, GROUP)
    assert not chosen[5] and chosen[:5].all()
    log = np.log2(1e5 * x / x.sum(1, keepdims=True) + 1)[:, chosen]
    for g in (0, 1):
        own = log[GROUP == g]
        np.testing.assert_allclose(values[GROUP == g], np.maximum(own - own.mean(0), 0))


def test_bad_data_are_refused(x):
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="no gene varies enough"):
        scaled_shares(rng.poisson(5.0, (N, 20)), GROUP)
    with pytest.raises(DataError, match="data set 1 has fewer than 2 cells"):
        scaled_shares(x[:201], GROUP[:201])
    with pytest.raises(DataError, match="no gene"):
        relative_expression(np.zeros((N, 20)), GROUP)
