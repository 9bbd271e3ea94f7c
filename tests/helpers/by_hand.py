"""Parts of the objective written out by hand, in NumPy and scipy, for the guide's own draws."""

import numpy as np
import pytest
import torch
from pyro import poutine
from scipy import stats

from pyro_mgvi import WassersteinTraceELBO

SEED = 3


def scipy_log_prob(x, mean, theta, gate=None):
    """Per gene, by scipy: an independent formula."""
    log_nb = stats.nbinom.logpmf(x, theta, theta / (theta + mean))
    if gate is None:
        return log_nb
    return np.where(x == 0, np.log(gate + (1 - gate) * np.exp(log_nb)), np.log1p(-gate) + log_nb)


def away_from_start(mgvi):
    """Move all weights: at the near-zero start many terms are equal whatever the formula."""
    for module in (mgvi.guide.encoder, mgvi.model.decoder):
        for parameter in module.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)


def guide_draws(mgvi, batch):
    """Return the guide's draw of each site, and location and scale of its posterior."""
    torch.manual_seed(SEED)
    trace = poutine.trace(mgvi.guide).get_trace(*batch)
    draws, moments = {}, {}
    for name in (*(latent.name for latent in mgvi.model.latents), "library"):
        site = trace.nodes[name]
        normal = site["fn"].base_dist  # of the log, for the log-normal library
        draws[name] = site["value"].detach().numpy()
        moments[name] = normal.loc.detach().numpy(), normal.scale.detach().numpy()
    return draws, moments


def decoder_weights(mgvi):
    return {k: v.detach().numpy() for k, v in mgvi.model.decoder.state_dict().items()}


def hidden_layer(weights, inputs):
    """Return what the hidden layer says about the log mean, and the drop-out gate."""
    hidden = np.maximum(inputs @ weights["trunk.weight"].T + weights["trunk.bias"], 0)
    eta = hidden @ weights["heads.0.weight"].T + weights["heads.0.bias"]
    gate = 1 / (1 + np.exp(-(hidden @ weights["heads.1.weight"].T + weights["heads.1.bias"])))
    return eta, gate


def zinb_log_prob(mgvi, batch, eta, gate, library):
    """Return the log-probability of all counts."""
    rho = np.exp(eta) / np.exp(eta).sum(1, keepdims=True)
    theta = np.exp(mgvi.model.likelihood.log_theta.detach().numpy())
    return scipy_log_prob(batch.counts.numpy(), rho * library[:, None], theta, gate).sum()


def kl_to_standard_normal(loc, scale):
    return (0.5 * (loc**2 + scale**2 - 1) - np.log(scale)).sum(-1)


def squared_wasserstein_to_zero(loc, scale):
    return (loc**2 + scale**2).sum(-1)


def kl_of_library(loc, scale, m, s):
    """KL of two log-normals, that of the normals of their logs."""
    return np.log(s / scale) + (scale**2 + (loc - m) ** 2) / (2 * s**2) - 0.5


def assert_terms_equal(mgvi, batch, expected):
    torch.manual_seed(SEED)
    terms = WassersteinTraceELBO().terms(mgvi.model, mgvi.guide, *batch)
    assert terms.keys() == expected.keys()
    for site, value in terms.items():
        assert value.item() == pytest.approx(expected[site], rel=1e-4), site
    torch.manual_seed(SEED)
    loss = WassersteinTraceELBO().loss(mgvi.model, mgvi.guide, *batch)
    assert loss == pytest.approx(sum(expected.values()), rel=1e-5)
