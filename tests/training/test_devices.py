"""Everything works where the model is, and a step on a device waits for nothing.

There need not be one: :mod:`helpers.pretended_device` refuses what a GPU would.
"""

import copy
from dataclasses import is_dataclass, replace

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from helpers.pretended_device import CPU, DEVICE, NAME, WrongDevice, pretended
from torch import Tensor

from pyro_mgvi import MGVI, SearchSettings, TrainingError, TrainingPlan, private, shared
from pyro_mgvi.criticism import held_out, predictive_checks, to_arviz
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.training import Trainer
from pyro_mgvi.training.objective import Objective

SEARCH = SearchSettings(epoch=1, hand_over=2, least_cells=20)
PLAN = TrainingPlan(max_epochs=4, search=SEARCH, hurry=1.0)


@pytest.fixture
def device(monkeypatch):
    with pretended(monkeypatch) as noted:
        yield noted


@pytest.fixture(scope="module")
def cells():
    return clear_recipe(seed=0, n_cells=240, n_shared_genes=40, n_program_genes=40, groups=3)


@pytest.fixture(scope="module")
def trained(cells):
    mgvi = MGVI.from_anndata(cells, "group", latents=(shared(3), private(2)))
    mgvi.fit(cells, PLAN, progress=False)
    return mgvi


def copy_of(mgvi, path):
    mgvi.save(path)
    return MGVI.load(path)


def places(noted, mgvi):
    tensors = [*mgvi.model.state_dict().values(), *mgvi.guide.state_dict().values()]
    return {noted.of(x) for x in tensors}


class TestPretence:
    """What is refused: a test of the test."""

    def test_tensors_of_two_devices(self, device):
        x = torch.ones(3).to(DEVICE)
        with pytest.raises(WrongDevice, match="two devices"):
            x + torch.ones(3)
        with pytest.raises(WrongDevice, match="two devices"):
            torch.cat([torch.zeros(2, device=DEVICE), torch.zeros(2)])
        assert (x + 1).device == DEVICE and (x * torch.tensor(2.0)).device == DEVICE

    def test_numpy(self, device):
        x = torch.ones(3).to(DEVICE)
        for read in (lambda: x.numpy(), lambda: np.asarray(x * 2)):
            with pytest.raises(WrongDevice, match=r"call \.cpu"):
                read()
        assert x.cpu().numpy().sum() == 3

    def test_indices(self, device):
        there, here = torch.arange(3).to(DEVICE), torch.arange(3)
        assert there[here].device == DEVICE
        with pytest.raises(WrongDevice, match="indices"):
            here[there]

    def test_a_generator(self, device):
        generator = torch.Generator()
        with pytest.raises(WrongDevice, match="generator"):
            torch.rand(2, generator=generator, device=DEVICE)
        with pytest.raises(WrongDevice, match="generator"):
            torch.zeros(2, device=DEVICE).normal_(generator=generator)

    def test_gradients_cross_as_tensors_do(self, device):
        weight = torch.ones(3, requires_grad=True)
        (weight.to(DEVICE) * torch.ones(3, device=DEVICE)).sum().backward()
        assert device.of(weight.grad) == CPU

    def test_what_is_waited_for(self, device):
        x = torch.ones(3).to(DEVICE)
        device.watching = True
        x * 2
        assert not device.waits
        for wait in (float, Tensor.cpu, Tensor.nonzero, lambda x: x[x > 0]):
            device.waits.clear()
            wait(x[:1])
            assert device.waits

    def test_a_copy(self, device):
        assert device.of(copy.deepcopy(torch.ones(3).to(DEVICE))) == DEVICE


@pytest.mark.slow
def test_several_trainings_are_where_the_model_is(device, cells):
    mgvi = MGVI.from_anndata(cells, "group", latents=(shared(3), private(2)))
    mgvi.fit(cells, PLAN, accelerator=NAME, n_trainings=2, progress=False)
    assert places(device, mgvi) == {DEVICE} and len(mgvi.agreement)


@pytest.mark.slow
def test_counts_that_do_not_fit_there_are_sent(device, cells, monkeypatch):
    histories = []
    for fits in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr("pyro_mgvi.training.setup.fits", lambda data, where, fits=fits: fits)
            mgvi = MGVI.from_anndata(cells, "group", latents=(shared(3), private(2)))
            mgvi.fit(cells, max_epochs=1, accelerator=NAME, progress=False)
        histories.append(mgvi.history)
    assert histories[0].equals(histories[1])


@pytest.mark.slow
def test_fit_trains_there_and_stays_there(device, cells):
    mgvi = MGVI.from_anndata(cells, "group", latents=(shared(3), private(2)))
    found = mgvi.fit(cells, PLAN, accelerator=NAME, progress=False)
    assert places(device, mgvi) == {DEVICE} and str(found)
    assert np.isfinite(mgvi.history["train"]).all()
    mgvi.fit(cells, max_epochs=1, progress=False)  # "auto" is where it is
    assert places(device, mgvi) == {DEVICE}
    mgvi.to("cpu")
    assert places(device, mgvi) == {CPU}


@pytest.mark.parametrize("sparse", [True, False])
def test_a_step_waits_for_nothing(device, cells, sparse, monkeypatch):
    adata = cells if sparse else cells.copy()
    if not sparse:
        adata.X = np.asarray(adata.X.todense()) + 1.0
    mgvi = MGVI.from_anndata(adata, "group", latents=(shared(3), private(2))).to(NAME)
    setup = mgvi.training_setup(adata, PLAN)
    parameters = [*mgvi.model.parameters(), *mgvi.guide.parameters()]
    adam = torch.optim.Adam(parameters, fused=True)
    objective = Objective(setup.model, setup.guide, setup.elbo)
    with pyro.settings.context(module_local_params=True), pyro.validation_enabled(False):
        for step, batch in enumerate(setup.minibatches(0)):
            device.watching = step > 0
            loss = sum(objective(*batch).values())
            adam.zero_grad()
            loss.backward()
            adam.step()
    assert step > 0 and not device.waits


def test_a_loss_that_is_not_finite_is_named_after_the_epoch(device, cells):
    mgvi = MGVI.from_anndata(cells, "group", latents=(shared(3), private(2)))
    plan = replace(PLAN, learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"in epoch 1, step 2: the term\(s\) of .*'counts'"):
        mgvi.fit(cells, plan, accelerator=NAME, progress=False)


@pytest.mark.slow
def test_a_checkpoint_goes_on_there(device, cells, tmp_path):
    def fitted(**settings):
        mgvi = MGVI.from_anndata(cells, "group", latents=(shared(3), private(2)))
        mgvi.fit(cells, PLAN, accelerator=NAME, progress=False, **settings)
        return mgvi

    whole = fitted()

    class Stopped(Exception):
        pass

    real, done = Trainer._epoch, []

    def stopping(self, epoch):
        if epoch == 2 and not done:
            done.append(epoch)
            raise Stopped
        real(self, epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_epoch", stopping)
        with pytest.raises(Stopped):
            fitted(checkpoint=tmp_path / "state")
        resumed = fitted(checkpoint=tmp_path / "state")
    pd.testing.assert_frame_equal(whole.history, resumed.history)
    assert places(device, resumed) == {DEVICE}


RESULTS = {
    "latents": lambda mgvi, cells: mgvi.latents(cells),
    "drawn latents": lambda mgvi, cells: mgvi.latents(cells, foreign="encode"),
    "expression": lambda mgvi, cells: mgvi.normalized_expression(cells, latents="z"),
    "expression draws": lambda mgvi, cells: mgvi.expression_draws(cells, n_draws=2),
    "differential": lambda mgvi, cells: mgvi.differential_expression(
        cells, cells.obs["group"] == "group1", cells.obs["group"] == "group2", n_draws=2
    ),
    "ranking": lambda mgvi, cells: mgvi.rank_genes(cells, "group1", calibration=False),
    "programs": lambda mgvi, cells: mgvi.programs(cells, calibration=False),
    "summary": lambda mgvi, cells: mgvi.summary(cells),
    "checks": lambda mgvi, cells: predictive_checks(mgvi, cells, 20, progress=False),
    "held out": lambda mgvi, cells: held_out(mgvi, cells, 2, progress=False),
    "export": lambda mgvi, cells: to_arviz(mgvi, cells, 2, progress=False),
}


#: With refits, whose drop-out draws other numbers elsewhere than on the CPU.
REFITTED = {
    "ranking": lambda mgvi, cells: mgvi.rank_genes(cells, "group1", progress=False),
    "programs": lambda mgvi, cells: mgvi.programs(cells, progress=False),
    "diagnosis": lambda mgvi, cells: mgvi.diagnose(cells, max_epochs=2, progress=False).copies,
}


@pytest.mark.filterwarnings("ignore::pyro_mgvi.errors.ChainDiagnosticsWarning")
@pytest.mark.parametrize("name", RESULTS)
def test_results_are_the_same_there(device, trained, cells, name, tmp_path):
    there = copy_of(trained, tmp_path / "model").to(NAME)
    expected, found = (RESULTS[name](mgvi, cells) for mgvi in (trained, there))
    assert places(device, there) == {DEVICE}
    same(expected, found)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFITTED)
def test_refits_take_place_there(device, trained, cells, name, tmp_path):
    there = copy_of(trained, tmp_path / "model").to(NAME)
    expected, found = (REFITTED[name](mgvi, cells) for mgvi in (trained, there))
    assert places(device, there) == {DEVICE}
    assert list(expected.columns) == list(found.columns)
    assert len(expected) == len(found)
    np.testing.assert_array_equal(expected.isna(), found.isna())


def same(expected, found):
    """Compare results, but for the last digits: the CPU's sparse products add in another order."""
    assert type(expected) is type(found)
    if isinstance(expected, dict):
        assert expected.keys() == found.keys()
        for key in expected:
            same(expected[key], found[key])
    elif isinstance(expected, tuple):
        for one, other in zip(expected, found, strict=True):
            same(one, other)
    elif is_dataclass(expected):
        same(vars(expected), vars(found))
    elif isinstance(expected, float | np.ndarray) and np.asarray(expected).dtype.kind == "f":
        np.testing.assert_allclose(expected, found, rtol=1e-3, atol=1e-4)
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(expected, found, rtol=1e-3, atol=1e-4)


def test_a_model_saved_there_is_read_on_the_cpu(device, trained, cells, tmp_path):
    there = copy_of(trained, tmp_path / "one").to(NAME)
    again = copy_of(there, tmp_path / "two")
    assert places(device, again) == {CPU}
    same(trained.latents(cells), again.latents(cells))


@pytest.mark.slow
def test_a_group_is_added_there(device, cells):
    new = (cells.obs["group"] == "group3").to_numpy()
    mgvi = MGVI.from_anndata(cells[~new], "group", latents=(shared(3), private(2))).to(NAME)
    mgvi.fit(cells[~new], max_epochs=1, progress=False)
    larger = mgvi.add_group(cells[new], max_epochs=2, progress=False)
    assert places(device, larger) == {DEVICE}
    old, latents = mgvi.latents(cells[~new]), larger.latents(cells[~new])
    same({key: latents[key] for key in old}, old)
