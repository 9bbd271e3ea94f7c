"""CPVAE's decoder against its equation, written out by hand."""

import numpy as np
import pytest
import torch
from helpers.by_hand import scipy_log_prob
from helpers.models import moved_decoder
from pyro import poutine
from scipy.special import expit, softmax

import pyro_mgvi
from pyro_mgvi import (
    MGVI,
    AdditiveDecoder,
    SettingsError,
    WassersteinTraceELBO,
    private,
    shared,
)


def test_cpvae_s_likelihood_is_its_equation(adata):
    """rho = (softmax(f_s(z)) + softmax(f_g(t))) / 2, gate logits added, own copy only."""
    mgvi, batch = moved_decoder(adata, AdditiveDecoder)
    torch.manual_seed(3)
    trace = poutine.trace(mgvi.guide).get_trace(*batch)
    z, t, library = (trace.nodes[k]["value"].detach().numpy() for k in ("z", "t", "library"))
    w = {k: v.detach().numpy() for k, v in mgvi.model.decoder.state_dict().items()}
    rho, gate = [], []
    for n, g in enumerate(batch.group.numpy()):
        h = np.maximum(w["shared.trunk.weight"] @ z[n] + w["shared.trunk.bias"], 0)
        eta, nu = (w[f"shared.heads.{i}.weight"] @ h + w[f"shared.heads.{i}.bias"] for i in (0, 1))
        own = w["private.t.trunk.weight"][g], w["private.t.trunk.bias"][g, 0]
        h = np.maximum(t[g, n] @ own[0] + own[1], 0)
        heads = (w[f"private.t.heads.{i}.weight"] for i in (0, 1))
        eta_t, nu_t = (
            head[:, 128 * g : 128 * (g + 1)] @ h + head[:, 3 * 128 + g] for head in heads
        )
        rho.append((softmax(eta) + softmax(eta_t)) / 2)
        gate.append(expit(nu + nu_t))
    theta = np.exp(mgvi.model.likelihood.log_theta.detach().numpy())
    mean = np.array(rho) * library[:, None]
    expected = -scipy_log_prob(batch.counts.numpy(), mean, theta, np.array(gate)).sum()
    torch.manual_seed(3)
    terms = WassersteinTraceELBO().terms(mgvi.model, mgvi.guide, *batch)
    assert terms["counts"].item() == pytest.approx(expected, rel=1e-5)


def test_additive_cells_without_a_private_copy_have_the_shared_simplex_alone(adata):
    latents = (shared(3), pyro_mgvi.subsets("salient", [["group1"]], 2))
    mgvi, batch = moved_decoder(adata, AdditiveDecoder, latents)
    values = {"z": torch.randn(1, 120, 3), "salient": torch.randn(1, 120, 2)}
    parts = mgvi.model.decode(values, batch.group)
    rho = mgvi.model.likelihood.expression(parts)
    alone = parts[0][0].softmax(-1)
    outside = batch.group != 0
    torch.testing.assert_close(rho[outside], alone[outside])
    assert not torch.allclose(rho[~outside], alone[~outside])
    with pytest.raises(SettingsError, match="all groups own"):
        MGVI.from_anndata(adata, "group", latents=(private(2),), decoder=AdditiveDecoder)
