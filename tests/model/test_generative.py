"""Model and guide as a Pyro user would use them."""

from copy import deepcopy

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from helpers import by_hand
from helpers.svi import parameters, svi_steps
from pyro import poutine
from pyro.infer import Predictive
from pyro.nn import PyroModule

from pyro_mgvi import (
    MGVI,
    SeparateEncoders,
    SettingsError,
    SharedTrunk,
    WassersteinTraceELBO,
    pairwise,
    private,
    shared,
    subsets,
)


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


@pytest.mark.parametrize(
    "latents",
    [
        (shared(3),),
        (shared(3), subsets("salient", [["group2"]], 2)),
        (shared(3), private(2), subsets("salient", [["group2"]], 2)),
    ],
    ids=["shared", "one copy each", "several copies"],
)
def test_vectorised_particles_are_those_of_the_loop(adata, latents):
    """With or without a plate of copies, beside which particles would sit."""
    mgvi = MGVI.from_anndata(adata, "group", latents=latents)
    batch = mgvi.read(adata).rows(np.arange(30))
    by_hand.away_from_start(mgvi)
    losses = [
        WassersteinTraceELBO(num_particles=100, vectorize_particles=vectorised).loss(
            mgvi.model, mgvi.guide, *batch
        )
        for vectorised in (False, True)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)  # noise of the draws
    drawn = Predictive(mgvi.model, guide=mgvi.guide, num_samples=4, parallel=True)(*batch)
    assert all(value.isfinite().all() for value in drawn.values())
    assert drawn["z"].squeeze().shape == (4, 30, 3)


def test_a_part_of_a_larger_module_is_fitted_as_before(mgvi, adata):
    class Larger(PyroModule):
        def __init__(self, base):
            super().__init__()
            self.base = base

    alone = deepcopy(mgvi)
    whole = Larger(mgvi.model)
    for each in (alone, mgvi):
        each.fit(adata, max_epochs=2, progress=False)
    for ours, same in zip(parameters(mgvi), parameters(alone), strict=True):
        assert torch.equal(ours, same)
    assert whole.base is mgvi.model


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
    values = {"z": torch.randn(1, 120, 3), "t": torch.randn(3, 120, 2)}
    ours = mgvi.model.decode(values, batch.group)[0][0]
    member = batch.group == torch.arange(3)[:, None]
    noise = values["t"] + torch.randn(3, 120, 2) * ~member[..., None]
    torch.testing.assert_close(mgvi.model.decode(values | {"t": noise}, batch.group)[0][0], ours)


@pytest.mark.parametrize("encoder", [SeparateEncoders, SharedTrunk])
def test_a_variant_is_one_more_element_of_a_tuple(adata, encoder):
    latents = (shared(3), private(2), pairwise(2), subsets("one", [["group1"]], 2))
    mgvi = MGVI.from_anndata(adata, "group", latents=latents, encoder=encoder)
    losses = svi_steps(mgvi, mgvi.read(adata), pyro.optim.Adam({"lr": 5e-3}))
    assert losses[-1] < losses[0]
    latents = mgvi.latents(adata)
    assert latents["pair_group1+group3"].shape == (120, 2)
    assert latents["one"].isna().any(axis=1).sum() == (adata.obs.group != "group1").sum()


def test_an_observed_library_is_no_latent(adata):
    mgvi = MGVI.from_anndata(adata, "group", observed_library=True)
    batch = mgvi.read(adata).rows(np.arange(120))
    trace = poutine.trace(mgvi.guide).get_trace(*batch)
    assert "library" not in trace.nodes
    library = poutine.trace(mgvi.model).get_trace(*batch).nodes["library"]
    assert library["is_observed"]
    torch.testing.assert_close(library["value"], batch.counts.sum(-1))
    losses = svi_steps(mgvi, mgvi.read(adata), pyro.optim.Adam({"lr": 5e-3}))
    assert losses[-1] < losses[0]


def test_the_library_of_a_cell_has_the_prior_of_its_batch(adata):
    cells = adata.copy()
    cells.obs["donor"] = np.where(np.arange(cells.n_obs) % 2, "deep", "shallow")
    counts = cells.X.toarray()
    counts[1::2] *= 3
    cells.X = counts
    mgvi = MGVI.from_anndata(cells, "group", batch_key="donor")
    batch = next(mgvi.read(cells).minibatches(60, seed=0))
    library = poutine.trace(mgvi.model).get_trace(*batch).nodes["library"]["fn"]
    deep_n = mgvi.schema.batches.index("deep")
    log_totals = np.log(counts.sum(1))
    for code, rows in ((deep_n, slice(1, None, 2)), (1 - deep_n, slice(0, None, 2))):
        loc_n = library.base_dist.loc[batch.batch == code]
        np.testing.assert_allclose(loc_n, log_totals[rows].mean(), rtol=1e-3)


def test_owners_may_have_a_prior_of_their_own(adata):
    latents = (shared(3, prior=dist.StudentT(5.0)), private(2, prior=dist.Laplace(0.0, 2.0)))
    mgvi = MGVI.from_anndata(adata, "group", latents=latents)
    batch = mgvi.read(adata).rows(np.arange(120))
    trace = poutine.trace(mgvi.model).get_trace(*batch)
    trace.compute_log_prob()
    z, t = trace.nodes["z"], trace.nodes["t"]
    expected = torch.distributions.StudentT(5.0).log_prob(z["value"]).sum(-1)
    torch.testing.assert_close(z["log_prob"], expected)
    member = batch.group == torch.arange(3)[:, None]
    expected = torch.distributions.Laplace(0.0, 2.0).log_prob(t["value"]).sum(-1)
    torch.testing.assert_close(t["log_prob"][member], expected[member])
    assert (t["value"][~member] == 0).all()
    losses = svi_steps(mgvi, mgvi.read(adata), pyro.optim.Adam({"lr": 5e-3}))
    assert losses[-1] < losses[0]


def test_inactive_dimensions_are_zero_for_everyone(mgvi, batch):
    inactive = torch.tensor([[False, True], [False, False], [True, True]])
    mgvi.model.active.close({"t": inactive})
    for module in (mgvi.model, mgvi.guide):  # the mask is one object
        t = poutine.trace(module).get_trace(*batch).nodes["t"]["value"]
        for copy in range(3):
            mine = batch.group == copy
            assert (t[copy][mine][:, ~inactive[copy]].abs() > 1e-4).all()
            assert (t[copy][mine][:, inactive[copy]].abs() < 1e-4).all()
    assert mgvi.guide.active is mgvi.model.active
    assert np.isfinite(WassersteinTraceELBO().loss(mgvi.model, mgvi.guide, *batch))


def test_a_minibatch_says_what_it_stands_for(mgvi, adata):
    data = mgvi.read(adata)
    part = next(data.minibatches(40, seed=0))
    assert part.n_cells == 120
    scales = {
        name: poutine.trace(module).get_trace(*part).nodes[name]["scale"]
        for module, name in ((mgvi.model, "counts"), (mgvi.guide, "t"))
    }
    assert scales == {"counts": 3.0, "t": 3.0}
    for module in (mgvi.model, mgvi.guide):
        with pytest.raises(SettingsError, match="needs n_cells"):
            poutine.trace(module).get_trace(*part._replace(n_cells=None))


def test_a_larger_program_can_go_on_from_what_was_generated(mgvi, batch):
    def larger():
        generated = mgvi.model.generate(*batch)
        with generated.cells:
            pyro.sample("more", dist.Normal(generated.latents["z"][:, 0], 1.0))
        return generated

    trace = poutine.trace(larger).get_trace()
    generated = trace.nodes["_RETURN"]["value"]
    torch.testing.assert_close(generated.counts, batch.counts)
    torch.testing.assert_close(generated.log_library, trace.nodes["library"]["value"].log())
    assert generated.latents.keys() == {"z", "t"}
    assert trace.nodes["more"]["value"].shape == (120,)
    hidden = poutine.block(larger, hide=mgvi.model.sites)
    assert {name for name, site in poutine.trace(hidden).get_trace().nodes.items()} == {
        "_INPUT",
        "more",
        "_RETURN",
    }


def test_a_copy_trains_apart_from_its_original(mgvi, adata):
    twin, before = deepcopy(mgvi), parameters(mgvi)
    assert twin.guide.active is twin.model.active and twin.guide.active is not mgvi.guide.active
    losses = svi_steps(twin, mgvi.read(adata), pyro.optim.Adam({"lr": 5e-3}))
    assert losses[-1] < losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, parameters(mgvi), strict=True))
