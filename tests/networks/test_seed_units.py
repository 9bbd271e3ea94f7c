"""Hidden units that start as a given score: the regression behind them, and what they read."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import layer_norm, relu

from pyro_mgvi.core import DimensionStart, EncoderInput
from pyro_mgvi.networks.seed_units import RAW_SCALE, SeedableNetwork, ridge


def test_ridge_is_least_squares_but_for_its_penalty():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4))
    y = x @ [1.0, -2.0, 0.5, 0.0] + 3.0
    slope, intercept = ridge(torch.tensor(x), torch.tensor(y))
    centred = x - x.mean(0)
    gram = centred.T @ centred
    truth = np.linalg.solve(gram + 0.01 * np.diag(gram).mean() * np.eye(4), centred.T @ y)
    np.testing.assert_allclose(slope, truth, rtol=1e-6)
    assert float(intercept) == pytest.approx(y.mean() - x.mean(0) @ truth)


def test_a_seeded_output_follows_the_score_and_the_other_units_stay():
    n, n_genes, hidden, dims = 400, 30, 64, 3
    first = nn.Linear(n_genes, hidden)
    network = SeedableNetwork(
        first.weight.detach().T.clone(),
        first.bias.detach().clone(),
        torch.ones(hidden),
        torch.zeros(hidden),
        0.2 * torch.randn(hidden, 2 * dims),
        torch.zeros(2 * dims),
        torch.arange(hidden).flip(0).float(),  # the last two matter least
    )
    before = [view.clone() for view in network]
    score_n, x_ng = torch.randn(n), torch.randn(n, n_genes)
    x_ng[:, :6] += 1.5 * score_n[:, None]
    loading_g = torch.where(torch.arange(n_genes) < 6, 0.5, 0.0)
    location, scale = 1, dims + 1
    network.seed(location, scale, DimensionStart(loading_g, EncoderInput(x_ng), score_n))

    h = x_ng @ network.first_gh + network.bias_h
    h = relu(layer_norm(h, (hidden,)) * network.gain_h + network.shift_h)
    raw = h @ network.head_hd + network.head_bias_d
    assert torch.corrcoef(torch.stack([raw[:, location], score_n]))[0, 1] > 0.9
    assert (raw[:, scale] == RAW_SCALE).all()
    assert not network.first_gh[6:, -2:].any()  # genes that do not follow are not read
    assert torch.equal(network.first_gh[:, :-2], before[0][:, :-2])
    assert torch.equal(network.bias_h[:-2], before[1][:-2])
    others = [d for d in range(2 * dims) if d not in (location, scale)]
    assert torch.equal(network.head_hd[:, others], before[4][:, others])
    assert torch.equal(network.head_bias_d[others], before[5][others])
