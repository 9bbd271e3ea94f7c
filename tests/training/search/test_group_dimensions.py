"""Which groups use a shared dimension, and that those of one group reach its own latent."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_mgvi import MGVI, LogLinearDecoder, SearchSettings, TrainingPlan
from pyro_mgvi.analysis.metrics import probe
from pyro_mgvi.core import DimensionStart, EncoderInput
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.kernels.sparse import to_dense
from pyro_mgvi.training.search.group_dimensions import _log_variances, users
from pyro_mgvi.training.search.restart import hand_over


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


def test_a_difference_that_hangs_on_one_cell_is_none():
    rng = np.random.default_rng(3)
    z_n = np.concatenate([rng.normal(size=400), [0.0, 0.0, 0.0, 0.0, 0.9]])
    group_n = np.repeat([0, 1], [400, 5])
    small, large = z_n[400:].var(ddof=1), z_n[:400].var(ddof=1)
    assert large > 4 * small
    assert users(z_n, one_cluster(405), group_n, 4.0) is None
    steady = np.where(np.arange(405) < 400, z_n, np.sqrt(small) * (-1.0) ** np.arange(405))
    assert users(steady, one_cluster(405), group_n, 4.0).tolist() == [True, False]


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


FEWER = SearchSettings(start_cells=150)  # of 250 in a group: positions and cells are not the same


def shared_program(users=("a",), seed=0):
    """Return a model whose shared latent holds types and a program of some groups, and the data.

    Genes 0-19 follow the program, genes 30-49 the type; encoders and decoder are started there.
    """
    rng = np.random.default_rng(seed)
    group = np.tile(["a", "b", "c"], 250)
    type_n = rng.integers(2, size=750) - 0.5
    score_n = rng.normal(size=750) * np.isin(group, users)
    loading_kg = np.zeros((2, 80), np.float32)
    loading_kg[0, 30:50], loading_kg[1, :20] = 0.6, np.where(np.arange(20) % 4, 0.5, -0.5)
    counts = rng.poisson(4 * np.exp(np.column_stack([2 * type_n, score_n]) @ loading_kg))
    obs = pd.DataFrame({"group": group}, np.arange(750).astype(str))
    adata = ad.AnnData(counts.astype(np.float32), obs)
    adata.var_names = [f"g{i}" for i in range(80)]
    mgvi = MGVI.from_anndata(adata, "group", latents=["z:3", "t:2"], decoder=LogLinearDecoder)
    data = mgvi.read(adata)
    batch = data.rows(np.arange(750))
    x = EncoderInput(to_dense(mgvi.guide.input(batch.counts)), batch.covariates)
    everything = {name: mgvi.model.active[name].clone() for name in ("z", "t")}
    mgvi.model.active.close(everything)
    for dim, score in enumerate([2 * type_n, score_n]):
        score = torch.from_numpy(score).float()
        start(mgvi, mgvi.families.copies[0], dim, loading_kg[dim], x, score)
    return mgvi, data, score_n, loading_kg[1]


def start(mgvi, copy, dim, loading_g, x, score_n):
    beginning = DimensionStart(torch.from_numpy(loading_g), x, score_n)
    mgvi.model.active.open(copy, dim)
    mgvi.model.decoder.start_dimension(copy, dim, beginning)
    mgvi.guide.encoder.start_dimension(copy, dim, beginning)


@pytest.mark.parametrize("user", ["a", "c"])
def test_a_program_in_the_shared_latent_is_handed_to_the_group_that_uses_it(user):
    mgvi, data, score_n, loading_g = shared_program((user,))
    private = mgvi.families.copies_of("t")
    t = private["abc".index(user)]
    assert hand_over(mgvi, data, FEWER) == 1
    active = {copy.key: mgvi.model.active.of(copy) for copy in mgvi.families.copies}
    assert active["z"].tolist() == [True, False, False]  # the type stays, the program has left
    assert {key: int(dims.sum()) for key, dims in active.items() if key != "z"} == {
        copy.key: int(copy == t) for copy in private
    }
    dim = int(active[t.key].nonzero()[0])
    own = np.flatnonzero(data.group_n == "abc".index(user))
    place_n = mgvi.posterior(data.rows(own)).mean("t")[t.index, :, dim].detach().numpy()
    loading = mgvi.loadings(t.key).to_numpy()[:, dim]
    assert np.corrcoef(place_n, score_n[own])[0, 1] > 0.8  # started at the score ...
    assert np.corrcoef(loading, loading_g)[0, 1] > 0.95  # ... of these loadings


@pytest.mark.parametrize("users", [("a", "b"), ("a", "b", "c")])
def test_what_no_copy_belongs_to_stays_shared(users):
    mgvi, data, *_ = shared_program(users)
    before = {key: value.clone() for key, value in mgvi.model.state_dict().items()}
    assert hand_over(mgvi, data, FEWER) == 0
    after = mgvi.model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_a_dimension_in_use_is_not_overwritten():
    mgvi, data, _, loading_g = shared_program(("a",))
    own = np.flatnonzero(data.group_n == 0)
    batch = data.rows(own)
    x = EncoderInput(to_dense(mgvi.guide.input(batch.counts)), batch.covariates)
    other_g = np.roll(loading_g, 55)
    for dim in range(2):
        score_n = torch.from_numpy(np.random.default_rng(dim).normal(size=len(own))).float()
        start(mgvi, mgvi.families.copies[1], dim, other_g, x, 3 * score_n)
    before = mgvi.loadings("t_a").to_numpy().copy()
    assert hand_over(mgvi, data, FEWER) == 0
    np.testing.assert_array_equal(mgvi.loadings("t_a").to_numpy(), before)
    assert mgvi.model.active["z"].tolist() == [[True, True, False]]


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
