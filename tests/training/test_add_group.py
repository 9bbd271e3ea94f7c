"""One more group: what is learnt, and that nothing else changes."""

import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.masked import masked
from sklearn.linear_model import LogisticRegression

import pyro_mgvi
from pyro_mgvi import (
    MGVI,
    DataError,
    SettingsError,
    TrainingPlan,
    pairwise,
    private,
    shared,
    subsets,
)
from pyro_mgvi.analysis.metrics import kmeans_ari, probe, silhouette
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.training.add_group import extended, new_entries

LATENTS = (shared(3), private(2))
QUICK = TrainingPlan(max_epochs=2, batch_size=32)


def of(adata, *groups):
    return adata[adata.obs["group"].isin(groups).to_numpy()]


def two_and_three(adata, latents=LATENTS, plan=QUICK, keys=None, **settings):
    """Return a model of two groups, and the same with the third."""
    old = of(adata, "group1", "group2")
    mgvi = MGVI.from_anndata(old, "group", latents=latents, **(keys or {}), **settings)
    mgvi.fit(old, plan, progress=False)
    return mgvi, mgvi.add_group(of(adata, "group3"), plan, progress=False)


def state(mgvi):
    parts = {"model": mgvi.model, "guide": mgvi.guide}
    return {
        f"{part}.{name}": value.clone()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }


def same(a, b):
    return all(a[key].equals(b[key]) for key in a)


def assert_nothing_changed_for_old_cells(adata, mgvi, larger):
    old = of(adata, "group1", "group2")
    assert same(mgvi.latents(old), larger.latents(old))
    assert same(mgvi.latents(old, "encode"), larger.latents(old, "encode"))
    before, after = mgvi.normalized_expression(old), larger.normalized_expression(old)
    np.testing.assert_array_equal(before, after)
    # For a few cells BLAS may add the new zero terms in another order: the last bits differ.
    few = old[:2]
    assert same(mgvi.latents(few), larger.latents(few))
    before, after = mgvi.normalized_expression(few), larger.normalized_expression(few)
    np.testing.assert_allclose(before, after, rtol=1e-5)


@pytest.fixture(scope="module")
def quick(adata):
    return two_and_three(adata)


@pytest.fixture(scope="module")
def planted():
    adata = clear_recipe(seed=5, n_cells=1500, n_shared_genes=500, n_program_genes=150, groups=3)
    latents = (shared(10), private(10))
    return adata, *two_and_three(adata, latents, TrainingPlan(batch_size=64))


@pytest.mark.slow
def test_the_new_group_s_program_is_in_its_private_latent(planted):
    adata, _, larger = planted
    new = of(adata, "group3")
    t, types = larger.latents(new)["t_group3"], new.obs["celltype"].astype(str)
    assert probe(t, new.obs["program"].astype(str)) > 0.9
    assert probe(t, types) < 0.5 and silhouette(t, types) <= 0.03  # as for a model of all groups


@pytest.mark.slow
def test_the_new_cells_have_the_same_types_in_z(planted):
    adata, _, larger = planted
    old, new = of(adata, "group1", "group2"), of(adata, "group3")
    z_old, z_new, z = (larger.latents(cells)["z"] for cells in (old, new, adata))
    classifier = LogisticRegression(max_iter=1000).fit(z_old, old.obs["celltype"].astype(str))
    assert classifier.score(z_new, new.obs["celltype"].astype(str)) > 0.95
    assert kmeans_ari(z, adata.obs["celltype"]) > 0.95
    assert probe(z, adata.obs["group"]) < 0.5  # chance 0.33


@pytest.mark.slow
def test_nothing_changes_for_cells_of_the_old_groups(planted):
    assert_nothing_changed_for_old_cells(*planted)


def test_nothing_changes_for_cells_of_the_old_groups_of_a_small_model(quick, adata):
    assert_nothing_changed_for_old_cells(adata, *quick)


@pytest.mark.parametrize(
    "settings",
    [
        {"decoder": pyro_mgvi.LogLinearDecoder},
        {"decoder": partial(pyro_mgvi.JointDecoder, linear=False, offset=False, response=0.0)},
        {"likelihood": pyro_mgvi.NB, "observed_library": True},
        {"likelihood": pyro_mgvi.Gaussian},
        {"latents": (private(2), pairwise(2), shared(3), subsets("u", [["group1"]], 2))},
        {"keys": {"batch_key": "donor", "covariate_keys": ["age", "sex"]}},
    ],
    ids=["log-linear", "plain", "nb", "gaussian", "latents", "covariates"],
)
def test_every_layout_of_the_weights(adata, settings, tmp_path):
    adata = adata.copy()
    rng = np.random.default_rng(0)
    adata.obs["donor"], adata.obs["sex"] = (rng.choice(["a", "b"], adata.n_obs) for _ in range(2))
    adata.obs["age"] = rng.random(adata.n_obs)
    mgvi, larger = two_and_three(adata, **({"latents": LATENTS} | settings))
    assert_nothing_changed_for_old_cells(adata, mgvi, larger)
    assert larger.schema.groups == ("group1", "group2", "group3")
    larger.save(tmp_path / "m")
    loaded = MGVI.load(tmp_path / "m")
    assert same(larger.latents(adata), loaded.latents(adata))
    pd.testing.assert_frame_equal(
        larger.normalized_expression(adata), loaded.normalized_expression(adata)
    )


def test_which_latents_get_the_new_group(adata):
    latents = (private(2), pairwise(2), shared(3), subsets("u", [["group1"]], 2))
    _, larger = two_and_three(adata, latents)
    everyone = ("group1", "group2", "group3")
    assert {latent.name: latent.subsets for latent in larger.model.latents} == {
        "t": (("group1",), ("group2",), ("group3",)),
        "pair": (everyone,),  # of two groups, the only pair is all of them
        "z": (everyone,),
        "u": (("group1",),),
    }
    three = pairwise(2).over(everyone)
    assert extended(three, everyone, "group4") == three


def test_only_entries_of_the_new_group_are_trained(adata):
    old = of(adata, "group1", "group2")
    mgvi = MGVI.from_anndata(old, "group", latents=LATENTS)
    mgvi.fit(old, QUICK, progress=False)
    before = state(mgvi)
    plan = replace(QUICK, prune_below=0.0)
    larger = mgvi.add_group(of(adata, "group3"), plan, progress=False)
    again = mgvi.add_group(of(adata, "group3"), plan, max_epochs=1, progress=False)
    after, sooner = state(larger), state(again)
    assert after.keys() == before.keys() == state(mgvi).keys()
    copies = {"z": torch.tensor([False]), "t": torch.tensor([False, False, True])}
    new = new_entries(larger, copies)
    hidden, n_genes = 128, adata.n_vars
    sizes = {  # one encoder of four to six, two of nine decoder inputs, one row of the groups'
        "guide.encoder.first.weight": hidden * n_genes,
        "guide.encoder.first.bias": hidden,
        "guide.encoder.gain": hidden,
        "guide.encoder.shift": hidden,
        "guide.encoder.heads.t.weight": hidden * 4,
        "guide.encoder.heads.t.bias": 4,
        "model.decoder.trunk.weight": hidden * 2,
        "model.decoder.linear": n_genes * 2,
        "model.decoder.offset": n_genes,
        "model.decoder.response": 3 * n_genes,
        "model.active.dims_t": 2,
        "guide.active.dims_t": 2,
    }
    for name, value in after.items():
        mine = new.get(name, torch.tensor(False)).expand(value.shape)
        assert mine.sum() == sizes.get(name, 0), name
        assert torch.equal(value[~mine], before[name].flatten()), name
        if mine.any() and value.is_floating_point():
            moved = value[mine] != sooner[name][mine]
            assert moved.float().mean() > 0.9, name
    assert all(torch.equal(value, before[name]) for name, value in state(mgvi).items())
    parameters = [*larger.model.parameters(), *larger.guide.parameters()]
    assert all(p.requires_grad and not p._backward_hooks for p in parameters)
    larger.fit(adata, QUICK, progress=False)  # and all of it can be trained from there
    assert not same(larger.latents(old), mgvi.latents(old))


def test_closed_dimensions_stay_so_and_those_of_the_new_copy_are_judged(adata):
    old = of(adata, "group1", "group2")
    mgvi = MGVI.from_anndata(old, "group", latents=LATENTS)
    mgvi.fit(old, QUICK, progress=False)
    mgvi.model.active["z"].copy_(torch.tensor([[True, False, True]]))
    mgvi.model.active["t"].copy_(torch.tensor([[True, False], [False, False]]))
    for prune_below, active in ((0.0, True), (1e6, False)):
        plan = replace(QUICK, prune_below=prune_below)
        larger = mgvi.add_group(of(adata, "group3"), plan, progress=False)
        assert_nothing_changed_for_old_cells(adata, mgvi, larger)
        for module in (larger.model, larger.guide):
            assert module.active["z"].tolist() == [[True, False, True]]
            expected = [[True, False], [False, False], [active, active]]
            assert module.active["t"].tolist() == expected


def test_the_offset_starts_where_the_shared_latents_leave_the_group(adata):
    """For an identity link exactly: the mean expected value of each gene is the observed one."""
    # The new copy is closed: t is zero.
    tiny = replace(QUICK, learning_rate=1e-9, max_epochs=1, prune_below=1e6)
    mgvi = MGVI.from_anndata(
        of(adata, "group1", "group2"), "group", latents=LATENTS, likelihood=pyro_mgvi.Gaussian
    )
    mgvi.fit(of(adata, "group1", "group2"), QUICK, progress=False)
    new = of(adata, "group3")
    larger = mgvi.add_group(new, tiny, progress=False)
    seen, expected = new.X.toarray().mean(0), larger.normalized_expression(new).mean(axis=0)
    np.testing.assert_allclose(expected, seen, rtol=1e-3, atol=1e-3)


def test_shared_only_expression_averages_one_more_offset(adata, quick):
    old = of(adata, "group1", "group2")
    before, after = (mgvi.normalized_expression(old, latents="z") for mgvi in quick)
    assert not np.allclose(before, after, rtol=1e-3)


def test_groups_are_added_one_after_the_other(adata, quick):
    fourth = of(adata, "group3").copy()
    fourth.obs["group"] = "group4"
    larger = quick[1].add_group(fourth[:, ::-1], QUICK, progress=False)  # genes in any order
    assert list(larger.latents(adata)) == ["z", *(f"t_group{i}" for i in range(1, 5))]
    assert same(quick[1].latents(adata), larger.latents(adata))
    again = quick[1].add_group(fourth, QUICK, progress=False)
    assert same(again.latents(fourth), larger.latents(fourth))  # same seed, same result


def test_the_new_cells_counts_may_be_in_another_layer(adata, quick):
    new = of(adata, "group3").copy()
    moved = new.copy()
    moved.layers["counts"] = moved.X.copy()
    moved.X = np.log1p(moved.X)
    larger = quick[0].add_group(moved, QUICK, layer="counts", progress=False)
    assert same(larger.latents(new), quick[1].latents(new))
    with pytest.raises(DataError, match=r"fractional.*layers\['counts'\]"):
        quick[0].add_group(moved, QUICK, progress=False)
    with pytest.raises(DataError, match="layer 'raw'"):
        quick[0].add_group(new, QUICK, layer="raw", progress=False)


def test_data_that_are_not_one_new_group_are_refused(adata, quick):
    mgvi, new = quick[0], of(adata, "group3").copy()
    two = new.copy()
    two.obs["group"] = np.where(np.arange(two.n_obs) % 2, "a", "b")
    with pytest.raises(DataError, match=r"'group'.*no new group.*knows group1, group2"):
        mgvi.add_group(of(adata, "group1", "group2"), QUICK, progress=False)
    with pytest.raises(DataError, match=r"2 new groups: a, b; add them one by one"):
        mgvi.add_group(two, QUICK, progress=False)
    with pytest.raises(DataError, match=r"known group\(s\).*group1, group2; pass adata\["):
        mgvi.add_group(adata, QUICK, progress=False)
    with pytest.raises(DataError, match=r"'group3'.*1 cell"):
        mgvi.add_group(new[:1], QUICK, progress=False)
    with pytest.raises(DataError, match="lack 1 of its genes"):
        mgvi.add_group(new[:, 1:], QUICK, progress=False)
    with pytest.raises(SettingsError, match=r"plan must be a TrainingPlan, not .*epochs"):
        mgvi.add_group(new, {"epochs": 3})


@pytest.mark.filterwarnings("ignore:.*start a dimension:pyro_mgvi.errors.ComponentWarning")
@pytest.mark.parametrize(
    "settings, message",
    [
        ({"encoder": pyro_mgvi.SharedTrunk}, "does not support SharedTrunk.*SeparateEncoders"),
        ({"decoder": pyro_mgvi.AdditiveDecoder}, "does not support AdditiveDecoder.*JointDecoder"),
        ({"decoder": pyro_mgvi.BasisDecoder}, "does not support BasisDecoder"),
        (
            {
                "latents": (shared(3),),
                "decoder": partial(pyro_mgvi.JointDecoder, offset=False, response=0.0),
            },
            "nothing to train for group 'group3'",
        ),
    ],
)
def test_models_that_cannot_be_extended_are_refused(adata, settings, message):
    mgvi = MGVI.from_anndata(of(adata, "group1", "group2"), "group", **settings)
    with pytest.raises(SettingsError, match=message):
        mgvi.add_group(of(adata, "group3"), QUICK, progress=False)


def test_an_own_component_with_weights_per_group_is_refused_by_name(adata):
    class Mine(pyro_mgvi.JointDecoder):
        def __init__(self, latents, initial, n_outputs):
            super().__init__(latents, initial, n_outputs)
            self.mine = torch.nn.Parameter(torch.zeros(len(latents.groups)))

    mgvi = MGVI.from_anndata(of(adata, "group1", "group2"), "group", decoder=Mine)
    with pytest.raises(SettingsError, match=r"model\.decoder\.mine.*own component"):
        mgvi.add_group(of(adata, "group3"), QUICK, progress=False)


@pytest.mark.parametrize("before", [False, True])
def test_a_new_group_may_lack_genes(adata, before):
    """Its counts of the others are no part of it, and the old groups' results stay as they are."""
    has_bg = np.ones((3, adata.n_vars), bool)
    has_bg[2, 10:20] = False
    if before:
        has_bg[0, 3], has_bg[1, 5] = False, False
    some = masked(adata, has_bg)
    old, new = of(some, "group1", "group2"), of(some, "group3")
    masks = {"group1": "in_group1", "group2": "in_group2"} if before else None
    mgvi = MGVI.from_anndata(old, "group", latents=LATENTS, feature_masks=masks)
    mgvi.fit(old, QUICK, progress=False)
    junk = masked(adata, has_bg, 7.0)
    found = []
    for cells in (new, of(junk, "group3"), new[:, has_bg[2]]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pyro_mgvi.DataWarning)
            found.append(mgvi.add_group(cells, QUICK, feature_mask="in_group3", progress=False))
    larger = found[0]
    assert set(larger.schema.absent["group3"]) == set(adata.var_names[10:20])
    for key, table in mgvi.latents(old).items():
        np.testing.assert_array_equal(larger.latents(old)[key], table)
    own = larger.latents(new)["t_group3"]
    for other in found[1:]:
        np.testing.assert_array_equal(other.latents(new)["t_group3"], own)
    expression = larger.normalized_expression(new)
    np.testing.assert_array_equal(expression.notna().all(), has_bg[2])
    with pytest.raises(DataError, match="group 'group3' has none of the model's genes"):
        mgvi.add_group(new, QUICK, feature_mask=np.zeros(adata.n_vars), progress=False)
    if before:
        few = np.isin(np.arange(adata.n_vars), [3, 5])  # all groups' genes are none of these
        with pytest.raises(DataError, match="'group3' has none of the genes that all groups of"):
            mgvi.add_group(new, QUICK, feature_mask=few, progress=False)
