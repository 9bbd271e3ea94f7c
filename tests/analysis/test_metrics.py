"""Scores of latents: what is separate, what is mixed, and the ceiling of a planted program."""

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_mgvi import DataError
from pyro_mgvi.analysis import metrics
from pyro_mgvi.datasets import clear_recipe


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_scores_know_separate_from_mixed(rng):
    labels = np.repeat(["a", "b", "c"], 100)
    apart = np.eye(3)[np.repeat(range(3), 100)] * 10 + rng.normal(size=(300, 3))
    mixed = rng.normal(size=(300, 3))
    assert metrics.kmeans_ari(apart, labels) == 1 and metrics.kmeans_ari(mixed, labels) < 0.05
    assert metrics.silhouette(apart, labels) > 0.7 and metrics.silhouette(mixed, labels) < 0.02
    assert metrics.probe(apart, labels) == 1
    assert metrics.probe(mixed, labels) == pytest.approx(1 / 3, abs=0.1)


def test_probe_is_balanced():
    labels = np.array(["rare"] * 10 + ["common"] * 190)
    assert metrics.probe(np.ones((200, 1)), labels) == pytest.approx(0.5)


def test_active_units_and_cka(rng):
    x = rng.normal(size=(400, 3))
    assert metrics.active_units(np.column_stack([x, 0.05 * x[:, :2]])) == 3
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert metrics.linear_cka(x, x @ rotation) == pytest.approx(1)
    assert metrics.linear_cka(x, rng.normal(size=(400, 3))) < 0.05
    assert metrics.linear_cka(x, np.zeros((400, 2))) == 0


def test_program_score_is_a_ceiling(rng):
    adata = clear_recipe(0, n_cells=600, n_shared_genes=100, n_program_genes=150)
    ideal, program = metrics.program_score(adata, "group1")
    assert ideal.shape == (len(program), 1) and set(program) == {"P1", "P2"}
    assert metrics.kmeans_ari(ideal, program) > 0.8
    shuffled = rng.permutation(program)
    assert metrics.kmeans_ari(ideal, shuffled) < 0.05


SCORES = (metrics.probe, metrics.kmeans_ari, metrics.silhouette)


@pytest.fixture
def labelled(rng):
    """Three labels that a latent tells by and large, 300 cells."""
    labels = np.repeat(["a", "b", "c"], 100).astype(object)
    return np.eye(3)[np.repeat(range(3), 100)] * 3 + rng.normal(size=(300, 3)), labels


@pytest.mark.parametrize("score", SCORES)
def test_cells_without_the_latent_are_left_out(score, labelled):
    latent, labels = labelled
    own = np.arange(300) % 3 > 0
    seen = np.where(own[:, None], latent, np.nan)
    assert score(seen, labels) == pytest.approx(score(latent[own], labels[own]))
    assert score(pd.DataFrame(seen), list(labels)) == score(seen, labels)
    elsewhere = np.where(own[:, None], latent, 99.0)
    masked = np.ma.masked_array(elsewhere, np.isnan(seen))
    assert score(masked, labels) == score(seen, labels)


def test_latents_that_torch_follows_are_numbers_and_those_of_its_own_types_are_refused(labelled):
    latent, labels = labelled
    followed = torch.tensor(latent, requires_grad=True)
    assert metrics.silhouette(followed, labels) == metrics.silhouette(latent, labels)
    assert metrics.linear_cka(followed, latent) == metrics.linear_cka(latent, latent)
    with pytest.raises(DataError, match=r"a latent is numbers.*BFloat16"):
        metrics.silhouette(followed.bfloat16(), labels)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("missing", [np.nan, None, pd.NA, pd.NaT])
@pytest.mark.parametrize("kind", [list, pd.Series, pd.Categorical])
def test_a_missing_label_is_no_class(score, missing, kind, labelled):
    latent, labels = labelled
    known = np.arange(300) % 3 > 0
    some = labels.copy()
    some[~known] = missing
    assert score(latent, kind(some)) == pytest.approx(score(latent[known], labels[known]))


@pytest.mark.parametrize("score", SCORES)
def test_the_text_nan_is_a_label(score, labelled):
    latent, labels = labelled
    renamed = np.where(labels == "c", "nan", labels)
    assert score(latent, renamed) == pytest.approx(score(latent, labels))


@pytest.mark.parametrize("score", SCORES)
def test_what_cannot_be_scored_is_refused(score, labelled):
    latent, labels = labelled
    cases = [
        (latent, np.repeat("a", 300), "two labels"),
        (latent, [None] * 300, "two labels"),
        (np.full_like(latent, np.nan), labels, "two labels"),
        (latent, labels[:-1], "299 labels for 300 cells"),
        (latent, np.ones((300, 2)), "one per cell"),
        (latent[:, 0], labels, "cells x dims"),
        (latent.astype(str), labels, "numbers"),
        (np.where(latent > 4, np.inf, latent), labels, "infinite"),
    ]
    for wrong, label, message in cases:
        with pytest.raises(DataError, match=message):
            score(wrong, label)


def test_a_silhouette_needs_labels_that_cells_share():
    with pytest.raises(DataError, match="label of its own"):
        metrics.silhouette(np.eye(3), list("abc"))


def test_an_empty_latent_has_no_clusters(labelled):
    assert metrics.kmeans_ari(np.zeros((300, 10)), labelled[1]) == 0
    assert metrics.silhouette(np.zeros((300, 10)), labelled[1]) == 0
    assert metrics.probe(np.zeros((300, 10)), labelled[1]) == pytest.approx(1 / 3)


def test_labels_rarer_than_the_folds_are_not_probed_for(rng):
    noise = rng.normal(size=(302, 5))
    labels = ["rare"] * 2 + ["x", "y"] * 150
    assert metrics.probe_and_chance(noise, labels) == metrics.probe_and_chance(
        noise[2:], labels[2:]
    )
    assert metrics.probe_and_chance(noise, ["rare"] * 2 + ["x"] * 300) is None


def test_units_are_counted_among_the_cells_that_have_the_latent(rng):
    x = np.where(np.arange(400)[:, None] % 2, rng.normal(size=(400, 3)), np.nan)
    assert metrics.active_units(x) == 3
    with pytest.raises(DataError, match="no cell has the latent"):
        metrics.active_units(np.full((4, 2), np.nan))


def test_cka_compares_the_same_cells_and_not_rounding_errors(rng):
    x = rng.normal(size=(40, 3))
    with pytest.raises(DataError, match="NaN rows"):
        metrics.linear_cka(np.where(x > 2, np.nan, x), x)
    with pytest.raises(DataError, match="40 and 39 cells"):
        metrics.linear_cka(x, x[1:])
    constant = np.full((400, 1), 0.1)  # minus its mean it is 1e-17, not 0
    assert metrics.linear_cka(constant, constant) == 0


def test_tables_of_other_cells_or_in_another_order_are_refused():
    rng = np.random.default_rng(0)
    names = [f"cell{i}" for i in range(60)]
    z = pd.DataFrame(rng.normal(size=(60, 2)), index=names)
    label = pd.Series(np.repeat(["a", "b"], 30), index=names)
    turned, other = label[::-1], label.set_axis([f"{name}-1" for name in names])
    for score in (metrics.kmeans_ari, metrics.silhouette, metrics.probe, metrics.probe_and_chance):
        expected = score(z, label)
        assert score(z, label.to_numpy()) == score(z.to_numpy(), turned.loc[names]) == expected
        assert score(z, label.reset_index(drop=True)) == expected  # numbers that are no names
        for wrong in (turned, other):
            with pytest.raises(DataError, match="other cells, or in another order"):
                score(z, wrong)
    for both in (metrics.linear_cka, metrics.recovered):
        with pytest.raises(DataError, match="other cells, or in another order"):
            both(z, z[::-1])
    with pytest.raises(DataError, match="other cells, or in another order"):
        metrics.completeness(z, z, z.to_numpy(), turned)


def test_log_shares_are_of_finite_counts_in_any_kind_of_number():
    counts_ng = np.array([[60000, 60000], [100, 100]])
    expected = metrics.log_shares(counts_ng)
    np.testing.assert_allclose(expected, np.log1p(np.full((2, 2), 30050.0)))
    for kind in (np.float16, np.float32, np.uint16):
        np.testing.assert_allclose(metrics.log_shares(counts_ng.astype(kind)), expected, rtol=1e-6)
    for wrong, message in (
        (counts_ng[0], r"counts must be .* shape \(2,\)"),
        (counts_ng.astype(str), "counts must be numbers"),
        (np.array([[1.0, np.nan]]), "counts are missing .* gene 2;"),
        (np.array([[np.inf, 1.0]]), "gene 1;"),
    ):
        with pytest.raises(DataError, match=message):
            metrics.log_shares(wrong)
