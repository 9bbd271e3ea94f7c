"""Diagnosis: closed forms, and the right verdict on planted and on absent programs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.models import moved_decoder
from torch.distributions import Normal, kl_divergence

from pyro_mgvi import (
    MGVI,
    CrossFit,
    DataError,
    DataWarning,
    GroupedCounts,
    LogLinearDecoder,
    diagnose,
)
from pyro_mgvi.analysis.cross_fit import cross_fit, shuffled_fit, shuffled_groups
from pyro_mgvi.analysis.diagnosis.diagnosis import _worth
from pyro_mgvi.analysis.diagnosis.probes import (
    CLUSTERS,
    _probe_within,
    labels_of,
    nested_in_groups,
    nuisance_labels,
)
from pyro_mgvi.analysis.diagnosis.verdict import verdict
from pyro_mgvi.analysis.metrics import probe
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.training.search.clusters import clusters


@pytest.mark.slow
def test_tables_hold_closed_forms(mgvi, adata):
    report = mgvi.diagnose(adata, labels="celltype", max_epochs=1, progress=False)
    group = adata.obs["group"].to_numpy(str)
    data = mgvi.read(adata)
    batch = data.rows(np.arange(len(data)))
    with torch.no_grad():
        loc, scale = mgvi.guide.moments(batch.counts, batch.covariates)["t"]
    kl = kl_divergence(Normal(loc[1], scale[1]), Normal(0.0, 1.0)).numpy()[group == "group2"]
    table = report.dimensions.set_index("latent").loc["t_group2"]
    np.testing.assert_allclose(table["kl"], kl.mean(0), rtol=1e-4)
    assert list(table["dimension"]) == [*range(1, len(table) + 1)]  # as of programs and latents
    variance = loc[1].numpy()[group == "group2"].var(0)
    np.testing.assert_allclose(table["variance"], variance, rtol=1e-4)
    assert list(report.copies.index) == ["z", "t_group1", "t_group2", "t_group3"]
    assert report.copies["agreement"].between(0, 1).all()
    assert set(zip(report.probes["latent"], report.probes["target"])) == {
        ("z", "group"), ("z", "label"),
        *((f"t_group{i}", "label") for i in (1, 2, 3)),
    }  # fmt: skip
    with pytest.raises(DataError, match="'organ'"):
        diagnose(mgvi, adata, labels="organ")
    with pytest.raises(DataError, match="each of the 120 cells"):
        diagnose(mgvi, adata, labels=["a", "b"])


def test_a_latent_that_changes_nothing_costs_its_divergence(adata):
    mgvi, batch = moved_decoder(adata, LogLinearDecoder)
    for head in mgvi.model.decoder.heads:
        head.weight.data[:, 3:] = 0.0  # loadings of t
    refits = CrossFit((mgvi, mgvi), np.arange(len(adata)) % 2, 0)
    found = _worth(refits, mgvi.read(adata))
    with torch.no_grad():
        loc, scale = mgvi.guide.moments(batch.counts, batch.covariates)["t"]
    kl_sn = kl_divergence(Normal(loc, scale), Normal(0.0, 1.0)).sum(-1).double().numpy()
    group = adata.obs["group"].to_numpy(str)
    for kl_n, name in zip(kl_sn, mgvi.schema.groups):
        own_n = kl_n[group == name]
        assert own_n.mean() > 0.01
        expected = [-own_n.mean(), own_n.std() / np.sqrt(len(own_n))]
        np.testing.assert_allclose(found.loc[f"t_{name}"], expected, rtol=1e-3)


def both_refits(mgvi, adata):
    """Return refits, and such of shuffled groups."""
    return [fit(mgvi, adata, max_epochs=1, progress=False) for fit in (cross_fit, shuffled_fit)]


def probes_of(mgvi, adata, labels, refits):
    report = diagnose(mgvi, adata, labels, *refits, progress=False)
    return report.probes.query("kind == 'label'").drop(columns=["kind", "target"])


@pytest.mark.slow
def test_labels_are_of_the_cells_that_they_name_and_missing_ones_are_no_class(trained, adata):
    refits = both_refits(trained, adata)
    whole = probes_of(trained, adata, "celltype", refits)
    series = adata.obs["celltype"]
    shuffled = series.sample(frac=1, random_state=0)  # a Series is read by the cells' names
    for same in (series.to_numpy(), shuffled, list(series)):
        pd.testing.assert_frame_equal(probes_of(trained, adata, same, refits), whole)
    some = adata.copy()
    some.obs["some"] = series.where(np.arange(120) % 4 > 0)
    found = probes_of(trained, some, "some", refits)
    assert found["chance"].iloc[0] == 0.2 == found["chance"].min()  # five types, and no "nan"
    own = some.obs["some"].notna().to_numpy()
    z = trained.latents(adata)["z"]
    assert found["accuracy"].iloc[0] == probe(z[own], series[own])
    for values in (some.obs["some"], some.obs["some"].to_numpy(), list(some.obs["some"])):
        pd.testing.assert_frame_equal(probes_of(trained, adata, values, refits), found)
    with pytest.raises(DataError, match=r"knows only some of the cells by name; missing: .*cell"):
        diagnose(trained, adata, series[:-1])
    others = series.set_axis(series.index + "-1")
    with pytest.raises(DataError, match=r"knows none of the cells by name; .*labels.to_numpy()"):
        diagnose(trained, adata, others)
    numbered = series.reset_index(drop=True)  # as pandas numbers what has no names
    pd.testing.assert_frame_equal(probes_of(trained, adata, numbered, refits), whole)


def test_labels_may_name_cells_that_the_model_leaves_out(adata):
    cells = adata.copy()
    counts = cells.X.toarray()
    counts[5] = 0
    cells.X = counts
    data = GroupedCounts.from_anndata(cells, group_key="group", drop_empty=True)
    labels = cells.obs["celltype"]
    kept = labels_of(data, labels.iloc[data.cells], data)
    assert len(kept) == 119
    for given in ("celltype", labels, labels.to_numpy(), labels.iloc[data.cells]):
        np.testing.assert_array_equal(labels_of(cells, given, data), kept)


@pytest.mark.slow
def test_labels_that_leave_nothing_to_probe_are_said(trained, adata):
    refits = both_refits(trained, adata)
    rare = ["one", "one", "two", *[None] * (adata.n_obs - 3)]
    with pytest.warns(DataWarning, match="nothing to probe for: label tells no two sets of 3"):
        report = diagnose(trained, adata, rare, *refits, progress=False)
    assert set(report.probes["kind"]) == {"group"}


def test_shuffling_keeps_sizes_and_everything_else(mgvi, adata):
    data = mgvi.read(adata)
    shuffled = shuffled_groups(data, 0)
    assert (np.bincount(shuffled.group_n) == np.bincount(data.group_n)).all()
    assert 0.2 < np.mean(shuffled.group_n == data.group_n) < 0.5  # chance is a third
    assert shuffled.x is data.x


@pytest.mark.parametrize(
    ("worth", "shuffled", "holds"), [(2.0, -1.0, True), (2.0, 1.9, False), (-15.9, -30.7, False)]
)
def test_a_latent_that_harms_unseen_cells_holds_nothing_however_bad_the_shuffled_refit(
    worth, shuffled, holds
):
    adata = clear_recipe(0, n_cells=100, n_shared_genes=20, n_program_genes=20)
    mgvi = MGVI.from_anndata(adata, "group")
    keys = ["z", "t_group1", "t_group2"]
    again = {"dimension": 1, "found_again": 0.9, "in_shared": 0.0}
    dimensions = pd.DataFrame({"latent": keys, "active": True, **again})
    row = {"worth": worth, "worth_se": 0.1, "shuffled": shuffled, "shuffled_se": 0.1}
    copies = pd.DataFrame([row | {"agreement": 1.0}] * 3, index=keys)
    copies.loc["z", list(row)] = np.nan  # all groups own it
    probes = pd.DataFrame(columns=["latent", "kind", "target", "accuracy", "chance"])
    said = " ".join(verdict(mgvi, dimensions, copies, probes))
    assert said.count("holds variation") == (2 if holds else 0)
    assert said.count("do not interpret") == (0 if holds else 2)


@pytest.fixture
def said_of():
    """Return what the verdict says of tables with a given agreement of refits."""
    adata = clear_recipe(0, n_cells=100, n_shared_genes=20, n_program_genes=20)
    mgvi = MGVI.from_anndata(adata, "group")
    keys = ["z", "t_group1", "t_group2"]

    def said(agreement, worth=2.0, probes=(), nested=frozenset(), again=0.9, shared=0.0):
        places = {"dimension": 3, "found_again": again, "in_shared": shared}
        dimensions = pd.DataFrame({"latent": keys, "active": True, **places})
        row = {"worth": worth, "worth_se": 0.1, "shuffled": -1.0, "shuffled_se": 0.1}
        copies = pd.DataFrame([row | {"agreement": agreement}] * 3, index=keys)
        copies.loc["z", list(row)] = np.nan  # all groups own it
        table = pd.DataFrame(probes, columns=["latent", "kind", "target", "accuracy", "chance"])
        return list(verdict(mgvi, dimensions, copies, table, nested))

    return said


@pytest.mark.parametrize(
    ("again", "shared", "expected"),
    [
        (0.9, 0.9, None),
        (0.1, 0.8, "Of unit 3 the refits' shared latents predict 80% of the variance"),
        (0.1, 0.2, "No refit finds unit 3 again"),
        (np.nan, np.nan, None),
    ],
)
def test_units_that_refits_hold_elsewhere_or_nowhere_are_named(said_of, again, shared, expected):
    places = ("shared latents predict", "No refit finds")
    found = [each for each in said_of(1.0, again=again, shared=shared) if "variation" in each]
    assert len(found) == 2  # one sentence for each private latent
    for sentence in found:
        assert (expected in sentence) if expected else not any(x in sentence for x in places)


def test_a_latent_that_holds_something_and_differs_between_refits_is_one_statement(said_of):
    _, first, second = said_of(agreement=0.0)
    for sentence, group in ((first, "group1"), (second, "group2")):
        assert f"holds variation that belongs to {group}" in sentence
        assert "more than one training finds" in sentence
    assert not [each for each in said_of(agreement=1.0) if "find different parts" in each]
    empty = said_of(agreement=0.0, worth=-3.0)
    assert not [each for each in empty if "find different parts" in each]


def test_an_empty_latent_points_to_what_did_change(said_of):
    found = [each for each in said_of(1.0, worth=-3.0) if "offset" in each]
    assert len(found) == 2 and all("genes are 1.5-fold up or down" in each for each in found)


def test_a_column_within_groups_is_not_recommended_as_a_batch(said_of):
    probes = [("z", "nuisance", "donor", 0.9, 0.5)]
    assert said_of(1.0, probes=probes)[-1].endswith("register it as batch_key.")
    nested = said_of(1.0, probes=probes, nested=frozenset({"donor"}))[-1]
    assert "batch_key" not in nested and "cannot be told from the group" in nested


@pytest.mark.parametrize("name", ["lane", "label", "group"])
def test_a_nuisance_is_none_of_the_probes_own_targets_whatever_its_name(said_of, name):
    probes = [("z", "label", "label", 0.9, 0.5), ("z", "nuisance", name, 0.9, 0.5)]
    leaks = [each for each in said_of(1.0, probes=probes) if "leaks" in each]
    assert len(leaks) == 1 and f"z: leaks the {name} (" in leaks[0]
    assert leaks[0].endswith("register it as batch_key.")


def test_labels_that_are_given_take_no_other_columns_place(adata):
    cells = adata.copy()
    cells.obs["batch"] = np.resize(["b1", "b2"], adata.n_obs)
    donor = pd.Series(np.resize(["d1", "d2", "d3"], adata.n_obs), cells.obs_names)
    data = GroupedCounts.from_anndata(cells, group_key="group", batch_key="batch")
    for given, name in (
        (donor.rename("donor"), "donor"),
        (donor.rename("batch"), "batch (given)"),
        (donor.to_numpy(), "batch (given)"),
        (cells.obs["batch"], "batch"),
        ("batch", "batch"),
    ):
        found = nuisance_labels(cells, given, data)
        assert list(found) == list(dict.fromkeys(["batch", name]))
        assert set(found["batch"]) == {"b1", "b2"}


def test_nested_columns_are_known():
    data = SimpleNamespace(group_n=np.array([0, 0, 1, 1]))
    columns = {"donor": np.array(["a", "b", "c", "c"]), "lane": np.array(["x", "y", "x", "y"])}
    assert nested_in_groups(data, columns) == {"donor"}


def test_composition_is_no_leak_of_the_group():
    """Types in other shares in each group tell the group apart, but not within a type."""
    rng = np.random.default_rng(0)
    label_n = np.array(["a"] * 150 + ["b"] * 150)
    group_n = np.where(rng.random(300) < np.where(label_n == "a", 0.9, 0.1), "g1", "g2")
    z_nk = (label_n == "a")[:, None] * 5.0 + rng.normal(size=(300, 2))
    assert probe(z_nk, group_n) > 0.8
    accuracy, chance = _probe_within(z_nk, group_n, label_n)
    assert chance == 0.5 and abs(accuracy - chance) < 0.1
    accuracy, _ = _probe_within(z_nk, group_n, clusters(z_nk, CLUSTERS, 0))
    assert accuracy < 0.65
    shifted = z_nk + 4.0 * (group_n == "g1")[:, None]
    assert _probe_within(shifted, group_n, label_n)[0] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("trial", ["planted", "nothing_planted"])
def test_the_verdict_knows_programs_from_none(trial, request):
    its = request.getfixturevalue(trial)
    report = diagnose(its.mgvi, its.adata, "celltype", its.refits, its.shuffled, progress=False)
    found = [f"t_{g}" for g in its.mgvi.schema.groups if f"belongs to {g}" in str(report)]
    assert found == (["t_group1", "t_group2"] if trial == "planted" else []), str(report)
    nothing = "hold nothing for unseen cells that the shuffled refit does not also find"
    assert str(report).count(nothing) == (0 if trial == "planted" else 2)
    assert "z: leaks" not in str(report) and "z: two refits disagree" not in str(report)
