"""Directions are found in one half of the cells, and tested in the other."""

import numpy as np
import torch

from pyro_mgvi import SearchSettings
from pyro_mgvi.analysis.discovery.candidates import candidates, without_directions
from pyro_mgvi.training.search.residuals import Residuals

OWNERS = ((0,), (0, 1), (1, 2, 3), (0, 1, 2, 3))
GENES = 12  # of each program


def groups(seed, n=600, n_genes=80, owners=OWNERS, sd=1.0):
    rng = np.random.default_rng(seed)
    found = []
    for b in range(4):
        r_ng = rng.normal(size=(n, n_genes))
        for i, each in enumerate(owners):
            if b in each:
                r_ng[:, GENES * i : GENES * (i + 1)] += sd * rng.normal(size=(n, 1))
        r_ng = torch.from_numpy(r_ng - r_ng.mean(0)).float()
        found.append(Residuals(r_ng, torch.ones(n_genes), np.arange(n) + b * n))
    return found


def test_each_planted_program_is_found_once_and_in_its_groups():
    found = candidates(groups(0), SearchSettings(), seed=0)
    said = {
        tuple(np.flatnonzero(each.loading_g)): tuple(np.flatnonzero(each.unseen.z_varies(4.0) > 3))
        for each in found
        if (each.unseen.z_varies(4.0) > 3).any()
    }
    planted = {tuple(range(GENES * i, GENES * (i + 1))): each for i, each in enumerate(OWNERS)}
    assert said == planted


def test_scores_are_in_the_order_of_the_cells():
    cells = groups(1)
    for each in candidates(cells, SearchSettings(), seed=3)[:2]:
        for group, score_n in zip(cells, each.scores):
            again_n = group.r_ng @ each.loading_g
            assert np.corrcoef(score_n, again_n)[0, 1] > 0.99


def test_a_program_hidden_by_one_that_all_groups_share_is_found_after_it():
    rng = np.random.default_rng(4)
    cells = []
    for b in range(4):
        r_ng = rng.normal(size=(800, 60))
        r_ng[:, :20] += 1.5 * rng.normal(size=(800, 1))  # of all groups
        if b == 0:
            r_ng[:, :20] += rng.normal(size=(800, 1)) * np.where(np.arange(20) % 2, 1, -1)
        cells.append(Residuals(torch.from_numpy(r_ng).float(), torch.ones(60), np.arange(800)))
    found = candidates(cells, SearchSettings(), seed=0)
    varies = [tuple(np.flatnonzero(each.unseen.z_varies(4.0) > 3)) for each in found]
    assert (0, 1, 2, 3) in varies and (0,) in varies


def test_nothing_follows_a_score_that_was_removed():
    group = groups(5)[0]
    loading_g = torch.zeros(80)
    loading_g[:GENES] = 1.0
    left = without_directions(group, [loading_g])
    assert float((left.r_ng @ loading_g).abs().max()) < 1e-3
    torch.testing.assert_close(
        left.r_ng[:, 70:].std(0), group.r_ng[:, 70:].std(0), rtol=0.02, atol=0
    )


def test_noise_has_no_program():
    for seed in range(3):
        found = candidates(groups(seed, owners=()), SearchSettings(), seed)
        assert not any((each.unseen.z_varies(4.0) > 3).any() for each in found)
