"""The training loop: what it returns, keeps, leaves alone, resumes and refuses."""

import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from helpers.fitting import PLAN, fitted, same, untrained
from helpers.losses import losses, whole

from pyro_mgvi import (
    MGVI,
    DataError,
    SearchSettings,
    SettingsError,
    TrainingError,
    TrainingInterrupted,
    TrainingPlan,
    WassersteinTraceELBO,
    pairwise,
)
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.training import Trainer, TrainingSetup
from pyro_mgvi.training.search.pruning import prune


@pytest.fixture(scope="module")
def trained(adata):
    return fitted(adata)


def test_history_splits_the_loss_and_it_falls(trained):
    history = trained.history
    assert list(history["epoch"]) == [1, 2, 3]
    for part, also in (("train", ["decoder_prior"]), ("validation", [])):
        sites = [f"{part}_{site}" for site in ("z", "t", "library", "counts", *also)]
        np.testing.assert_allclose(history[sites].sum(axis=1), history[part], rtol=1e-6)
        assert history[part].iloc[-1] < history[part].iloc[0]
    assert list(history["kept"]) == [False, False, True]
    assert trained.plan == TrainingPlan(max_epochs=3, batch_size=32)


def test_the_same_seed_gives_bit_equal_latents_and_another_does_not(adata, trained):
    assert same(fitted(adata).latents(adata), trained.latents(adata))
    assert not same(fitted(adata, seed=1).latents(adata), trained.latents(adata))


def test_the_seed_of_a_plan_is_that_of_the_model_unless_it_is_given(adata, trained):
    assert same(fitted(adata, plan=replace(PLAN, seed=0)).latents(adata), trained.latents(adata))
    other = fitted(adata, plan=replace(PLAN, seed=1))
    assert not same(other.latents(adata), trained.latents(adata))


def test_fit_changes_nothing_of_the_caller(adata):
    pyro.param("mine", torch.tensor(1.0))
    before, counts, obs = torch.get_rng_state(), adata.X.copy(), adata.obs.copy()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    validation = torch.distributions.Distribution._validate_args
    fitted(adata)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert list(pyro.get_param_store().keys()) == ["mine"]
    assert torch.get_default_dtype() == torch.float32
    assert torch.distributions.Distribution._validate_args == validation
    assert not adata.obsm and not adata.uns
    assert (adata.X != counts).nnz == 0
    pd.testing.assert_frame_equal(adata.obs, obs)


@pytest.fixture(params=[torch.float64, torch.float16, torch.bfloat16], ids=str)
def another_default(request):
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


def test_the_default_dtype_of_the_caller_changes_nothing(adata, trained, tmp_path, another_default):
    mgvi = fitted(adata)
    assert torch.get_default_dtype() == another_default
    assert same(mgvi.latents(adata), trained.latents(adata))
    assert same(mgvi.latents(adata, draw=1), trained.latents(adata, draw=1))
    of_z = [x.normalized_expression(adata, latents="z") for x in (mgvi, trained)]
    pd.testing.assert_frame_equal(*of_z, check_exact=True)  # offsets are averaged over groups
    mgvi.save(tmp_path / "model")
    assert same(MGVI.load(tmp_path / "model").latents(adata), trained.latents(adata))


def test_a_step_of_a_loop_of_ones_own_draws_the_same_foreign_cells(adata, another_default):
    mgvi = untrained(adata, foreign_sample=2)
    mgvi.training_setup(adata, PLAN)  # in training mode
    now = losses(mgvi, whole(mgvi, adata))
    torch.set_default_dtype(torch.float32)
    before = losses(mgvi, whole(mgvi, adata))
    assert all(torch.equal(now[name], term) for name, term in before.items() if term is not None)


def test_works_in_inference_mode_as_without(adata):
    before = fitted(adata).latents(adata)
    with torch.inference_mode():
        inside = fitted(adata)
        assert inside.estimate(adata).steps > 0
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
    assert same(inside.latents(adata), before)
    inside.fit(adata, max_epochs=1, progress=False)  # its weights are weights like any other


@pytest.mark.slow
def test_search_discovery_and_tests_do_not_see_another_default_dtype(another_default):
    """These begin with sums of their own, which have to be of the weights' precision."""
    cells = clear_recipe(0, n_cells=200, n_shared_genes=60, n_program_genes=40)
    found = []
    for kind in (torch.float32, another_default):
        torch.set_default_dtype(kind)
        mgvi = MGVI.from_anndata(cells, "group", latents=["z:3", "t:2"])
        mgvi.fit(cells, max_epochs=12, progress=False)  # with the search
        programs = mgvi.programs(cells, ["z", "t"], progress=False)
        assert programs["z_score"].notna().any()
        found.append((programs, mgvi.discover(cells, progress=False).table))
    for before, now in zip(*found):
        pd.testing.assert_frame_equal(before, now, check_exact=True)


@pytest.mark.slow
def test_early_stopping_keeps_the_best_weights(adata):
    plan = replace(PLAN, max_epochs=200, learning_rate=0.02, patience=3, prune_below=0.0)
    mgvi = fitted(adata, plan=plan)
    validation = mgvi.history["validation"]
    assert len(validation) < 200
    assert len(validation) - 1 - validation.idxmin() == 3
    assert mgvi.history.index[mgvi.history["kept"]].tolist() == [validation.idxmin()]
    # The weights in place are those of the best epoch: they give its loss again.
    data = mgvi.read(adata)
    held_out = data.subset(data.split(0.1, seed=0)[1])
    torch.manual_seed(0)
    batch = held_out.rows(np.arange(len(held_out)))
    terms = WassersteinTraceELBO().terms(mgvi.model, mgvi.guide, *batch)
    terms.pop("decoder_prior")
    assert sum(terms.values()).item() / len(held_out) == pytest.approx(validation.min(), rel=1e-6)


def test_without_validation_cells_training_loss_decides(adata):
    mgvi = fitted(adata, plan=replace(PLAN, validation_fraction=0.0))
    assert "validation" not in mgvi.history and len(mgvi.history) == 3
    assert mgvi.history["train"].idxmin() == mgvi.history["kept"].idxmax()


def test_a_second_fit_goes_on(adata, trained):
    mgvi = fitted(adata)
    mgvi.fit(adata, PLAN, max_epochs=2, progress=False)
    assert list(mgvi.history["epoch"]) == [1, 2, 3, 4, 5]
    pd.testing.assert_frame_equal(
        mgvi.history.iloc[:3].drop(columns="kept"), trained.history.drop(columns="kept")
    )
    assert not mgvi.history["kept"].iloc[:3].any() and mgvi.history["kept"].sum() == 1
    assert mgvi.history["train"].iloc[3] < mgvi.history["train"].iloc[0]
    assert mgvi.plan == replace(PLAN, max_epochs=2)


def interrupt(monkeypatch, at, by=KeyboardInterrupt):
    """Let the user press Ctrl-C in an epoch, or something fail there."""
    epoch = Trainer._epoch

    def interrupted(self, number):
        if number == at:
            raise by
        epoch(self, number)

    monkeypatch.setattr(Trainer, "_epoch", interrupted)


def test_an_interrupted_run_is_resumed_and_ends_bit_equal(adata, tmp_path, monkeypatch):
    plan = replace(PLAN, max_epochs=4)
    whole = fitted(adata, plan=plan)
    settings = {"progress": False, "checkpoint": tmp_path / "run"}
    interrupt(monkeypatch, at=2)
    mgvi = untrained(adata)
    with pytest.raises(TrainingInterrupted, match=r"go on, train again with checkpoint=.*run"):
        mgvi.fit(adata, plan, **settings)
    assert len(mgvi.history) == 2
    monkeypatch.undo()
    resumed = untrained(adata)
    resumed.fit(adata, plan, **settings)
    assert same(resumed.latents(adata), whole.latents(adata))
    pd.testing.assert_frame_equal(resumed.history, whole.history)


def test_a_run_interrupted_in_one_session_is_resumed_there(adata, tmp_path, monkeypatch):
    plan = replace(PLAN, max_epochs=4)
    whole = fitted(adata, plan=plan)
    settings = {"progress": False, "checkpoint": tmp_path / "run"}
    mgvi = untrained(adata)
    interrupt(monkeypatch, at=2)
    with pytest.raises(KeyboardInterrupt):
        mgvi.fit(adata, plan, **settings)
    monkeypatch.undo()
    mgvi.fit(adata, plan, **settings)
    assert same(mgvi.latents(adata), whole.latents(adata))
    pd.testing.assert_frame_equal(mgvi.history, whole.history)


def test_an_interrupted_run_keeps_its_best_weights_pruned_as_a_finished_one(adata, monkeypatch):
    plan = replace(PLAN, max_epochs=9, prune_below=1.0)  # nats: nothing says as much so early
    mgvi = untrained(adata)
    interrupt(monkeypatch, at=3)
    message = r"after 3 of at most 9 epochs.*best weights so far, those of epoch 3, and dimensions"
    with pytest.raises(KeyboardInterrupt, match=message) as caught:
        mgvi.fit(adata, plan, progress=False)
    assert isinstance(caught.value, TrainingInterrupted)
    assert mgvi.interrupted and mgvi.plan == plan
    assert list(mgvi.history["kept"]) == [False, False, True]
    assert not mgvi.model.training and not mgvi.model.active["t"].any()
    monkeypatch.undo()
    mgvi.fit(adata, plan, max_epochs=1, progress=False)
    assert not mgvi.interrupted


def test_a_run_interrupted_while_dimensions_are_handed_over_keeps_the_best_before_it(
    adata, monkeypatch
):
    search = SearchSettings(epoch=1, hand_over=3, least_cells=20)
    mgvi, begin = untrained(adata), Trainer._begin

    def interrupted(self, epoch):
        begin(self, epoch)
        if epoch == 3:
            raise KeyboardInterrupt
        return False

    monkeypatch.setattr(TrainingSetup, "hand_over", lambda self: True)
    monkeypatch.setattr(Trainer, "_begin", interrupted)
    with pytest.raises(TrainingInterrupted, match=r"those of epoch [23],"):
        mgvi.fit(adata, replace(PLAN, max_epochs=5, search=search), progress=False)
    assert mgvi.history.loc[mgvi.history["kept"], "epoch"].item() > 1


def test_a_run_that_an_error_ends_is_not_said_to_have_come_to_its_end(adata, monkeypatch):
    mgvi = untrained(adata)
    interrupt(monkeypatch, at=2, by=TrainingError)
    with pytest.raises(TrainingError):
        mgvi.fit(adata, PLAN, progress=False)
    assert mgvi.interrupted and len(mgvi.history) == 2
    assert mgvi.summary(adata).stopped == "interrupted by Ctrl-C or by an error"


def test_a_run_interrupted_before_its_first_epoch_ends_leaves_the_model_as_it_was(
    adata, monkeypatch
):
    mgvi = untrained(adata)
    before = {k: v.clone() for k, v in mgvi.guide.state_dict().items()}
    step = torch.optim.Adam.step

    def interrupted(self, *args, **kwargs):
        step(self, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
    with pytest.raises(TrainingInterrupted, match="in its first epoch: the model is as it was"):
        mgvi.fit(adata, PLAN, progress=False)
    assert all(torch.equal(v, before[k]) for k, v in mgvi.guide.state_dict().items())
    assert mgvi.plan is None and not len(mgvi.history)


@pytest.mark.parametrize("at", ["search", "train"])
def test_a_run_interrupted_in_the_epoch_of_the_search_keeps_what_was_best(adata, monkeypatch, at):
    plan = replace(PLAN, max_epochs=6, search=SearchSettings(epoch=3), prune_below=0.0)
    three = fitted(adata, plan=replace(plan, max_epochs=6, search=SearchSettings(epoch=3)))
    mgvi, found = untrained(adata), {}
    method, setup = getattr(TrainingSetup, at), TrainingSetup

    def interrupted(self):
        result = method(self)
        if at == "search" or found:
            raise KeyboardInterrupt
        return result

    def search(self):
        found["now"] = True
        return True

    monkeypatch.setattr(setup, at, interrupted)
    if at == "train":
        monkeypatch.setattr(setup, "search", search)
    with pytest.raises(TrainingInterrupted, match="after 3 of at most 6 epochs"):
        mgvi.fit(adata, plan, progress=False)
    pd.testing.assert_frame_equal(
        mgvi.history.drop(columns="kept"), three.history.iloc[:3].drop(columns="kept")
    )
    assert mgvi.history["kept"].sum() == 1
    torch.manual_seed(0)
    data = mgvi.read(adata)
    held_out = data.subset(data.split(0.1, seed=0)[1])
    terms = WassersteinTraceELBO().terms(
        mgvi.model, mgvi.guide, *held_out.rows(np.arange(len(held_out)))
    )
    terms.pop("decoder_prior")
    kept = mgvi.history.loc[mgvi.history["kept"], "validation"].item()
    assert sum(terms.values()).item() / len(held_out) == pytest.approx(kept, rel=1e-6)


@pytest.mark.parametrize("by", ["signal", "error"])
def test_an_interrupt_while_dimensions_are_closed_waits_until_they_are(adata, monkeypatch, by):
    mgvi, closed = untrained(adata), []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it

    def interrupted(*arguments):
        closed.append(by)
        if by == "signal":
            signal.raise_signal(signal.SIGINT)
        elif len(closed) == 1:
            raise KeyboardInterrupt
        return prune(*arguments)

    monkeypatch.setattr("pyro_mgvi.training.setup.prune", interrupted)
    with pytest.raises(TrainingInterrupted, match="after 3 of at most 3 epochs"):
        mgvi.fit(adata, replace(PLAN, prune_below=1e3), progress=False)
    assert not any(mgvi.model.active[latent.name].any() for latent in mgvi.families)
    assert mgvi.interrupted and len(mgvi.history) == 3 and not mgvi.model.training
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def test_a_fit_that_is_refused_leaves_the_model_as_it_was(adata, tmp_path):
    (tmp_path / "file").write_text("mine")
    mgvi = untrained(adata)
    with pytest.raises(SettingsError, match="is a file: name a folder"):
        mgvi.fit(adata, PLAN, checkpoint=tmp_path / "file", progress=False)
    assert not mgvi.model.training and not mgvi.guide.training
    assert mgvi.training_setup(adata, PLAN).model.training  # a loop of one's own trains


def test_a_loss_that_is_not_finite_stops_with_the_cause(adata):
    mgvi = untrained(adata)
    mgvi.fit(adata, max_epochs=1, progress=False)
    before = mgvi.latents(adata)
    plan = TrainingPlan(max_epochs=5, batch_size=32, learning_rate=1e12)
    with pytest.raises(TrainingError, match=r"became (nan|inf).*epoch.*not finite.*learning_rate"):
        mgvi.fit(adata, plan, progress=False)
    assert same(mgvi.latents(adata), before)


def test_a_copy_that_no_cell_owns(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=("z:3", "t:2", pairwise(2)))
    before = {k: v.clone() for k, v in mgvi.model.state_dict().items()}
    some = adata[(adata.obs["group"] == "group1").to_numpy()]
    with pytest.raises(DataError, match="no cell belongs to latent 't_group2'"):
        mgvi.fit(some, max_epochs=1, progress=False)
    assert all(torch.equal(v, before[k]) for k, v in mgvi.model.state_dict().items())
