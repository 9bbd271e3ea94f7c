"""Several processes that train together: what one does with all cells, and the same everywhere."""

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import ranks

from pyro_mgvi import MGVI, SettingsError, TrainingPlan
from pyro_mgvi.core.elbo import WassersteinTraceELBO
from pyro_mgvi.support.launched import launched
from pyro_mgvi.training import Trainer, TrainingSetup
from pyro_mgvi.training.checkpoint import states


@pytest.fixture(scope="module")
def cells():
    return ranks.cells()


def divided(mgvi, adata, rank, n_ranks, plan=ranks.PLAN):
    setup = TrainingSetup(mgvi, mgvi.read(adata), plan)
    setup.divide(rank, n_ranks)
    return setup


class TestParts:
    """What each rank takes of a minibatch; no process is needed for it."""

    @pytest.mark.parametrize("n_ranks", [1, 2, 3, 4])
    def test_they_are_a_minibatch_together_and_each_has_every_groups_share(self, cells, n_ranks):
        mgvi = ranks.model(cells)
        whole = list(divided(mgvi, cells, 0, 1).minibatches(3))
        parts = zip(*(divided(mgvi, cells, r, n_ranks).minibatches(3) for r in range(n_ranks)))
        assert len({len(batch.group) % n_ranks for batch in whole}) > (n_ranks > 1)
        for batch, part in zip(whole, parts, strict=True):
            index = torch.cat([each.index for each in part])
            assert torch.equal(index.sort().values, batch.index.sort().values)
            n_bg = torch.stack([torch.bincount(each.group, minlength=3) for each in part])
            assert (n_bg.max(0).values - n_bg.min(0).values).max() <= 1
            assert sum(each.n_cells for each in part) == pytest.approx(n_ranks * batch.n_cells)

    @pytest.mark.parametrize("n_ranks", [2, 3, 4])
    def test_held_out_cells_are_each_in_one(self, cells, n_ranks):
        mgvi = ranks.model(cells)
        sizes = [
            sum(len(batch.group) for batch in divided(mgvi, cells, r, n_ranks).held_out(7))
            for r in range(n_ranks)
        ]
        assert sum(sizes) == len(divided(mgvi, cells, 0, 1).validation)
        assert max(sizes) - min(sizes) <= -(-sum(sizes) // 7)

    def test_a_rank_beyond_the_held_out_cells_has_none(self, cells):
        plan = TrainingPlan(batch_size=50, validation_fraction=0.01)
        setup = divided(ranks.model(cells), cells, 3, 4, plan)
        assert len(setup.validation) == 3 and not list(setup.held_out(7))

    def test_a_minibatch_of_fewer_cells_than_ranks_is_refused(self, cells):
        with pytest.raises(
            SettingsError, match=r"of 2 cells cannot be divided among 3 ranks.*size"
        ):
            divided(ranks.model(cells), cells, 0, 3, TrainingPlan(batch_size=2))

    @pytest.mark.parametrize("n_ranks", [2, 3])
    def test_the_mean_of_their_gradients_is_that_of_the_minibatch(self, cells, n_ranks):
        """Of cells, and of terms that are no cell's: effects of samples, the weights' prior."""
        adata = cells.copy()
        adata.obs["donor"] = [f"{group}-{n % 3}" for n, group in enumerate(adata.obs["group"])]
        mgvi = ranks.model(adata, sample_key="donor")
        setups = [divided(mgvi, adata, 0, 1)]
        setups += [divided(mgvi, adata, rank, n_ranks) for rank in range(n_ranks)]
        found = []
        for setup in setups:
            batch = next(iter(setup.minibatches(0)))
            mgvi.model.zero_grad(), mgvi.guide.zero_grad()
            with ranks.same_noise():
                loss = setup.elbo.differentiable_loss(mgvi.model, mgvi.guide, *batch)
            loss.backward()
            weights = [*mgvi.model.parameters(), *mgvi.guide.parameters()]
            found.append((loss.detach(), [each.grad.clone() for each in weights]))
        (loss, whole), *parts = found
        assert torch.allclose(torch.stack([part[0] for part in parts]).mean(), loss, rtol=1e-5)
        for each, of_parts in zip(whole, zip(*(part[1] for part in parts))):
            mean = torch.stack(of_parts).mean(0)
            assert (mean - each).abs().max() <= 1e-5 * each.abs().max()


def test_nobody_has_launched_this_process_and_torchrun_says_its_place(monkeypatch):
    assert launched() == (0, 1, 1)
    for name, value in {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert launched() == (0, 1, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert launched() == (3, 4, 2)


REFUSED = {
    "other_cells": "SettingsError: the 2 ranks were given different counts: start",
    "other_groups": "SettingsError: the 2 ranks were given different latents, groups: start",
    "other_genes": "SettingsError: the 2 ranks were given different genes: start",
    "other_plan": "SettingsError: the 2 ranks were given different plan.patience: start",
    "other_weights": "SettingsError: the 2 ranks were given different starting weights: start",
    "drifting": "TrainingError: the ranks no longer have the same weights guide.encoder.gain: a",
    "not_finite": "TrainingError: the loss became nan in epoch 2, step 3: the term",
    "estimated": "SettingsError: what several ranks need is not foretold: estimate in one process",
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Exit codes, errors, and what two ranks found of each thing, in one launch."""
    folder = tmp_path_factory.mktemp("two")
    return folder, *ranks.run(2, folder, "step", *REFUSED, "fit", "several")


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A training of which one rank was killed, and on which four ranks then went on."""
    folder = tmp_path_factory.mktemp("killed")
    died = ranks.run(2, folder, "dies")
    left = sorted(states(folder / "state"))
    (folder / "four").mkdir()
    copied = folder / "four" / "state"
    copied.mkdir()
    for file in (folder / "state").iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    return folder, died, left, ranks.run(4, folder / "four", "step", "fit")


def check_step(found, cells):
    mgvi = ranks.model(cells)
    alone = ranks.stepped(Trainer(mgvi, mgvi.read(cells), ranks.PLAN, "cpu"))
    index = torch.cat([each["index"] for each in found])
    assert torch.equal(index.sort().values, alone["index"].sort().values)
    loss = np.mean([each["loss"] for each in found])
    assert loss == pytest.approx(alone["loss"], rel=1e-5)
    for each in found:
        assert each["gradients"].keys() == alone["gradients"].keys()
        for name, gradient in alone["gradients"].items():
            gap = (each["gradients"][name] - gradient).abs().max()
            assert gap <= 1e-5 * gradient.abs().max(), name


def check_same_everywhere(found):
    first, *others = found
    for each in others:
        assert torch.equal(torch.stack(each["sums"]), torch.stack(first["sums"]))
        assert all(torch.equal(v, each["state"][k]) for k, v in first["state"].items())
        assert each["history"] == first["history"]
        assert each["seeds"].isdisjoint(first["seeds"])  # other noise
    assert [each["written"] > 0 for each in found] == [True] + [False] * len(others)


@pytest.mark.slow
class TestTwoRanks:
    def test_all_ends_well(self, two):
        assert two[1] == [0, 0], two[2]

    def test_a_step_is_that_of_one_process(self, two, cells):
        check_step(two[3]["step"], cells)

    def test_weights_are_equal_after_every_step_and_the_first_rank_writes(self, two):
        folder, _, errors, found = two
        check_same_everywhere(found["fit"])
        assert len(found["fit"][0]["sums"]) == 4 * ranks.PLAN.max_epochs
        assert sorted(states(folder / "state")) == [3, 4]
        assert ["epoch/s" in error for error in errors] == [True, False]

    def test_the_search_and_pruning_are_those_of_the_first(self, two):
        """They change which dimensions are active; the other rank has not looked."""
        state = two[3]["fit"][1]["state"]
        assert not state["active.dims_t"].all()

    def test_the_validation_loss_is_that_of_all_held_out_cells(self, two, cells):
        folder, _, _, found = two
        history = pd.DataFrame(found["fit"][0]["history"])
        mgvi = ranks.model(cells)
        state = torch.load(folder / "state" / "epoch_4.pt", weights_only=False)["objective"]
        for part, module in (("model.", mgvi.model), ("guide.", mgvi.guide)):
            mine = {k.removeprefix(part): v for k, v in state.items() if k.startswith(part)}
            module.load_state_dict(mine)
        data = mgvi.read(cells)
        held_out = data.subset(data.split(0.1, seed=0)[1])
        with ranks.same_noise():
            batch = held_out.rows(np.arange(len(held_out)))
            terms = WassersteinTraceELBO().terms(mgvi.model, mgvi.guide, *batch)
        terms.pop("decoder_prior")
        loss = sum(terms.values()).item() / len(held_out)
        assert loss == pytest.approx(history["validation"].iloc[-1], rel=1e-5)

    def test_the_first_epoch_has_the_loss_of_one_process(self, two, cells):
        """Of all cells: at equal noise, steps are equal but for rounding."""
        mgvi = ranks.model(cells)
        with ranks.same_noise():
            mgvi.fit(cells, ranks.PLAN, max_epochs=1, progress=False)
        first = pd.DataFrame(two[3]["fit"][0]["history"]).iloc[0]
        for name, value in mgvi.history.iloc[0].drop("kept").items():
            assert first[name] == pytest.approx(value, rel=1e-4), name

    def test_the_model_that_was_saved_is_that_of_all(self, two):
        loaded = MGVI.load(two[0] / "model")
        state = two[3]["fit"][1]["state"]
        assert all(torch.equal(v, state[k]) for k, v in ranks.state_of(loaded).items())

    def test_what_several_trainings_agree_on_is_the_same(self, two):
        first, second = (each["state"] for each in two[3]["several"])
        assert all(torch.equal(v, second[k]) for k, v in first.items())

    @pytest.mark.parametrize("what", REFUSED)
    def test_refused(self, two, what):
        assert [error.startswith(REFUSED[what]) for error in two[3][what]] == [True, True], two[3]


@pytest.mark.slow
class TestARankThatIsKilled:
    def test_the_other_says_so_and_there_is_a_checkpoint(self, killed):
        folder, (codes, _, found), left, _ = killed
        assert codes[1] == -9 and codes[0] == 0  # the helper catches our errors
        message = "TrainingError: rank 0 of 2 cannot go on, probably because another rank has ended"
        assert found["dies"][0].startswith(message) and "checkpoint=" in found["dies"][0]
        passed = (folder / "dies-0.pt").stat().st_mtime - (folder / "killed").stat().st_mtime
        assert passed < 60  # seconds
        assert left == [1, 2]

    def test_one_process_goes_on(self, killed, cells):
        mgvi = ranks.model(cells)
        mgvi.fit(cells, ranks.PLAN, checkpoint=killed[0] / "state", progress=False)
        four = pd.DataFrame(killed[3][2]["fit"][0]["history"])
        pd.testing.assert_frame_equal(four.iloc[:2, :-1], mgvi.history.iloc[:2, :-1])
        assert len(mgvi.history) == ranks.PLAN.max_epochs

    def test_four_ranks_go_on(self, killed, cells):
        codes, errors, found = killed[3]
        assert codes == [0] * 4, errors
        check_step(found["step"], cells)
        check_same_everywhere(found["fit"])
        assert len(found["fit"][0]["history"]["epoch"]) == ranks.PLAN.max_epochs
        assert found["fit"][0]["written"] == ranks.PLAN.max_epochs - ranks.DIES


@pytest.mark.slow
def test_the_command_line_writes_once(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    line = ["fit", tmp_path / "cells.h5ad", "--group-key", "group", "--epochs", "2", "--latents"]
    line += ["z:3", "t:2", "--out", tmp_path / "out.h5ad", "--model", tmp_path / "model", "--quiet"]
    processes = ranks.start(2, "-m", "pyro_mgvi", *line)
    said = [process.communicate(timeout=900) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "written to" in said[0][0] and not said[1][0]
    written, mgvi = anndata.read_h5ad(tmp_path / "out.h5ad"), MGVI.load(tmp_path / "model")
    np.testing.assert_array_equal(written.obsm["X_mgvi_z"], mgvi.latents(cells)["z"])
