"""The search knows which genes a group has: absent ones are no difference between groups."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mgvi import SearchSettings
from pyro_mgvi.training.search.group_offsets import two_way_offsets
from pyro_mgvi.training.search.pairs import leading_directions
from pyro_mgvi.training.search.residuals import Residuals

SEARCH = SearchSettings()


@given(st.integers(0, 10_000), st.integers(2, 4))
@settings(max_examples=20, deadline=None)
def test_planted_offsets_are_found_where_genes_are_measured(seed, n_groups):
    rng = np.random.default_rng(seed)
    effect_cg, offset_bg = rng.normal(size=(3, 12)), 0.5 * rng.normal(size=(n_groups, 12))
    has_bg = rng.random((n_groups, 12)) > 0.3
    has_bg[0, ~has_bg.any(0)] = True
    has_bg[:, :4] = True
    size_bc = 1e9 * (0.2 + rng.dirichlet(np.ones(3), n_groups))
    share_bcg = np.exp(effect_cg + offset_bg[:, None]) * has_bg[:, None]
    found = two_way_offsets(size_bc[:, :, None] * share_bcg, measured_bg=has_bg)
    assert (found[~has_bg] == 0).all()
    # In genes of all groups, differences between groups are the planted ones, but for one number
    # per group, which shares do not tell, and which the fit gives all the genes of a group.
    common = has_bg.all(0)
    gap = found[:, common] - (offset_bg[:, common] - offset_bg[:, common].mean(0))
    np.testing.assert_allclose(gap - gap.mean(1, keepdims=True), 0, atol=0.02)


def test_without_absent_genes_the_offsets_are_the_same_bits():
    totals = np.random.default_rng(0).poisson(30.0, (3, 4, 9)).astype(float)
    np.testing.assert_array_equal(two_way_offsets(totals), two_way_offsets(totals, None))
    everything = two_way_offsets(totals, measured_bg=np.ones((3, 9), bool))
    np.testing.assert_array_equal(two_way_offsets(totals), everything)


def of_group(seed, loading_g, has_g, n=600):
    rng = np.random.default_rng(seed)
    r_ng = rng.normal(size=(n, 1)) * loading_g + rng.normal(size=(n, len(loading_g)))
    r_ng = torch.tensor(r_ng * has_g, dtype=torch.float32)
    return Residuals(
        r_ng, torch.ones(len(loading_g)), np.arange(n), measured_g=torch.from_numpy(has_g)
    )


def test_genes_that_only_the_owner_has_are_no_difference_to_the_others():
    """One program in both groups, half of whose genes the other group has not got."""
    loading_g = np.where(np.arange(30) < 10, 0.8, 0.0)
    has = [np.ones(30, bool), np.arange(30) >= 5]
    own, other = (of_group(i, loading_g, each) for i, each in enumerate(has))
    free_g = torch.ones(30, dtype=torch.bool)
    found, _ = leading_directions([own], [other], free_g, SEARCH)
    assert not found
    as_zeros = [each._replace(measured_g=None) for each in (own, other)]
    found, _ = leading_directions(as_zeros[:1], as_zeros[1:], free_g, SEARCH)
    assert set(found[0].loading_g.nonzero()[:, 0].tolist()) >= set(range(5))


def test_a_program_of_one_group_is_found_with_the_genes_that_it_has_alone():
    loading_g = np.where(np.arange(30) < 10, 0.8, 0.0)
    own = of_group(0, loading_g, np.ones(30, bool))
    other = of_group(1, 0 * loading_g, np.arange(30) >= 3)
    (found,), _ = leading_directions([own], [other], torch.ones(30, dtype=torch.bool), SEARCH)
    genes = set(found.loading_g.nonzero()[:, 0].tolist())
    assert genes >= set(range(10))
    assert len(genes) <= 12  # of 20 others, one in a hundred follows by chance


def test_others_are_averaged_over_those_that_have_both_genes():
    """A third group without the genes does not make the second one's covariance look smaller."""
    loading_g = np.where(np.arange(30) < 10, 0.8, 0.0)
    has = [np.ones(30, bool), np.ones(30, bool), np.arange(30) >= 10]
    own, other, third = (of_group(i, loading_g, each, 900) for i, each in enumerate(has))
    found, _ = leading_directions([own], [other, third], torch.ones(30, dtype=torch.bool), SEARCH)
    assert not found
