"""Decoders against their equations, written out by hand."""

import numpy as np
import pytest
import torch
from pyro import poutine
from scipy.special import expit, gammaln, softmax
from test_likelihoods import scipy_log_prob

import pyro_mgvi
from pyro_mgvi import (
    MGVI,
    AdditiveDecoder,
    BasisDecoder,
    LogLinearDecoder,
    SettingsError,
    WassersteinTraceELBO,
    private,
    shared,
)

LATENTS = (shared(3), private(2))


def build(adata, decoder, latents=LATENTS, noise=0.05):
    mgvi = MGVI.from_anndata(adata, "group", latents=latents, decoder=decoder)
    for parameter in mgvi.model.decoder.parameters():
        parameter.data += noise * torch.randn_like(parameter)
    data = mgvi.read(adata)
    return mgvi, data.rows(np.arange(len(data)))


def test_cpvae_s_likelihood_is_its_equation(adata):
    """rho = (softmax(f_s(z)) + softmax(f_g(t))) / 2, gate logits added, own copy only."""
    mgvi, batch = build(adata, AdditiveDecoder)
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
    mgvi, batch = build(adata, AdditiveDecoder, latents)
    values = {"z": torch.randn(120, 3), "salient": torch.randn(120, 2)}
    parts = mgvi.model.decode(values, batch.group)
    rho = mgvi.model.likelihood.expression(parts)
    alone = parts[0][0].softmax(-1)
    outside = batch.group != 0
    torch.testing.assert_close(rho[outside], alone[outside])
    assert not torch.allclose(rho[~outside], alone[~outside])
    with pytest.raises(SettingsError, match="all groups own"):
        build(adata, AdditiveDecoder, (private(2),))


def test_loadings_are_the_change_of_the_log_mean_per_unit(adata):
    mgvi, batch = build(adata, LogLinearDecoder)
    values = {"z": torch.randn(120, 3), "t": torch.randn(3, 120, 2)}
    mine = batch.group == 1
    for key, place in (("z", ("z", (slice(None), 0))), ("t_group2", ("t", (1, slice(None), 0)))):
        moved = {k: v.clone() for k, v in values.items()}
        moved[place[0]][place[1]] += 1
        before, after = (mgvi.model.decode(v, batch.group)[0][0] for v in (values, moved))
        slope = (after - before)[mine].mean(0).detach()
        np.testing.assert_allclose(mgvi.loadings(key)[f"{key}_1"], slope, atol=1e-5)
    copy = adata[:, ::-1].copy()
    table = mgvi.loadings("t", copy)
    assert table.shape == (60, 6) and list(table.index) == list(adata.var_names)
    np.testing.assert_array_equal(copy.varm["X_mgvi_t_group3"], table.iloc[::-1, 4:])
    with pytest.raises(SettingsError, match="unknown latent 'u'"):
        mgvi.loadings("u")
    with pytest.raises(SettingsError, match="no readable loadings"):
        build(adata, AdditiveDecoder)[0].loadings("z")


def test_the_programs_prior_is_the_collapsed_dirichlet(adata):
    """For certain assignments: the Dirichlet-multinomial probability of the labels."""
    mgvi, batch = build(adata, BasisDecoder)
    decoder = mgvi.model.decoder
    labels = np.arange(60) % 3
    decoder.logits.data = 200.0 * torch.eye(20)[labels]
    a = np.full(20, 0.5)
    sizes = np.bincount(labels, minlength=20)
    expected = gammaln(10.0) - gammaln(70.0) + (gammaln(a + sizes) - gammaln(a)).sum()
    assert decoder.log_prior().item() == pytest.approx(expected, rel=1e-5)
    terms = WassersteinTraceELBO().terms(mgvi.model, mgvi.guide, *batch)
    assert terms["decoder_prior"].item() == pytest.approx(-expected, rel=1e-5)
    table = mgvi.gene_programs()
    assert list(table.columns) == ["gene", "cluster", "probability"]
    np.testing.assert_array_equal(table["cluster"], labels)
    np.testing.assert_allclose(table["probability"], 1)
    with pytest.raises(SettingsError, match="no gene programs"):
        build(adata, LogLinearDecoder)[0].gene_programs()
