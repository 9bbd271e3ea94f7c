"""The state on disk: whole, the last two epochs, and only for the same training."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from helpers.fitting import LATENTS, PLAN, fitted, same, untrained

from pyro_mgvi import (
    MGVI,
    NB,
    JointDecoder,
    SameAsOwn,
    SearchSettings,
    SettingsError,
    TrainingError,
    TrainingInterrupted,
    private,
    shared,
)
from pyro_mgvi.training import Trainer, checkpoint
from pyro_mgvi.training.checkpoint import states
from pyro_mgvi.training.search import Direction


def fit(adata, folder, plan=PLAN, resume=True, **settings):
    mgvi = untrained(adata, **settings)
    mgvi.fit(adata, plan, checkpoint=folder, resume=resume, progress=False)
    return mgvi


@pytest.fixture(scope="module")
def made(adata, tmp_path_factory):
    """A finished training's folder, which no test changes."""
    folder = tmp_path_factory.mktemp("made") / "run"
    fit(adata, folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    copy = tmp_path / "run"
    copy.mkdir()
    for file in made.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def test_a_folder_holds_the_last_two_epochs_and_nothing_else(made):
    assert {n: path.name for n, path in states(made).items()} == {
        2: "epoch_2.pt",
        3: "epoch_3.pt",
    }
    assert len(list(made.iterdir())) == 2


def test_from_the_state_before_training_ends_the_same(adata, folder):
    (folder / "epoch_3.pt").unlink()
    resumed, whole = fit(adata, folder), fitted(adata)
    assert same(resumed.latents(adata), whole.latents(adata))
    assert sorted(states(folder)) == [2, 3]


def test_a_training_that_has_ended_is_not_trained_on(adata, tmp_path, monkeypatch):
    """The process may end between the last epoch and what is done with the model."""
    plan = replace(PLAN, max_epochs=60, patience=2, learning_rate=0.02, prune_below=0.0)
    whole = fit(adata, tmp_path / "run", plan)
    assert len(whole.history) < 60
    monkeypatch.setattr(Trainer, "_epoch", None)
    resumed = fit(adata, tmp_path / "run", plan)
    assert len(resumed.history) == len(whole.history)
    assert same(resumed.latents(adata), whole.latents(adata))


@pytest.mark.parametrize("again", ["same process", "new process"])
def test_the_history_of_a_second_fit_that_was_resumed_is_whole(adata, folder, monkeypatch, again):
    def begun():
        mgvi = untrained(adata)
        mgvi.fit(adata, PLAN, max_epochs=2, progress=False)
        return mgvi

    whole, mgvi, place = begun(), begun(), folder.parent / "second"
    whole.fit(adata, PLAN, progress=False)
    epoch = Trainer._epoch

    def interrupted(self, number):
        if number == 2:
            raise KeyboardInterrupt
        epoch(self, number)

    with monkeypatch.context() as patch, pytest.raises(TrainingInterrupted):
        patch.setattr(Trainer, "_epoch", interrupted)
        mgvi.fit(adata, PLAN, checkpoint=place, progress=False)
    mgvi = mgvi if again == "same process" else begun()
    mgvi.fit(adata, PLAN, checkpoint=place, progress=False)
    pd.testing.assert_frame_equal(mgvi.history, whole.history)
    assert mgvi.history["training"].tolist() == [1, 1, 2, 2, 2]
    assert same(mgvi.latents(adata), whole.latents(adata))


def test_an_existing_one_is_refused_if_it_is_not_to_be_resumed(adata, folder, tmp_path):
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(SettingsError, match=r"run holds a training of 3 epochs .*resume=True"):
        fit(adata, folder, resume=False)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    (tmp_path / "empty").mkdir()
    fit(adata, tmp_path / "empty", resume=False)
    assert sorted(states(tmp_path / "empty")) == [2, 3]


def test_a_damaged_one_is_told_and_the_one_before_is_whole(adata, folder):
    newest = folder / "epoch_3.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    with pytest.raises(SettingsError, match=r"epoch_3.pt cannot.*damaged.*go on from epoch_2.pt$"):
        fit(adata, folder)
    newest.unlink()
    assert same(fit(adata, folder).latents(adata), fitted(adata).latents(adata))
    for file in folder.iterdir():
        file.write_text("")
    (folder / "epoch_2.pt").unlink()
    with pytest.raises(SettingsError, match=r"damaged.*delete it to begin anew$"):
        fit(adata, folder)


def test_a_file_that_holds_code_is_not_run(adata, tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "owned"), "w")

    (tmp_path / "run").mkdir()
    torch.save({"identity": Evil()}, tmp_path / "run" / "epoch_1.pt")
    with pytest.raises(SettingsError, match="cannot be read"):
        fit(adata, tmp_path / "run")
    assert not (tmp_path / "owned").exists()


def test_a_state_of_another_version_leaves_the_model_as_it_was(adata, folder):
    path = folder / "epoch_3.pt"
    state = torch.load(path, weights_only=True)
    del state["objective"]["guide.depth"]
    torch.save(state, path)
    mgvi = untrained(adata)
    before = {k: v.clone() for k, v in mgvi.guide.state_dict().items()}
    with pytest.raises(SettingsError, match="does not fit this version"):
        mgvi.fit(adata, PLAN, checkpoint=folder, progress=False)
    assert all(torch.equal(v, before[k]) for k, v in mgvi.guide.state_dict().items())


def shuffled_counts(adata):
    """Other counts with the same totals of every cell and every gene."""
    other = adata.copy()
    dense = other.X.toarray()
    first, second = np.flatnonzero(dense[:, 0])[0], np.flatnonzero(dense[:, 1])[-1]
    dense[first, :2] += [-1, 1]
    dense[second, :2] += [1, -1]
    assert first != second and dense.min() == 0
    other.X = type(other.X)(dense)
    for axis in (0, 1):
        assert (other.X.sum(axis) == adata.X.sum(axis)).all()
    return other


def other_groups(adata):
    other = adata.copy()
    codes = other.obs["group"].cat.codes.to_numpy().copy()
    assert codes[0] != codes[1]
    codes[[0, 1]] = codes[[1, 0]]
    swapped = other.obs["group"].cat.categories[codes]
    other.obs["group"] = swapped.to_numpy()
    return other


def renamed_groups(adata):
    other = adata.copy()
    other.obs["group"] = other.obs["group"].cat.rename_categories({"group3": "group4"})
    return other


def with_batches(adata):
    other = adata.copy()
    other.obs["batch"] = np.tile(["b1", "b2"], len(other) // 2)
    return other


def per_dimension(location):
    return dist.Normal(torch.full((3,), location), torch.ones(3))


@pytest.mark.parametrize(
    "name, change",
    [
        ("counts", {"data": shuffled_counts}),
        ("labels of cells", {"data": other_groups}),
        ("groups", {"data": renamed_groups}),
        ("batches", {"data": with_batches, "batch_key": "batch"}),
        ("genes", {"data": lambda adata: adata[:, ::-1].copy()}),
        ("own_weight", {"own_weight": {"t": 3.0}}),
        ("seed", {"seed": 1}),
        ("latents", {"latents": (shared(3), private(1))}),
        ("decoder", {"decoder": partial(JointDecoder, hidden=8)}),
        ("likelihood", {"likelihood": NB}),
        ("observed_library", {"observed_library": True}),
        ("foreign_sample", {"foreign_sample": 5}),
        ("plan.batch_size", {"plan": replace(PLAN, batch_size=16)}),
        ("plan.max_epochs", {"plan": replace(PLAN, max_epochs=4)}),
        ("plan.search", {"plan": replace(PLAN, search=SearchSettings(epoch=1))}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_differs_is_named(adata, made, name, change):
    change = dict(change)
    data = change.pop("data", lambda adata: adata)(adata)
    with pytest.raises(SettingsError, match=r"is of another training, with other ") as caught:
        fit(data, made, **change)
    named = str(caught.value).split("with other ")[1].split(":")[0]
    assert name in named.split(", ")


def test_the_weights_of_a_trained_model_are_not_replaced(adata, folder):
    mgvi = fitted(adata, replace(PLAN, max_epochs=5))
    before, epochs = mgvi.latents(adata), list(mgvi.history["train"])
    with pytest.raises(SettingsError, match=r"epoch_3.pt is of .*other starting weights, and the"):
        mgvi.fit(adata, PLAN, checkpoint=folder, progress=False)
    assert same(mgvi.latents(adata), before) and list(mgvi.history["train"]) == epochs


def test_a_further_training_goes_on_from_the_saved_model_and_its_history_is_whole(adata, tmp_path):
    """A process that is killed in the second of two trainings has the model of the first."""
    fitted(adata).save(tmp_path / "first")
    whole = MGVI.load(tmp_path / "first")
    whole.fit(adata, PLAN, checkpoint=tmp_path / "run", progress=False)
    (tmp_path / "run" / "epoch_3.pt").unlink()
    resumed = MGVI.load(tmp_path / "first")
    resumed.fit(adata, PLAN, checkpoint=tmp_path / "run", progress=False)
    assert same(resumed.latents(adata), whole.latents(adata))
    pd.testing.assert_frame_equal(resumed.history, whole.history)
    assert list(resumed.history["training"]) == [1, 1, 1, 2, 2, 2]


def test_a_training_that_has_ended_can_be_asked_for_again(adata, tmp_path):
    mgvi = fit(adata, tmp_path / "run")
    before = mgvi.latents(adata)
    mgvi.fit(adata, PLAN, checkpoint=tmp_path / "run", progress=False)
    assert same(mgvi.latents(adata), before) and len(mgvi.history) == 3


def test_what_a_discovery_has_planted_is_part_of_a_training(adata):
    setup = untrained(adata).training_setup(adata)
    assert "discovered directions" not in checkpoint.identity(setup)
    seen = []
    for score in (1.0, 1.0, 2.0):
        direction = Direction(torch.ones(60), torch.full((4,), score), np.arange(4))
        setup.known = {("group1",): [direction]}
        seen.append(checkpoint.identity(setup)["discovered directions"])
    assert seen[0] == seen[1] != seen[2]


def test_a_state_of_an_earlier_version_is_refused_as_such(adata, folder):
    path = folder / "epoch_3.pt"
    state = torch.load(path, weights_only=True)
    del state["starting weights"]
    torch.save(state, path)
    with pytest.raises(SettingsError, match=r"epoch_3.pt is of an earlier version.*another folder"):
        fit(adata, folder)


def test_priors_are_told_by_their_values(adata):
    def identity(location, foreign):
        latents = (shared(3, prior=per_dimension(location)), private(2, foreign=foreign))
        return checkpoint.identity(untrained(adata, latents=latents).training_setup(adata))

    def lasso():
        return lambda own, member: SameAsOwn()(own, member)

    assert identity(0.0, lasso()) == identity(0.0, lasso())  # as in another process
    differ = dict(identity(0.0, lasso()).items() ^ identity(5.0, lasso()).items())
    assert list(differ) == ["latents"]


def test_patience_and_the_compiler_may_differ(adata, made):
    fit(adata, made, replace(PLAN, patience=7, compiled=False), latents=LATENTS)


def test_a_path_that_is_no_folder(adata, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SettingsError, match=r"file is a file: name a folder"):
        fit(adata, tmp_path / "file")
    with pytest.raises(SettingsError, match="cannot be written to"):
        fit(adata, tmp_path / "file" / "run")
    with pytest.raises(SettingsError, match="cannot be written to"):
        fit(adata, "/proc/run")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_of_something_else(adata, tmp_path):
    fitted(adata).save(tmp_path / "model")
    (tmp_path / "cells.zarr" / "obs").mkdir(parents=True)
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "epoch_3.pt").write_text("mine")
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / ".DS_Store").write_text("of no one")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    refused = {
        "model": r"model holds something else \(history.csv, settings.json, weights.pt\)",
        "cells.zarr": r"cells.zarr holds something else \(obs\)",
        "junk": r"junk.epoch_3.pt cannot be read .* name another folder",
    }
    for name, message in refused.items():
        with pytest.raises(SettingsError, match=message):
            Trainer(untrained(adata), untrained(adata).read(adata), PLAN, "cpu", tmp_path / name)
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before
    fit(adata, tmp_path / "hidden")
    (tmp_path / "hidden" / "job.log").write_text("of the scheduler")
    fit(adata, tmp_path / "hidden")


def test_a_full_disk_leaves_the_state_before(adata, folder, monkeypatch):
    (folder / "epoch_3.pt").unlink()

    def full(state, path):
        path.write_text("half")
        raise OSError("no space left on device")

    mgvi = untrained(adata)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(TrainingError, match=r"epoch_3.pt cannot be written .no space left"):
            mgvi.fit(adata, PLAN, checkpoint=folder, progress=False)
    assert [file.name for file in folder.iterdir()] == ["epoch_2.pt"]
    assert same(fit(adata, folder).latents(adata), fitted(adata).latents(adata))
