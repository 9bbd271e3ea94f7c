"""What trains a program, for a Pyro user's own loop."""

import numpy as np
import pyro
import pytest
import torch
from helpers.fitting import fitted, same, untrained
from pyro.infer import SVI

from pyro_mgvi import TrainingPlan

PLAN = TrainingPlan(max_epochs=3, batch_size=32, validation_fraction=0.0, prune_below=0.0)


def test_a_loop_of_one_s_own_repeats_fit(adata):
    """With the same steps and the same random numbers, the weights are those of ``fit``."""
    mgvi = untrained(adata)
    setup = mgvi.training_setup(adata, PLAN)
    weights = [*setup.model.parameters(), *setup.guide.parameters()]
    adam = torch.optim.Adam(weights, lr=setup.plan.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, setup.plan.step_size)
    with pyro.settings.context(module_local_params=True):
        for epoch in range(setup.plan.max_epochs):
            assert not setup.begin_epoch(epoch)  # too short for a search
            setup.train()
            for batch in setup.minibatches(epoch):
                adam.zero_grad()
                loss = setup.elbo.differentiable_loss(setup.model, setup.guide, *batch)
                (loss / len(setup.data)).backward()
                adam.step()
            schedule.step()
    setup.finish()
    theirs = fitted(adata, plan=PLAN)
    assert list(theirs.history["kept"]) == [False, False, True]
    assert same(mgvi.latents(adata), theirs.latents(adata))


def test_svi_with_the_setup(adata):
    mgvi = untrained(adata)
    before = mgvi.latents(adata)
    setup = mgvi.training_setup(adata, PLAN)
    assert setup.model.training and setup.guide.training
    svi = SVI(setup.model, setup.guide, pyro.optim.Adam({"lr": 4e-3}), loss=setup.elbo)
    losses = []
    for epoch in range(setup.plan.max_epochs):
        setup.begin_epoch(epoch)
        losses.append(np.mean([svi.step(*batch) for batch in setup.minibatches(epoch)]))
    assert losses[-1] < losses[0]
    setup.finish()
    assert not setup.model.training and not setup.guide.training
    assert not same(mgvi.latents(adata), before)


def test_the_plan_says_which_cells_are_held_out(adata):
    mgvi = untrained(adata)
    setup = mgvi.training_setup(adata, TrainingPlan(max_epochs=1, validation_fraction=0.25))
    assert len(setup.data) + len(setup.validation) == adata.n_obs
    assert np.bincount(setup.validation.group_n).tolist() == [
        round(0.25 * n) for n in np.bincount(mgvi.read(adata).group_n)
    ]
    assert mgvi.training_setup(adata, PLAN).validation is None
    assert setup.elbo.own_weight == pytest.approx(mgvi.own_weight)


def test_minibatches_of_an_epoch_repeat(adata):
    setup = untrained(adata).training_setup(adata, PLAN)

    def order(epoch):
        return torch.cat([batch.index for batch in setup.minibatches(epoch)])

    assert torch.equal(order(0), order(0))
    assert not torch.equal(order(0), order(1))
    assert torch.equal(order(0).sort().values, torch.arange(adata.n_obs))
