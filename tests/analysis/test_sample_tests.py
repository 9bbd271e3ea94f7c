"""Tests across samples: right for donors that differ, and those of the textbook without sharing."""

import numpy as np
import pytest
from helpers.donors import nested_units
from scipy.stats import kstest, norm, ttest_ind, ttest_rel
from scipy.stats import t as student

from pyro_mgvi.analysis import sample_tests
from pyro_mgvi.analysis.efficient_scores import q_values
from pyro_mgvi.analysis.sample_tests import Units, sample_scores, squeezed


@pytest.mark.slow
@pytest.mark.parametrize("sd", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("cells", [[150] * 6, [30, 100, 250, 60, 80, 200, 40, 150]])
def test_p_values_are_uniform_whatever_donors_differ_by(sd, cells):
    rng = np.random.default_rng(0)
    datasets = [sample_scores(nested_units(rng, cells, sd)) for _ in range(15)]
    p = 2 * norm.sf(np.abs(datasets))
    assert kstest(p.ravel(), "uniform").statistic < 0.04
    assert (p < 0.05).mean() < 0.07 and (p < 0.001).mean() < 0.004
    called = [(q_values(np.abs(z)) < 0.05).sum() for z in datasets]
    assert np.mean(called) < 0.5  # of 400 genes; a test of cells calls about 80 at sd 0.3


def test_a_test_of_cells_would_call_donors():
    units = nested_units(np.random.default_rng(0), [150] * 6, 0.3)
    own = units.design_uk[:, 1] == 1
    effect, information = units.score_ug / units.information_ug, units.information_ug
    difference = effect[own].mean(0) - effect[~own].mean(0)
    z_of_cells = difference / np.sqrt((1 / information).sum(0)) * 3
    assert (q_values(np.abs(z_of_cells)) < 0.05).sum() > 40


def test_a_planted_effect_is_found():
    rng = np.random.default_rng(0)
    found, false = 0, 0
    for _ in range(5):
        called = (
            q_values(np.abs(sample_scores(nested_units(rng, [150] * 6, 0.2, effect=1.0)))) < 0.1
        )
        found, false = found + called[:20].sum(), false + called[20:].sum()
    assert found > 60 and false < 0.2 * found


def units_of(effect_ug, design_uk):
    """Return units whose information says nothing of which is better known."""
    return Units(effect_ug * 50.0, np.full(effect_ug.shape, 50.0), design_uk)


def test_without_sharing_it_is_the_t_test_nested_and_paired(monkeypatch):
    monkeypatch.setattr(sample_tests, "squeezed", lambda variance_g, df, alike: (variance_g, 0.0))
    effect = np.random.default_rng(0).normal(size=(8, 60)) + np.arange(8)[:, None] // 2
    own = np.tile([0.0, 1.0], 4)
    nested = sample_scores(units_of(effect, np.column_stack([np.ones(8), own])))
    expected = ttest_ind(effect[own == 1], effect[own == 0])
    np.testing.assert_allclose(2 * norm.sf(np.abs(nested)), expected.pvalue)
    np.testing.assert_array_equal(np.sign(nested), np.sign(expected.statistic))
    donors = np.arange(8)[:, None] // 2 == np.arange(4)
    paired = sample_scores(units_of(effect, np.column_stack([donors, own])))
    expected = ttest_rel(effect[own == 1], effect[own == 0])
    np.testing.assert_allclose(2 * norm.sf(np.abs(paired)), expected.pvalue)


def test_scores_turn_with_the_group_and_do_not_mind_the_unit():
    units = nested_units(np.random.default_rng(1), [80] * 6, 0.2)
    z = sample_scores(units)
    turned = units.design_uk * [1, -1] + [0, 1]
    other = sample_scores(Units(units.score_ug, units.information_ug, turned))
    np.testing.assert_allclose(other, -z, atol=1e-6)
    order = np.random.default_rng(2).permutation(6)
    moved = Units(*(part[order] for part in vars(units).values()))
    np.testing.assert_allclose(sample_scores(moved), z, atol=1e-8)


def test_genes_without_information_and_designs_without_freedom_have_no_score():
    units = nested_units(np.random.default_rng(1), [40] * 6, 0.2)
    units.information_ug[2, 5] = 0.0  # two samples are left on one side
    z = sample_scores(units)
    assert np.isnan(z[5]) and np.isfinite(np.delete(z, 5)).all()
    rest = Units(
        *(np.delete(part, 5, axis=1) for part in list(vars(units).values())[:2]), units.design_uk
    )
    np.testing.assert_allclose(np.delete(z, 5), sample_scores(rest), atol=1e-8)
    two = Units(units.score_ug[2:4], units.information_ug[2:4], units.design_uk[2:4])
    assert np.isnan(sample_scores(two)).all()


@pytest.mark.parametrize("missing", [0.0, np.nan])
def test_genes_are_tested_in_the_samples_that_have_them_as_if_these_were_all(missing):
    """The last genes, such as proteins, are not known in one sample, in a fold of its own."""
    units, fold = nested_units(np.random.default_rng(1), [60] * 8, 0.2), np.arange(8) == 2
    design = np.column_stack([fold, ~fold, units.design_uk[:, 1]])
    units.information_ug[2, 380:] = missing
    z = sample_scores(Units(units.score_ug, units.information_ug, design))
    information = np.nan_to_num(units.information_ug)
    rest = Units(units.score_ug[~fold], information[~fold], design[~fold, 1:])
    np.testing.assert_allclose(z[380:], sample_scores(rest)[380:], atol=1e-8)
    have = Units(units.score_ug[:, :380], units.information_ug[:, :380], design)
    np.testing.assert_allclose(z[:380], sample_scores(have), atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("lacking", [20, 200])
def test_p_values_are_uniform_for_genes_that_some_samples_lack(lacking):
    rng, lacks = np.random.default_rng(0), [[2], [2, 6]]
    p, called = [], []
    for dataset in range(40):
        units = nested_units(rng, [30, 100, 250, 60, 80, 200, 40, 150], 0.3)
        units.information_ug[lacks[dataset % 2], 400 - lacking :] = 0.0
        z = sample_scores(units)
        p.append(2 * norm.sf(np.abs(z[400 - lacking :])))
        called.append((q_values(np.abs(z)) < 0.05).any())
    p = np.ravel(p)
    assert kstest(p, "uniform").statistic < (0.06 if lacking == 20 else 0.04)
    assert (p < 0.05).mean() < 0.07 and np.mean(called) < 0.15


def test_shrunk_variances_follow_their_prior():
    rng = np.random.default_rng(0)
    true = 8 * 0.5 / rng.chisquare(8, 20_000)  # scaled inverse chi square of 8 degrees, scale 0.5
    seen = true * rng.chisquare(3, 20_000) / 3
    found, prior = squeezed(seen, 3)
    assert abs(prior - 8) < 0.8
    np.testing.assert_allclose(found, (8 * 0.5 + 3 * seen) / (8 + 3), rtol=0.05)
    constant, _ = squeezed(np.append(seen, 1e-30), 3)  # rounding of a gene without counts
    np.testing.assert_allclose(constant[:-1], found, rtol=1e-3)
    alone, none = squeezed(np.array([0.0, 2.0]), 3)
    assert none == 0 and list(alone) == [0.0, 2.0]


@pytest.mark.slow
@pytest.mark.parametrize("wide", [0.0, 0.05])
@pytest.mark.parametrize("n_samples", [3, 5])
def test_genes_that_samples_differ_in_more_are_no_discovery(wide, n_samples):
    """Some genes vary three times as much between samples: a prior of moments calls them."""
    rng = np.random.default_rng(0)
    own = np.repeat([0.0, 1.0], n_samples)
    design = np.column_stack([np.ones(len(own)), own])
    called, by_moments = [], []
    for _ in range(60):
        sd_g = np.where(rng.random(400) < wide, 0.9, 0.3)
        units = units_of(rng.normal(0.0, sd_g, (len(own), 400)), design)
        called.append((q_values(np.abs(sample_scores(units))) < 0.05).any())
        variance_g, prior = squeezed(
            (units.score_ug / 50).reshape(2, n_samples, -1).var(1, ddof=1).mean(0),
            2 * n_samples - 2,
            tails=(),
        )
        difference_g = np.diff((units.score_ug / 50).reshape(2, n_samples, -1).mean(1), axis=0)[0]
        t_g = difference_g / np.sqrt(variance_g * 2 / n_samples)
        tail_g = norm.isf(student.sf(np.abs(t_g), min(2 * n_samples - 2 + prior, 1e6)))
        by_moments.append((q_values(tail_g) < 0.05).any())
    assert np.mean(called) <= 0.1
    assert wide == 0.0 or np.mean(by_moments) > np.mean(called)
