"""The benchmark's methods: one interface, and each the objective that it is named after."""

import warnings
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from helpers import by_hand
from scipy.special import expit, softmax

from pyro_mgvi import (
    MGVI,
    PAPER,
    ComponentWarning,
    GroupedCounts,
    SettingsError,
    WassersteinTraceELBO,
)
from pyro_mgvi.baselines import METHODS, Decomposed, Separate, method
from pyro_mgvi.baselines.registry import MORE
from pyro_mgvi.datasets import clear_recipe

GROUPS = ("group1", "group2", "group3")


@pytest.fixture(scope="module")
def counts():
    adata = clear_recipe(1, n_cells=90, n_shared_genes=40, n_program_genes=15, groups=3)
    return GroupedCounts.from_anndata(adata, "group")


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_one_interface(name, counts):
    state = torch.get_rng_state()
    latents = method(name).fit(counts, 0, max_epochs=1)
    assert torch.equal(state, torch.get_rng_state())
    assert latents.keys() == {"z", "t"}
    assert len(latents["z"]) == 90 and np.isfinite(latents["z"]).all()
    expected = {"scVI": (), "contrastiveVI": ("group2+group3",)}.get(name, GROUPS)
    assert tuple(latents["t"]) == expected
    for key, t in latents["t"].items():
        owners = np.isin(np.array(GROUPS)[counts.group_n], key.split("+"))
        assert (np.isfinite(t).all(1) == owners).all() and np.isnan(t[~owners]).all()
    again = method(name).train(counts, 0, max_epochs=1)
    np.testing.assert_array_equal(again.means["z"], latents["z"])
    has_posterior = not isinstance(method(name), Decomposed | Separate)
    assert (np.abs(again.draws["z"] - latents["z"]).max() > 0.01) == has_posterior
    other = method(name).fit(counts, 1, max_epochs=1)
    assert np.abs(other["z"] - latents["z"]).max() > 1e-6


def test_scvi_tools_has_the_interface(counts):
    pytest.importorskip("scvi", reason="needs the extra benchmark")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        latents = MORE["scVI (scvi-tools)"].fit(counts, 0, max_epochs=1)
    assert latents["z"].shape == (90, 10) and latents["t"] == {}


def own_terms(mgvi, batch, moments, foreign):
    """Write out the divergences: own copies', and what each scheme adds for foreign ones."""
    own = batch.group.numpy() == np.arange(3)[:, None]
    kl = by_hand.kl_to_standard_normal(*moments["t"])
    p = mgvi.model.library_prior(None, len(batch.group))
    kl_library = by_hand.kl_of_library(*moments["library"], p.loc.numpy(), p.scale.numpy())
    return {
        "z": by_hand.kl_to_standard_normal(*moments["z"]).sum(),
        "library": kl_library.sum(),
        "t own": kl[own].sum(),
        "t foreign": foreign(*moments["t"])[~own].sum(),
    }


def joint(mgvi, batch, draws):
    """Equation 3: one hidden layer of z and all copies, foreign ones zero."""
    own = batch.group.numpy() == np.arange(3)[:, None]
    inputs = np.concatenate([draws["z"], *(draws["t"] * own[..., None])], axis=1)
    eta, gate = by_hand.hidden_layer(by_hand.decoder_weights(mgvi), inputs)
    return softmax(eta, axis=1), gate


def additive(mgvi, batch, draws):
    """Equations 16 and 17, halved: the scale that the two simplexes add is the library's."""
    w = by_hand.decoder_weights(mgvi)
    rho, gate = [], []
    for n, g in enumerate(batch.group.numpy()):
        h = np.maximum(w["shared.trunk.weight"] @ draws["z"][n] + w["shared.trunk.bias"], 0)
        eta, nu = (w[f"shared.heads.{i}.weight"] @ h + w[f"shared.heads.{i}.bias"] for i in (0, 1))
        weight, bias = w["private.t.trunk.weight"][g], w["private.t.trunk.bias"][g, 0]
        h = np.maximum(draws["t"][g, n] @ weight + bias, 0)
        heads = (w[f"private.t.heads.{i}.weight"] for i in (0, 1))
        eta_t, nu_t = (x[:, 128 * g : 128 * (g + 1)] @ h + x[:, 3 * 128 + g] for x in heads)
        rho.append((softmax(eta) + softmax(eta_t)) / 2)
        gate.append(expit(nu + nu_t))
    return np.array(rho), np.array(gate)


SCHEMES = {
    "MGVI": (joint, by_hand.squared_wasserstein_to_zero, 1.0),  # equation 11
    "MGVI Davison": (joint, by_hand.kl_to_standard_normal, 1.0),  # 7 and 18
    "MGVI no reg.": (joint, lambda loc, scale: 0.0 * loc.sum(-1), 1.0),  # equation 7
    "CPVAE Wass.": (additive, by_hand.squared_wasserstein_to_zero, 1.0),
    "CPVAE Davison": (additive, by_hand.kl_to_standard_normal, 1.0),
    "CPVAE no reg.": (additive, lambda loc, scale: 0.0 * loc.sum(-1), 1.0),
    "CPVAE original": (additive, by_hand.kl_to_standard_normal, 0.0),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_objective_is_its_equation_written_out_by_hand(name, counts):
    decode, foreign, own_weight = SCHEMES[name]
    warned = pytest.warns(ComponentWarning, match="AdditiveDecoder")
    with warned if decode is additive else nullcontext():
        mgvi = MGVI.from_counts(counts, **method(name).settings)
    by_hand.away_from_start(mgvi)
    batch = counts.rows(np.arange(len(counts)))
    draws, moments = by_hand.guide_draws(mgvi, batch)
    rho, gate = decode(mgvi, batch, draws)
    theta = np.exp(mgvi.model.likelihood.log_theta.detach().numpy())
    mean = rho * draws["library"][:, None]
    parts = own_terms(mgvi, batch, moments, foreign)
    expected = {
        "z": parts["z"],
        "library": parts["library"],
        "t": own_weight * parts["t own"] + parts["t foreign"],
        "counts": -by_hand.scipy_log_prob(batch.counts.numpy(), mean, theta, gate).sum(),
    }
    torch.manual_seed(by_hand.SEED)
    elbo = WassersteinTraceELBO(own_weight=mgvi.own_weight)  # as fit() makes it
    terms = elbo.terms(mgvi.model, mgvi.guide, *batch)
    assert terms.keys() == expected.keys()
    for site, value in expected.items():
        assert terms[site].item() == pytest.approx(value, rel=1e-4), site


def test_the_paper_s_preset_switches_our_additions_off(adata):
    mgvi = MGVI.from_anndata(adata, "group", **PAPER.settings)
    decoder = mgvi.model.decoder
    assert decoder.offset is None and decoder.response is None and decoder.linear is None
    assert set(mgvi.own_weight.values()) == {1.0}
    mgvi.fit(adata, replace(PAPER.plan, max_epochs=2), progress=False)
    assert "validation" not in mgvi.history and mgvi.model.active["z"].all()
    assert MGVI.from_anndata(adata, "group").model.decoder.offset is not None


def test_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(SettingsError, match=r"'magic'.*CPVAE original.*scvi-tools"):
        method("magic")


def test_methods_are_configurations():
    """No decoder but the package's own, and no two methods alike."""
    decoders = {
        getattr(d, "func", d).__module__
        for d in (m.settings.get("decoder") for m in METHODS.values() if hasattr(m, "settings"))
        if isinstance(d, type | partial)
    }
    assert decoders == {"pyro_mgvi.networks.joint_decoder", "pyro_mgvi.networks.additive_decoder"}
    values = list(METHODS.values())
    assert all(a != b for i, a in enumerate(values) for b in values[:i])
