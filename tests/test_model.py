"""Model and guide as a Pyro user would use them."""

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive

import pyro_mgvi
from pyro_mgvi import MGVI, SharedTrunk, WassersteinTraceELBO, pairwise, private, shared


def parameters(mgvi):
    modules = (mgvi.model, mgvi.guide)
    return [p.detach().clone() for m in modules for p in m.parameters()]


def svi_steps(mgvi, data, optimiser, n_epochs=3, elbo=None):
    svi = SVI(mgvi.model, mgvi.guide, optimiser, loss=elbo or WassersteinTraceELBO())
    mgvi.model.train(), mgvi.guide.train()
    return [
        np.mean([svi.step(*batch) for batch in data.minibatches(40, seed=epoch)])
        for epoch in range(n_epochs)
    ]


@pytest.mark.parametrize(
    "optimiser",
    [
        lambda: pyro.optim.Adam({"lr": 5e-3}),
        lambda: pyro.optim.ClippedAdam({"lr": 5e-3}),
        lambda: pyro.optim.PyroOptim(torch.optim.RMSprop, {"lr": 1e-3}),
    ],
    ids=["adam", "clipped", "torch"],
)
def test_svi_trains_with_pyro_and_torch_optimisers(mgvi, adata, optimiser):
    losses = svi_steps(mgvi, mgvi.read(adata), optimiser())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("vectorised", [False, True])
def test_svi_with_particles(mgvi, adata, vectorised):
    elbo = WassersteinTraceELBO(num_particles=3, vectorize_particles=vectorised)
    losses = svi_steps(mgvi, mgvi.read(adata), pyro.optim.Adam({"lr": 5e-3}), elbo=elbo)
    assert losses[-1] < losses[0]


def test_elbo_module_with_a_torch_optimiser(mgvi, adata):
    data = mgvi.read(adata)
    with pyro.settings.context(module_local_params=True):
        elbo = WassersteinTraceELBO()(mgvi.model, mgvi.guide)
        adam = torch.optim.Adam(elbo.parameters(), lr=5e-3)
        losses = []
        for epoch in range(3):
            for batch in data.minibatches(40, seed=epoch):
                adam.zero_grad()
                loss = elbo(*batch)
                loss.backward()
                adam.step()
                losses.append(loss.item())
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert len(pyro.get_param_store()) == 0


def test_two_models_in_one_process_both_train(adata):
    for _ in range(2):
        mgvi = MGVI.from_anndata(adata, "group", latents=(shared(3), private(2)))
        before = parameters(mgvi)
        losses = svi_steps(mgvi, mgvi.read(adata), pyro.optim.Adam({"lr": 5e-3}))
        moved = [not torch.equal(a, b) for a, b in zip(before, parameters(mgvi), strict=True)]
        assert all(moved) and losses[-1] < losses[0]


def test_every_site_of_the_guide_is_in_the_model_with_the_plates_of_the_paper(mgvi, batch):
    trace = poutine.trace(mgvi.model).get_trace(*batch)
    trace.compute_log_prob()
    assert {"z", "t", "library", "counts", "cells", "t_copies"} <= set(trace.nodes)
    assert trace.nodes["t"]["value"].shape == (3, 120, 2)
    assert [frame.name for frame in trace.nodes["t"]["cond_indep_stack"]] == ["cells", "t_copies"]
    assert trace.nodes["counts"]["log_prob"].shape == (120,)


def test_prior_predictive_draws_foreign_copies_at_zero_and_integral_counts(mgvi, batch):
    for parallel in (False, True):
        draws = Predictive(mgvi.model, num_samples=4, parallel=parallel)(None, *batch[1:])
        t = draws["t"].reshape(4, 3, 120, 2)
        member = batch.group == torch.arange(3)[:, None]
        assert (t[:, ~member] == 0).all() and (t[:, member] != 0).all()
        counts = draws["counts"].reshape(4, 120, 60)
        assert (counts == counts.round()).all() and (counts >= 0).all()


def test_posterior_predictive(mgvi, batch):
    model = poutine.uncondition(mgvi.model)
    draws = Predictive(model, guide=mgvi.guide, num_samples=5)(*batch)
    assert draws["counts"].reshape(5, 120, 60).shape == (5, 120, 60)
    # The library is nearly observed, so drawn depths follow the real ones.
    depth = draws["counts"].reshape(5, 120, 60).sum(-1).mean(0)
    assert np.corrcoef(depth, batch.counts.sum(-1))[0, 1] > 0.8


def test_condition_and_block(mgvi, batch):
    z = torch.zeros(120, 3)
    conditioned = poutine.condition(mgvi.model, data={"z": z})
    guide = poutine.block(mgvi.guide, hide=["z"])
    trace = poutine.trace(conditioned).get_trace(*batch)
    assert trace.nodes["z"]["is_observed"]
    terms = WassersteinTraceELBO().terms(conditioned, guide, *batch)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum()
    torch.testing.assert_close(terms["z"], -prior)


def test_render_model_draws_the_plate_diagram(mgvi, batch):
    graph = pyro.render_model(mgvi.model, model_args=tuple(batch))
    for name in ("cells", "t_copies", "library", "counts", "z", "t"):
        assert name in graph.source


def test_the_decoder_sees_zeros_for_foreign_copies(mgvi, batch):
    values = {"z": torch.randn(120, 3), "t": torch.randn(3, 120, 2)}
    ours = mgvi.model.decode(values, batch.group)[0][0]
    member = batch.group == torch.arange(3)[:, None]
    noise = values["t"] + torch.randn(3, 120, 2) * ~member[..., None]
    torch.testing.assert_close(mgvi.model.decode(values | {"t": noise}, batch.group)[0][0], ours)


def test_fused_encoders_equal_separate_networks_with_copied_weights(mgvi, batch):
    fused = mgvi.guide.encoder.eval()
    x = torch.randn(7, 60)
    posteriors = fused(x)
    names = [("z", 0), *(("t", s) for s in range(3))]
    for i, (name, copy) in enumerate(names):
        first = torch.nn.Linear(60, 128)
        norm = torch.nn.LayerNorm(128)
        head = fused.heads[name]
        with torch.no_grad():
            first.weight.copy_(fused.first.weight[i].T), first.bias.copy_(fused.first.bias[i, 0])
            norm.weight.copy_(fused.gain[i, 0]), norm.bias.copy_(fused.shift[i, 0])
            hidden = torch.relu(norm(first(x)))
            loc, raw = (hidden @ head.weight[copy] + head.bias[copy]).chunk(2, -1)
            scale = torch.nn.functional.softplus(raw + 0.5) + 1e-4
        theirs = [v if name == "z" else v[copy] for v in posteriors[name]]
        torch.testing.assert_close(theirs[0], loc, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(theirs[1], scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoder", [pyro_mgvi.SeparateEncoders, SharedTrunk])
def test_a_variant_is_one_more_element_of_a_tuple(adata, encoder):
    latents = (shared(3), private(2), pairwise(2), pyro_mgvi.subsets("one", [["group1"]], 2))
    mgvi = MGVI.from_anndata(adata, "group", latents=latents, encoder=encoder)
    losses = svi_steps(mgvi, mgvi.read(adata), pyro.optim.Adam({"lr": 5e-3}))
    assert losses[-1] < losses[0]
    assert mgvi.latents(adata)["pair_group1+group3"].shape == (120, 2)
    assert np.isnan(mgvi.latents(adata)["one"]).any(1).sum() == (adata.obs.group != "group1").sum()


def test_an_observed_library_is_no_latent(adata):
    mgvi = MGVI.from_anndata(adata, "group", observed_library=True)
    batch = mgvi.read(adata).rows(np.arange(120))
    trace = poutine.trace(mgvi.guide).get_trace(*batch)
    assert "library" not in trace.nodes
    losses = svi_steps(mgvi, mgvi.read(adata), pyro.optim.Adam({"lr": 5e-3}))
    assert losses[-1] < losses[0]
