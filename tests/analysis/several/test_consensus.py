"""What several trainings agree on: planted directions, whatever the trainings do to their axes."""

import numpy as np
import pytest
from scipy.stats import special_ortho_group

from pyro_mgvi.analysis.several.consensus import AGREED, consensus

N, G = 400, 30


@pytest.fixture
def truth():
    """Two directions that all trainings hold, and their effects, of different sizes."""
    rng = np.random.default_rng(0)
    score_nk = np.linalg.qr(rng.normal(size=(N, 6)) - 0.0)[0]
    score_nk -= score_nk.mean(0)
    score_nk = np.linalg.qr(score_nk)[0] * np.sqrt(N)
    loading_kg = np.linalg.qr(rng.normal(size=(G, 6)))[0].T
    return score_nk, loading_kg * np.array([3.0, 1.0, 2.0, 2.0, 2.0, 2.0])[:, None]


def turned(score_nk, loading_kg, seed):
    """Return the same latent on other axes, and what these do."""
    k = score_nk.shape[1]
    turn_kk = special_ortho_group(k, seed=seed).rvs() if k > 1 else np.eye(1) * (-1) ** seed
    return score_nk @ turn_kk, turn_kk.T @ loading_kg


def trainings(truth, held):
    """Return latents and loadings of trainings that hold some directions, each on other axes."""
    score_nk, loading_kg = truth
    parts = [turned(score_nk[:, k], loading_kg[k], seed) for seed, k in enumerate(held)]
    return [x for x, _ in parts], [x for _, x in parts]


def test_what_all_hold_is_found_and_what_one_alone_holds_is_not(truth):
    score_nk, loading_kg = truth
    found = consensus(*trainings(truth, [[0, 1, 2], [0, 1, 3], [1, 0, 4]]), np.ones(G))
    np.testing.assert_allclose(found.agreement_k, 1.0, atol=1e-9)
    # the larger one first, the gene that it moves most rises
    for k in (0, 1):
        sign = np.sign(loading_kg[k][np.abs(loading_kg[k]).argmax()])
        np.testing.assert_allclose(found.loading_kg[k], sign * loading_kg[k], atol=1e-6)
        np.testing.assert_allclose(found.score_nk[:, k], sign * score_nk[:, k], atol=1e-6)
    assert found.score_nk.shape == (N, 2)


def test_axes_order_and_signs_of_the_trainings_change_nothing(truth):
    first = consensus(*trainings(truth, [[0, 1, 2], [0, 1], [1, 0, 4, 5]]), np.ones(G))
    second = consensus(*trainings(truth, [[5, 4, 0, 1], [2, 1, 0], [1, 0]]), np.ones(G))
    np.testing.assert_allclose(first.score_nk, second.score_nk, atol=1e-6)
    np.testing.assert_allclose(first.loading_kg, second.loading_kg, atol=1e-6)


def test_three_of_four_are_most_and_two_are_not(truth):
    of_three = consensus(*trainings(truth, [[0], [0], [1], [0]]), np.ones(G))
    np.testing.assert_allclose(of_three.agreement_k, [2 / 3])
    np.testing.assert_allclose(of_three.found_jk[:, 0], [1.0, 1.0, 0.0, 1.0], atol=1e-9)
    of_two = consensus(*trainings(truth, [[0], [0], [1], [2]]), np.ones(G))
    assert of_two.score_nk.shape == (N, 0) and of_two.loading_kg.shape == (0, G)
    assert 1 / 3 < AGREED < 2 / 3


def test_the_share_that_a_training_holds_is_that_of_a_regression(truth):
    rng = np.random.default_rng(1)
    score_nk, loading_kg = truth
    latents = [score_nk[:, :2] + noise * rng.normal(size=(N, 2)) for noise in (0.2, 0.5, 0.8)]
    found = consensus(latents, [loading_kg[:2]] * 3, np.ones(G))
    for j, latent_nk in enumerate(latents):
        x_nk = np.column_stack([np.ones(N), latent_nk])
        left_nk = found.score_nk - x_nk @ np.linalg.lstsq(x_nk, found.score_nk, rcond=None)[0]
        np.testing.assert_allclose(
            found.found_jk[j], 1 - (left_nk**2).sum(0) / (found.score_nk**2).sum(0), rtol=1e-6
        )
    assert (np.diff(found.found_jk, axis=0) < 0).all()  # the more noise, the less
    np.testing.assert_allclose(found.score_nk.mean(0), 0, atol=1e-9)


def test_a_direction_that_latents_of_more_groups_hold_is_not_private(truth):
    score_nk, _ = truth
    latents, loadings = trainings(truth, [[0, 1], [0, 1], [0, 1], [2]])
    # The fourth training has the second direction in its shared latent; the others hold 0.8 of it
    # there, too. So private latents hold 0.75 of it, and the shared ones 0.85.
    noise_nk = np.sqrt(1 / 4) * score_nk[:, 3:]
    wider = [*(score_nk[:, [1]] + noise_nk[:, [k]] for k in range(3)), score_nk[:, [1]]]
    alone = consensus(latents, loadings, np.ones(G))
    beside = consensus(latents, loadings, np.ones(G), wider)
    assert alone.score_nk.shape[1] == 2 and beside.score_nk.shape[1] == 1
    assert abs(np.corrcoef(beside.score_nk[:, 0], score_nk[:, 0])[0, 1]) > 0.99


def test_a_score_is_in_units_of_the_latents_prior(truth):
    """A weak direction stays weak: its latents vary little, and a unit of them does as much."""
    score_nk, loading_kg = truth
    latents = [0.3 * score_nk[:, [0]], -0.5 * score_nk[:, [0]]]
    found = consensus(latents, [loading_kg[[0]] / 0.3, -loading_kg[[0]] / 0.5], np.ones(G))
    np.testing.assert_allclose(found.score_nk.std(), 0.4, rtol=1e-6)
    np.testing.assert_allclose(
        np.abs(found.score_nk @ found.loading_kg), np.abs(score_nk[:, [0]] @ loading_kg[[0]]),
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip


def test_empty_latents_agree_on_nothing(truth):
    closed = [np.zeros((N, 3))] * 3
    found = consensus(closed, [np.zeros((3, G))] * 3, np.ones(G))
    assert found.score_nk.shape == (N, 0)
    score_nk, loading_kg = truth
    latents = [score_nk[:, :1], *(x[:, :1] for x in closed[:2])]
    one = consensus(latents, [loading_kg[:1]] * 3, np.ones(G))
    assert one.score_nk.shape == (N, 0)
