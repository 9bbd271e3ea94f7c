"""Scores of latents: what is separate, what is mixed, and the ceiling of a planted program."""

import numpy as np
import pytest

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
