"""The schedule hurries where the validation loss no longer falls, and only there."""

import numpy as np
import pytest

from pyro_mgvi import MGVI, SearchSettings, SettingsError, TrainingPlan, private, shared
from pyro_mgvi.training.clock import FLAT, WINDOW, Clock


def run(losses, n_steps, **plan):
    clock = Clock(TrainingPlan(**{"max_epochs": 40, **plan}), n_steps)
    times = []
    for epoch in range(len(losses)):
        if clock.over:
            break
        clock.tick(losses[: epoch + 1])
        times.append(clock.now)
    return np.diff([0.0, *times])


def test_it_keeps_time_while_the_loss_falls():
    falling = 100 * (1 - 2 * FLAT) ** np.arange(60)
    assert (run(falling, n_steps=WINDOW) == 1).all()
    assert len(run(falling, n_steps=WINDOW)) == 40


def test_it_hurries_after_the_search_where_the_loss_is_flat():
    flat = np.full(60, 100.0)
    passed = run(flat, n_steps=WINDOW, search=SearchSettings(epoch=10))
    # epochs up to the search are all needed, and one after it to compare with
    assert passed[:11].tolist() == [1] * 11
    assert set(passed[11:]) == {TrainingPlan().hurry}
    assert passed.sum() >= 40 > passed[:-1].sum()


def test_few_cells_make_few_steps_and_are_given_time():
    flat = np.full(60, 100.0)
    assert (run(flat, n_steps=2, search=None) == 1).all()


def test_a_plan_can_be_followed_to_the_letter():
    assert len(run(np.full(60, 100.0), n_steps=WINDOW, hurry=1.0)) == 40
    with pytest.raises(SettingsError, match="hurry must be at least 1"):
        TrainingPlan(hurry=0.5)


@pytest.mark.slow
def test_steps_have_shrunk_to_nothing_when_training_is_over(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=(shared(3), private(2)))
    plan = TrainingPlan(batch_size=2, search=None, learning_rate=1e-8, max_epochs=24, patience=None)
    mgvi.fit(adata, plan, progress=False)  # nothing is learnt: flat from the first window on
    window = round(WINDOW / 54)
    assert len(mgvi.history) == window + np.ceil((24 - window) / plan.hurry)
