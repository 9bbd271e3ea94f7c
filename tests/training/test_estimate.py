"""What a training will cost: counted where it can be, and nothing of the model is touched."""

from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse

from pyro_mgvi import MGVI, TrainingPlan
from pyro_mgvi.support.memory import resident_bytes
from pyro_mgvi.training import estimate as module
from pyro_mgvi.training.clock import Clock
from pyro_mgvi.training.estimate import Estimate, expected_epochs


def test_nothing_is_trained(mgvi, adata):
    state = {k: v.clone() for k, v in mgvi.model.state_dict().items()}
    random = torch.random.get_rng_state()
    found = mgvi.estimate(adata, max_epochs=3)
    assert torch.equal(random, torch.random.get_rng_state())
    assert not mgvi.trained and mgvi.plan is None and not len(mgvi.history)
    assert not mgvi.model.training
    assert all(torch.equal(v, state[k]) for k, v in mgvi.model.state_dict().items())
    assert found.epochs == 3 and found.steps == 3 * round(0.9 * len(mgvi.read(adata)) / 128)
    assert found.seconds > 0 and resident_bytes() < found.memory < 1e12


@pytest.mark.parametrize("compiled", [True, False])
def test_counts_that_are_mostly_zero(compiled):
    x = np.random.default_rng(0).poisson(0.1, (80, 50))
    x[:, 0] += 1
    data = ad.AnnData(sparse.csr_matrix(x.astype(np.float32)), obs={"group": ["a", "b"] * 40})
    mgvi = MGVI.from_anndata(data, "group")
    assert mgvi.read(data).mostly_zero
    assert mgvi.estimate(data, TrainingPlan(max_epochs=1, compiled=compiled)).seconds > 0


def test_a_fit_after_it_is_the_same(adata, mgvi):
    from copy import deepcopy

    other = deepcopy(mgvi)
    other.estimate(adata)
    for each in (mgvi, other):
        each.fit(adata, max_epochs=2, progress=False)
    assert mgvi.history.equals(other.history)


def test_time_is_that_of_the_steps(mgvi, adata, monkeypatch):
    monkeypatch.setattr(module, "_timed_steps", lambda trainer: 2.0)
    monkeypatch.setattr(module, "_seconds_of_cells", lambda trainer: (0.0, 0.0))
    plan = TrainingPlan(max_epochs=4, batch_size=20, search=None)
    n_train = round(0.9 * 120)
    assert mgvi.estimate(adata, plan).seconds == 2.0 * 4 * round(n_train / 20)
    monkeypatch.setattr(module, "_seconds_of_likelihood", lambda trainer: 1.0)
    faster = mgvi.estimate(adata, replace(plan, compiled=True))
    step = 2.0 - (1 - module.COMPILED)
    assert faster.seconds == pytest.approx(step * faster.steps + module.COMPILING)


@pytest.mark.parametrize("n_steps", [1, 10, 50, 200, 1000, 5000])
@pytest.mark.parametrize("hurry", [1.0, 4.0])
@pytest.mark.parametrize("search", [True, False])
def test_epochs_are_those_of_the_clock(n_steps, hurry, search):
    """The clock itself, on losses that fall until they are flat."""
    plan = TrainingPlan(max_epochs=60, hurry=hurry)
    plan = plan if search else replace(plan, search=None)
    clock, losses = Clock(plan, n_steps), []
    flat = (plan.search_epoch or 0) + min(module.LEARNT, module.LEARNT_STEPS / n_steps)
    while not clock.over:
        losses.append(100.0 - min(len(losses), flat))
        clock.tick(losses)
    # it takes the clock a window of steps to see that the loss is flat
    window = clock.window + 1
    assert abs(expected_epochs(plan, n_steps) - len(losses)) <= (window if hurry > 1 else 0)


def test_memory_grows_with_what_is_held(mgvi, adata, monkeypatch):
    monkeypatch.setattr(module, "resident_bytes", lambda: 0.0)
    data = mgvi.read(adata)
    plan = TrainingPlan(max_epochs=1)
    small = module._further_bytes(plan, data, 1000)
    assert module._further_bytes(plan, data, 2000) - small == 6 * 4 * 1000
    assert module._further_bytes(replace(plan, batch_size=16), data, 1000) <= small


@pytest.mark.parametrize(
    "seconds, memory, said",
    [
        (0.2, 4e8, "about 1 s, 0.4 GB"),
        (80, 1e9, "about 80 s, 1.0 GB"),
        (130, 1e9, "about 2.2 min"),
        (3000, 1e9, "about 50 min"),
        (9000, 1e10, "about 2.5 h, 10.0 GB"),
        (90_000, 1e9, "about 25 h"),
    ],
)
def test_it_is_said_as_one_would(seconds, memory, said):
    assert str(Estimate(seconds, memory, 3, 30, 0.01)).startswith(said)


@pytest.mark.parametrize(
    "seconds, said",
    [(2e-5, "0.02 ms"), (0.02, "20 ms"), (0.19, "190 ms"), (0.9999, "1 s"), (123.4, "120 s")],
)
def test_a_step_is_said_without_an_exponent(seconds, said):
    assert f"steps of {said})" in str(Estimate(10.0, 1e9, 3, 30, seconds))


def test_several_trainings_cost_as_often_and_the_last_one(adata, mgvi, monkeypatch):
    monkeypatch.setattr(
        module, "_timed_steps", lambda trainer: 100.0
    )  # beside which nothing counts
    once, thrice = (mgvi.estimate(adata, max_epochs=3, n_trainings=n) for n in (1, 3))
    assert once.trainings == 1 and thrice.trainings == 4
    np.testing.assert_allclose(thrice.seconds, 4 * once.seconds, rtol=0.05)
    assert "4 trainings of 3 epochs" in str(thrice) and "trainings" not in str(once)
    assert once.memory == pytest.approx(thrice.memory, rel=0.2)
