"""Which groups use a shared dimension, and that those of one group reach its own latent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mgvi import MGVI, SearchSettings, TrainingPlan
from pyro_mgvi.analysis.metrics import probe
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.training.search.group_dimensions import _log_variances, users


def one_cluster(n):
    return np.zeros(n, int)


@given(seed=st.integers(0, 10**6), small=st.integers(40, 400))
def test_a_dimension_of_all_groups_is_nobody_s_own(seed, small):
    rng = np.random.default_rng(seed)
    group_n = np.repeat([0, 1], [400, small])
    assert users(rng.normal(size=len(group_n)), one_cluster(len(group_n)), group_n, 4.0) is None


@given(seed=st.integers(0, 10**6), small=st.integers(50, 400), large=st.booleans())
def test_a_dimension_of_one_group_is_its_own_whatever_the_sizes(seed, small, large):
    rng = np.random.default_rng(seed)
    group_n = np.repeat([0, 1], [400, small])
    user = 0 if large else 1
    z_n = rng.normal(size=len(group_n)) * np.where(group_n == user, 1.0, 0.2)
    found = users(z_n, one_cluster(len(z_n)), group_n, 4.0)
    assert found.tolist() == [user == 0, user == 1]


def test_what_is_strong_in_one_and_weak_in_another_stays():
    rng = np.random.default_rng(0)
    group_n = np.repeat([0, 1, 2], 500)
    for sds, expected in (([1, 0.6, 0.1], None), ([1, 0.9, 0.1], [True, True, False])):
        z_n = rng.normal(size=1500) * np.array(sds)[group_n]
        found = users(z_n, one_cluster(1500), group_n, 4.0)
        assert expected is None if found is None else found.tolist() == expected


def test_a_type_that_one_group_has_is_no_variation_of_that_group():
    rng = np.random.default_rng(1)
    group_n = np.repeat([0, 1], 500)
    type_n = np.where((group_n == 0) & (rng.random(1000) < 0.3), 1, 0)  # in group 0 only
    z_n = 5.0 * type_n + rng.normal(size=1000)
    assert users(z_n, one_cluster(1000), group_n, 4.0) is not None
    assert users(z_n, type_n, group_n, 4.0) is None


def test_other_shares_of_types_do_not_matter():
    rng = np.random.default_rng(2)
    group_n = np.repeat([0, 1], 2000)
    type_n = (rng.random(4000) < np.where(group_n == 0, 0.9, 0.1)).astype(int)
    z_n = rng.normal(size=4000) * np.where(type_n == 1, 3.0, 0.5)  # a variable type
    (first, second), errors = _log_variances(z_n, type_n, group_n)
    assert abs(first - second) < 4 * np.hypot(*errors)
    assert users(z_n, one_cluster(4000), group_n, 4.0) is not None
    assert users(z_n, type_n, group_n, 4.0) is None


def unequal(seed, large, small):
    everything = clear_recipe(seed, 2200, 500, 100)
    group = everything.obs["group"].to_numpy()
    sizes = {"group1": large, "group2": small}
    return everything[
        np.concatenate([np.flatnonzero(group == g)[:n] for g, n in sizes.items()])
    ].copy()


@pytest.mark.slow
def test_a_large_group_s_program_leaves_the_shared_latent_and_a_small_one_holds_no_noise():
    adata = unequal(2, 1000, 50)
    own = (adata.obs["group"] == "group1").to_numpy()
    program = adata.obs["program"].to_numpy(str)[own]
    told = {}
    for name, search in {"once": SearchSettings(hand_over=10**6), "both": SearchSettings()}.items():
        mgvi = MGVI.from_anndata(adata, "group")
        mgvi.fit(adata, TrainingPlan(search=search), progress=False)
        latents = mgvi.latents(adata)
        told[name] = [probe(latents[key].to_numpy()[own], program) for key in ("z", "t_group1")]
        assert not np.nanvar(latents["t_group2"].to_numpy(), axis=0).any()
    assert told["both"][1] > 0.95 > told["once"][1]
    assert told["both"][0] < told["once"][0]


@pytest.mark.slow
def test_shuffled_groups_are_handed_nothing():
    adata = unequal(3, 700, 300)
    adata.obs["group"] = np.random.default_rng(0).permutation(adata.obs["group"].to_numpy())
    mgvi = MGVI.from_anndata(adata, "group")
    mgvi.fit(adata, max_epochs=25, progress=False)
    used = {copy.key: int(mgvi.model.active.of(copy).sum()) for copy in mgvi.families.copies}
    assert used["t_group1"] == used["t_group2"] == 0
