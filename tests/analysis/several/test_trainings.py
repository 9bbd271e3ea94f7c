"""Several trainings: what most hold stays, what one holds is closed; resumed, refused, told."""

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fitting import PLAN, fitted, same, untrained
from helpers.masked import masked, masks_of, random_masks
from helpers.modalities import model, small

from pyro_mgvi import (
    MGVI,
    AdditiveDecoder,
    ComponentWarning,
    LogLinearDecoder,
    SearchSettings,
    SettingsError,
    SharedTrunk,
    TrainingInterrupted,
    TrainingPlan,
    pairwise,
    private,
    shared,
)
from pyro_mgvi.analysis.metrics import linear_cka, probe
from pyro_mgvi.analysis.several import trainings
from pyro_mgvi.analysis.several.agreement import in_words
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.training import Trainer
from pyro_mgvi.training.checkpoint import states


def several(adata, n_trainings=2, plan=PLAN, settings=None, **where):
    mgvi = untrained(adata, **(settings or {}))
    mgvi.fit(adata, plan, n_trainings=n_trainings, progress=False, **where)
    return mgvi


@pytest.fixture(scope="module")
def trained(adata):
    return several(adata)


def test_what_all_trainings_hold_stays_and_what_one_alone_holds_is_closed(monkeypatch):
    """The first group's program is in each training, noise of its own is in each training, too."""
    adata = clear_recipe(seed=0, n_cells=300, n_shared_genes=60, n_program_genes=60)
    program_n = (adata.obs["program"] == "P1").to_numpy()
    rng, kept = np.random.default_rng(0), []

    def told(program, sample):
        own_n = sample.group_n == 0
        score_n = np.where(program_n[sample.cells][own_n], 1.0, -1.0)
        sign, noise_nk = rng.choice([-1, 1]), rng.normal(size=(own_n.sum(), 2))
        first = np.full((len(sample), 10), np.nan)
        first[own_n] = 0.0
        first[own_n, 3:5] = noise_nk
        first[own_n, 7] = sign * score_n
        second = np.full((len(sample), 10), np.nan)
        second[~own_n] = 0.0
        second[~own_n, 0] = rng.normal(size=(~own_n).sum())
        loading_kg = rng.normal(size=(10, 120)) * 0.1
        loading_kg[7] = sign * np.linspace(-0.5, 1.0, 120)
        latents = {"z": rng.normal(size=(len(sample), 10)), "t_group1": first, "t_group2": second}
        kept.append(trainings.Told(latents, dict.fromkeys(latents, loading_kg)))
        return kept[-1]

    monkeypatch.setattr(trainings, "_told", told)
    mgvi = MGVI.from_anndata(adata, "group")
    plan = TrainingPlan(max_epochs=1, prune_below=0.0)
    found = mgvi.fit(adata, plan, n_trainings=3, progress=False)
    assert found.latents["in_use"].tolist() == [10, 1, 0]
    own = (adata.obs["group"] == "group1").to_numpy()
    t_n = mgvi.latents(adata)["t_group1"].to_numpy()[own, 0]
    assert abs(np.corrcoef(t_n, program_n[own])[0, 1]) > 0.5
    table = mgvi.agreement.set_index("latent")
    row, empty = table.loc["t_group1"], table.loc["t_group2"]
    assert row["trainings"] == 3 and row["mean_recovery"] > 0.25 and row["held"] == "3, 3, 3"
    assert empty["dimension"] == 0 and empty["held"] == "1, 1, 1" and empty["found_by"] == 0
    assert "t_group2: empty; the other trainings have 1, 1, 1 dimensions" in str(found)


@pytest.mark.slow
def test_the_same_seed_gives_bit_equal_latents_and_nothing_of_the_caller_changes(adata, trained):
    before = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    again = several(adata)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert same(again.latents(adata), trained.latents(adata))
    pd.testing.assert_frame_equal(again.agreement, trained.agreement)
    assert not same(fitted(adata).latents(adata), trained.latents(adata))
    assert not trained.model.training and trained.plan == PLAN
    assert trained.history["epoch"].tolist() == [1, 2, 3]


def test_one_training_is_what_it_was(adata):
    single = several(adata, n_trainings=1)
    assert same(single.latents(adata), fitted(adata).latents(adata))
    assert not len(single.agreement) and not [*in_words(single.agreement)]


def test_the_agreement_has_a_row_for_each_dimension_in_use(adata, trained):
    table = trained.agreement.query("dimension > 0")
    used = [
        (copy.key, int(dim) + 1)
        for copy in trained.families.copies
        for dim in torch.where(trained.model.active.of(copy))[0]
    ]
    assert [*zip(table["latent"], table["dimension"])] == used
    assert (table["trainings"] == 2).all() and table["found_by"].between(0, 2).all()
    assert (table["worst_recovery"] <= table["mean_recovery"]).all()
    assert table[["mean_recovery", "worst_recovery"]].stack().between(0, 1).all()
    words = [*in_words(trained.agreement)]
    assert all(text in str(trained.summary(adata)) for text in words)
    assert all(text in trained.summary(adata)._repr_html_() for text in words)


def test_the_agreement_is_saved(adata, trained, tmp_path):
    trained.save(tmp_path / "model")
    loaded = MGVI.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.agreement, trained.agreement)
    assert str(loaded.summary(adata)) == str(trained.summary(adata))
    fitted(adata).save(tmp_path / "single")
    assert not len(MGVI.load(tmp_path / "single").agreement)


@pytest.mark.slow
def test_a_further_training_has_no_agreement(adata):
    mgvi = several(adata)
    mgvi.fit(adata, PLAN, max_epochs=1, progress=False)
    assert not len(mgvi.agreement) and len(mgvi.history) == 4


def interrupt(monkeypatch, number):
    """Let the user press Ctrl-C in the third epoch of a training, from 0."""
    epoch, run, begun = Trainer._epoch, Trainer.run, []

    def counted(self, progress=True):
        begun.append(self)
        return run(self, progress)

    def interrupted(self, n):
        if len(begun) == number + 1 and n == 2:
            raise KeyboardInterrupt
        epoch(self, n)

    monkeypatch.setattr(Trainer, "run", counted)
    monkeypatch.setattr(Trainer, "_epoch", interrupted)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_interrupted_fit_keeps_what_is_done_and_is_resumed(
    adata, trained, tmp_path, monkeypatch, number
):
    mgvi, folder = untrained(adata), tmp_path / "state"
    interrupt(monkeypatch, number)
    with pytest.raises(TrainingInterrupted, match="go on") as caught:
        mgvi.fit(adata, PLAN, n_trainings=2, checkpoint=folder, progress=False)
    if number < 2:
        assert f"in training {number + 1} of 3" in str(caught.value)
    assert mgvi.interrupted and mgvi.trained and not mgvi.model.training
    assert len(mgvi.history) == (3 if number == 1 else 2)  # of the first, or of the last
    assert len(mgvi.agreement) == 0
    monkeypatch.undo()
    begun = []
    epoch = Trainer._epoch
    monkeypatch.setattr(Trainer, "_epoch", lambda self, n: (begun.append(n), epoch(self, n))[1])
    resumed = several(adata, checkpoint=folder)
    assert len(begun) == 9 - 3 * number - 2
    assert same(resumed.latents(adata), trained.latents(adata))
    pd.testing.assert_frame_equal(resumed.agreement, trained.agreement)


def test_an_interruption_between_trainings_keeps_the_first(adata, monkeypatch):
    def interrupted(program, sample):
        raise KeyboardInterrupt

    monkeypatch.setattr(trainings, "_told", interrupted)
    mgvi = untrained(adata)
    with pytest.raises(TrainingInterrupted, match="has the weights of the first one"):
        mgvi.fit(adata, PLAN, n_trainings=2, progress=False)
    assert mgvi.interrupted and len(mgvi.history) == 3 and not mgvi.model.training


def test_an_interruption_in_the_first_epoch_leaves_the_model_as_it_was(adata, monkeypatch):
    mgvi = untrained(adata)
    before = {name: value.clone() for name, value in mgvi.guide.state_dict().items()}

    def interrupted(self, n):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_epoch", interrupted)
    with pytest.raises(TrainingInterrupted, match="the model is as it was before"):
        mgvi.fit(adata, PLAN, n_trainings=2, progress=False)
    assert all(torch.equal(value, before[name]) for name, value in mgvi.guide.state_dict().items())
    assert not mgvi.trained and not mgvi.model.training and not mgvi.interrupted


@pytest.mark.slow
def test_what_cannot_be_is_refused_before_any_work(adata, tmp_path):
    with pytest.raises(SettingsError, match="n_trainings must be at least 1"):
        several(adata, n_trainings=0)
    with pytest.raises(SettingsError, match="n_trainings must be a whole number"):
        several(adata, n_trainings="3")
    with pytest.raises(SettingsError, match="begins anew, and this model is trained"):
        fitted(adata).fit(adata, n_trainings=2)
    with pytest.warns(ComponentWarning, match="cannot start"):
        fixed = untrained(adata, decoder=AdditiveDecoder)
    with pytest.raises(SettingsError, match="StartsDimensions"):
        fixed.fit(adata, PLAN, n_trainings=2)
    several(adata, n_trainings=1, checkpoint=tmp_path / "single")
    with pytest.raises(SettingsError, match="of another training, of a single one"):
        several(adata, checkpoint=tmp_path / "single")
    several(adata, checkpoint=tmp_path / "several")
    assert {path.name for path in (tmp_path / "several").iterdir()} == {
        "epoch_2.pt", "epoch_3.pt", "training_1", "training_2"
    }  # fmt: skip
    for n_trainings in (1, 3):
        with pytest.raises(SettingsError, match="another training, with other n_trainings"):
            several(adata, n_trainings=n_trainings, checkpoint=tmp_path / "several")
    assert not (tmp_path / "several/training_3").exists()  # nothing was trained before that
    with pytest.raises(SettingsError, match="holds a training of 3 epochs already"):
        several(adata, checkpoint=tmp_path / "several", resume=False)
    for file in states(tmp_path / "several").values():
        file.unlink()  # the others alone are left
    with pytest.raises(SettingsError, match="training_1 holds a training of 3 epochs already"):
        several(adata, checkpoint=tmp_path / "several", resume=False)


SEARCH = SearchSettings(epoch=1, hand_over=2, least_cells=20)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"latents": (shared(2), private(2), pairwise(1))},
        {"latents": shared(3)},
        {"encoder": SharedTrunk, "decoder": LogLinearDecoder},
        {"observed_library": True, "own_weight": 1.0},
    ],
)
def test_variants_are_trained_several_times(adata, settings):
    for plan in (replace(PLAN, search=SEARCH), replace(PLAN, search=None)):
        mgvi = several(adata, plan=plan, settings=settings)
        assert set(mgvi.agreement["latent"]) <= {copy.key for copy in mgvi.families.copies}
        assert "z" in set(mgvi.agreement["latent"])


@pytest.mark.slow
def test_genes_of_some_groups(adata):
    has_bg = random_masks(np.random.default_rng(0), 3, adata.n_vars)
    of_some = masked(adata, has_bg)
    masks = {"feature_masks": masks_of(of_some)}
    mgvi = several(of_some, plan=replace(PLAN, search=SEARCH), settings=masks)
    assert "z" in set(mgvi.agreement["latent"])


@pytest.mark.slow
def test_modalities():
    mdata = small(n=80)
    mgvi = model(mdata)
    mgvi.fit(mdata, replace(PLAN, search=SEARCH), n_trainings=2, progress=False)
    assert {"z", "rna", "prot"} <= set(mgvi.agreement["latent"])


@pytest.mark.slow
def test_counts_on_disk(adata, tmp_path):
    adata.write_h5ad(tmp_path / "x.h5ad")
    on_disk = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    found = several(on_disk, plan=replace(PLAN, search=SEARCH))
    assert same(found.latents(on_disk), several(adata, plan=found.plan).latents(adata))


@pytest.mark.slow
def test_two_fits_with_other_seeds_find_the_programs_alike():
    adata = clear_recipe(seed=0, n_cells=600, n_shared_genes=300, n_program_genes=100)
    own = (adata.obs["group"] == "group1").to_numpy()
    found = []
    for seed in (0, 1):
        mgvi = MGVI.from_anndata(adata, "group", seed=seed)
        mgvi.fit(adata, n_trainings=2, progress=False)
        latents = mgvi.latents(adata)
        found.append({name: latents[name].to_numpy() for name in ("z", "t_group1")})
        t_nk = found[-1]["t_group1"][own]
        assert probe(t_nk, adata.obs["program"].to_numpy(str)[own]) > 0.9
        assert (mgvi.agreement.query("latent == 't_group1'")["found_by"] == 2).all()
    assert linear_cka(found[0]["t_group1"][own], found[1]["t_group1"][own]) > 0.9
    assert linear_cka(found[0]["z"], found[1]["z"]) > 0.93
