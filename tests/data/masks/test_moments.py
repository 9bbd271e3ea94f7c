"""Moments over the groups that have a gene: closed forms, and the usual ones where all have all."""

import numpy as np
import pytest
from helpers.cells import make, read
from helpers.masked import masked, masks_of, random_masks
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mgvi import DataKind, GroupedCounts
from pyro_mgvi.data.masks.moments import (
    initial_values_of_measured,
    initial_values_of_measured_values,
    reference_genes,
    shares_of_measured,
)
from pyro_mgvi.data.moments import initial_values_of_counts, initial_values_of_values


def test_where_all_have_all_the_moments_are_those_without_masks(adata):
    data = GroupedCounts.from_anndata(adata, "group")
    everything = np.ones((3, adata.n_vars), bool)
    for plain, measured in (
        (initial_values_of_counts, initial_values_of_measured),
        (initial_values_of_values, initial_values_of_measured_values),
    ):
        before, after = plain(data), measured(data, everything)
        for name in before._fields:
            known = ("measured_bg", "reference_g", "modalities", "n_covariates", "depth")
            known += ("sample_groups_sb",)
            if name not in known:
                np.testing.assert_allclose(
                    getattr(after, name), getattr(before, name), rtol=1e-4, atol=1e-5, err_msg=name
                )
        np.testing.assert_allclose(after.depth, np.full(3, float(before.depth)), rtol=1e-6)


def test_shares_are_those_that_made_the_counts():
    rng = np.random.default_rng(0)
    share_g, has_bg = rng.dirichlet(np.ones(30)), random_masks(rng, 3, 30)
    totals_bg = np.array([[1e7], [3e7], [5e6]]) * share_g * has_bg
    half_a_count = 0.5 / 5e6  # is added to each gene
    found_g = shares_of_measured(totals_bg, has_bg)
    np.testing.assert_allclose(found_g, share_g, rtol=1e-4, atol=half_a_count)


def test_a_genes_moments_are_those_of_the_cells_that_have_it(adata):
    has_bg = np.ones((3, adata.n_vars), bool)
    has_bg[0, 5] = False  # gene 5 is not in group 1: its moments are those of the other groups
    some = masked(adata, has_bg)
    data = GroupedCounts.from_anndata(some, "group", feature_masks=masks_of(some))
    others = np.flatnonzero(data.group_n > 0)
    found = data.initial_values(DataKind.VALUES)
    x = np.asarray(data.counts(others))[:, 5]
    assert float(found.log_rate_g[5]) == pytest.approx(x.mean(), rel=1e-5)
    assert float(found.input_g[5]) == pytest.approx(x.mean(), rel=1e-5)
    assert float(found.offset_bg[0, 5]) == 0
    within = np.concatenate([np.asarray(data.x)[data.group_n == g, 5] for g in (1, 2)])
    means = [np.asarray(data.x)[data.group_n == g, 5].mean() for g in (1, 2)]
    sizes = [(data.group_n == g).sum() for g in (1, 2)]
    variance = (within**2).mean() - np.average(np.square(means), weights=sizes)
    assert float(found.log_theta_g[5]) == pytest.approx(-np.log(variance), rel=1e-4)


def test_groups_with_genes_of_their_own_are_brought_to_one_depth(adata):
    """Counts of common genes at one depth are as large whether others are measured or not."""
    half = np.arange(adata.n_vars) < 20
    has_bg = np.array([~half | (np.arange(adata.n_vars) < 2), half | True, half | True])
    some = masked(adata, has_bg)
    data = GroupedCounts.from_anndata(some, "group", feature_masks=masks_of(some))
    found, everything = data.initial_values(), GroupedCounts.from_anndata(adata, "group")
    whole = np.asarray(everything.x.sum(1)).ravel()
    library = np.asarray(data.x)[:, found.reference_g.numpy()].sum(1)
    factor = found.depth.numpy()[data.group_n] / library
    own = data.group_n == 0
    ratio = (factor * whole)[own].mean() / (factor * whole)[~own].mean()
    assert ratio == pytest.approx(1.0, abs=0.15)


def test_offsets_of_genes_of_one_group_are_zero(adata):
    rng = np.random.default_rng(1)
    has_bg = random_masks(rng, 3, adata.n_vars, 0.6)
    some = masked(adata, has_bg)
    data = GroupedCounts.from_anndata(some, "group", feature_masks=masks_of(some))
    offset_bg = data.initial_values().offset_bg.numpy()
    fixed_bg = ~has_bg | (has_bg.sum(0) == 1)
    assert (offset_bg[fixed_bg] == 0).all()
    assert (offset_bg[~fixed_bg] != 0).mean() > 0.9


@given(st.integers(0, 10_000), st.integers(2, 4))
@settings(max_examples=30, deadline=None)
def test_a_library_is_of_the_genes_of_all_groups_if_they_have_a_tenth_of_the_counts(seed, n_groups):
    rng = np.random.default_rng(seed)
    has_bg = random_masks(rng, n_groups, 12, 0.5)
    totals_bg = rng.gamma(0.3, size=has_bg.shape) * has_bg * 1e4 + has_bg
    everyones = [all(has_bg[:, g]) for g in range(12)]
    several = [sum(has_bg[:, g]) > 1 for g in range(12)]
    shares = [totals_bg[b, everyones].sum() / totals_bg[b].sum() for b in range(n_groups)]
    truth = everyones if min(shares) >= 0.1 else several
    np.testing.assert_array_equal(reference_genes(totals_bg, has_bg), truth)


@pytest.mark.parametrize("of", [[0], [0, 1], [2]])
def test_groups_without_a_cell_here_change_no_library(of):
    """A model of three groups is asked about cells of some."""
    has_bg = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 1], [1, 0, 1, 0, 1, 0]], bool)
    share_g = np.array([0.3, 0.2, 0.1, 0.4, 0.15, 0.25])
    totals_bg = np.array([[1e7], [3e7], [5e6]]) * share_g * has_bg
    totals_bg[[b for b in range(3) if b not in of]] = 0
    here_g = has_bg[of].any(0)
    for reference_g in (reference_genes(totals_bg, has_bg), here_g):
        found_g = shares_of_measured(totals_bg, has_bg, reference_g)
        whole = share_g[reference_g].sum()
        np.testing.assert_allclose(found_g[here_g], share_g[here_g] / whole, rtol=1e-4)
        assert (found_g[~here_g] < 1e-6).all()
    assert reference_genes(totals_bg, has_bg).tolist() == [True] + [False] * 5


@pytest.mark.parametrize("rare", [False, True])
def test_shares_by_the_library_are_those_that_made_the_counts(rare):
    """Also where few counts are of genes that all groups have, and the library is of others."""
    has_bg = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 1], [1, 0, 1, 0, 1, 0]], bool)
    share_g = np.array([0.02 if rare else 0.3, 0.2, 0.1, 0.4, 0.15, 0.25])
    totals_bg = np.array([[1e7], [3e7], [5e6]]) * share_g * has_bg
    reference_g = reference_genes(totals_bg, has_bg)
    assert reference_g.sum() == (4 if rare else 1)
    found_g = shares_of_measured(totals_bg, has_bg, reference_g)
    np.testing.assert_allclose(found_g, share_g / share_g[reference_g].sum(), rtol=1e-4)


def test_a_cell_without_a_count_in_its_library_has_one_of_one():
    x = np.ones((12, 5))
    x[3, [0, 1, 4]] = 0  # of group b, which has gene3 of its own
    masks = {"a": [1, 1, 1, 0, 1], "b": [1, 1, 0, 1, 1]}
    x[:5, 2], x[5:, 3] = 0, 0
    found = read(make(x), feature_masks=masks).initial_values()
    assert found.reference_g.tolist() == [True, True, False, False, True]
    for value in found:
        assert not hasattr(value, "isfinite") or value.isfinite().all()
