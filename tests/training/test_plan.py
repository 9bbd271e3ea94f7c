"""The training plan: what it fills in, and what it refuses."""

from dataclasses import asdict, replace

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from pyro_mgvi import MGVI, PAPER, SearchSettings, SettingsError, TrainingPlan, private, shared


@pytest.mark.parametrize(
    "plan, message",
    [
        ({"max_epochs": 0}, "max_epochs must be at least 1"),
        ({"max_epochs": 2.5}, "max_epochs must be a whole number"),
        ({"learning_rate": -1.0}, "learning_rate must be above 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"validation_fraction": 1.0}, "validation_fraction must be within 0 and 0.9"),
        ({"validation_fraction": -0.1}, "validation_fraction must be at least 0"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"prune_below": -0.1}, "prune_below must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 10**23}, "seed must be at most"),
        ({"search": 10}, r"search must be SearchSettings\(...\) or None"),
    ],
)
def test_bad_training_settings(plan, message):
    with pytest.raises(SettingsError, match=message):
        TrainingPlan(**plan)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "3"])
def test_what_is_no_number_is_refused(value):
    for name in ("max_epochs", "batch_size", "patience", "seed"):
        with pytest.raises(SettingsError, match=f"{name} must be a whole number"):
            TrainingPlan(**{name: value})
    for name in ("learning_rate", "validation_fraction", "prune_below"):
        with pytest.raises(SettingsError, match=f"{name} must be a number"):
            TrainingPlan(**{name: value})


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"epoch": 0}, "epoch must be at least 1"),
        ({"clusters": 1.5}, "clusters must be a whole number"),
        ({"idle": -1.0}, "idle must be at least 0"),
        ({"margin": "most"}, "margin must be a number"),
    ],
)
def test_bad_search_settings(settings, message):
    with pytest.raises(SettingsError, match=message):
        SearchSettings(**settings)


def test_fit_wants_a_plan(adata, mgvi):
    with pytest.raises(SettingsError, match="plan must be a TrainingPlan"):
        mgvi.fit(adata, {"max_epochs": 3}, progress=False)
    with pytest.raises(SettingsError, match="max_epochs must be at least 1"):
        mgvi.fit(adata, max_epochs=0, progress=False)
    with pytest.raises(TypeError, match="epochs"):
        TrainingPlan(epochs=3)
    with pytest.raises(TypeError, match="epochs"):
        mgvi.fit(adata, epochs=3, progress=False)


def test_numbers_become_plain_ones():
    plan = TrainingPlan(max_epochs=np.int64(3), batch_size=64.0, learning_rate=np.float32(0.5))
    assert plan == TrainingPlan(max_epochs=3, batch_size=64, learning_rate=0.5)
    assert type(plan.max_epochs) is type(plan.batch_size) is int
    assert type(plan.learning_rate) is float


def test_epochs_and_seed_are_filled_in_if_they_are_not_given():
    plan = TrainingPlan()
    assert (plan.max_epochs, plan.seed) == (None, None)
    assert plan.resolved(seed=7) == TrainingPlan(max_epochs=60, seed=7)
    given = TrainingPlan(max_epochs=3, seed=0)
    assert given.resolved(seed=7) == given


def test_steps_shrink_to_nothing_before_the_search_and_at_the_end():
    plan = TrainingPlan(max_epochs=40, search=SearchSettings(epoch=10))
    steps = np.array([plan.step_size(epoch) for epoch in range(41)])
    assert steps[0] == steps[10] == 1.0 and steps[9] < 0.03 and steps[40] == 0.0
    assert (np.diff(steps[:10]) < 0).all() and (np.diff(steps[10:]) < 0).all()
    assert plan.search_epoch == 10


@pytest.mark.parametrize(
    "plan",
    [
        TrainingPlan(max_epochs=10),  # no epoch would be left after it
        TrainingPlan(max_epochs=40, search=None),
    ],
)
def test_without_a_search_steps_shrink_once(plan):
    assert plan.search_epoch is None
    steps = np.array([plan.step_size(epoch) for epoch in range(plan.max_epochs)])
    assert steps[0] == 1.0 and (np.diff(steps) < 0).all()


def test_the_paper_s_plan_can_be_changed_in_part():
    plan = replace(PAPER.plan, max_epochs=3)
    assert asdict(plan) == asdict(PAPER.plan) | {"max_epochs": 3}
    assert PAPER.plan.max_epochs == 500 and PAPER.plan.search_epoch is None


@pytest.mark.parametrize("own_weight", [None, 1.0])
def test_closing_dimensions_draws_nothing_whatever_the_prior(adata, own_weight):
    latents = (shared(3, prior=dist.StudentT(4.0, 0.0, 1.0)), private(2))
    fitted = []
    for seed in (0, 1):
        torch.manual_seed(seed)  # of the caller
        before = torch.get_rng_state()
        mgvi = MGVI.from_anndata(adata, "group", latents=latents, own_weight=own_weight)
        mgvi.fit(adata, TrainingPlan(prune_below=0.02), max_epochs=2, progress=False)
        assert torch.equal(torch.get_rng_state(), before)
        fitted.append({name: active.clone() for name, active in mgvi.model.active.named_buffers()})
    assert all(torch.equal(active, fitted[1][name]) for name, active in fitted[0].items())
