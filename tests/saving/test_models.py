"""Saved models: they come back the same, and nothing in their files is run or lost."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from helpers.fitting import PLAN, fitted, same, untrained

from pyro_mgvi import (
    MGVI,
    PAPER,
    DataError,
    JointDecoder,
    ModelFileError,
    SearchSettings,
    SettingsError,
    SharedTrunk,
    private,
    shared,
    subsets,
)
from pyro_mgvi.core import Absent, InitialValues, SameAsOwn
from pyro_mgvi.saving import components
from pyro_mgvi.training import TrainingPlan

FORMAT_3 = Path(__file__).parents[1] / "data" / "format_3"


@pytest.fixture(scope="module")
def trained(adata):
    return fitted(adata)


def edited(path, **changes):
    """Change the settings of a saved model."""
    settings = json.loads((path / "settings.json").read_text())
    (path / "settings.json").write_text(json.dumps(settings | changes))


def without_digests(path):
    """Let the other files be any, as those of development versions."""
    edited(path, files=None)


@pytest.mark.slow
def test_save_and_load_in_a_new_process(adata, trained, tmp_path):
    trained.save(tmp_path / "model")
    adata.write_h5ad(tmp_path / "data.h5ad")
    code = (
        "import sys, anndata, numpy, pyro_mgvi\n"
        "model = pyro_mgvi.MGVI.load(sys.argv[1] + '/model')\n"
        "latents = model.latents(anndata.read_h5ad(sys.argv[1] + '/data.h5ad'))\n"
        "numpy.savez(sys.argv[1] + '/latents.npz', **latents)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert same(dict(np.load(tmp_path / "latents.npz")), trained.latents(adata))


def test_loaded_models_keep_settings_and_reorder_genes(adata, trained, tmp_path):
    trained.save(tmp_path / "m")
    trained.save(tmp_path / "m")  # a saved model may be replaced
    assert [file.name for file in tmp_path.iterdir()] == ["m"]
    loaded = MGVI.load(tmp_path / "m")
    assert loaded.schema == trained.schema and loaded.own_weight == trained.own_weight
    assert loaded.plan == trained.plan == PLAN
    pd.testing.assert_frame_equal(loaded.history, trained.history, check_exact=True)
    shuffled = adata[::-1, np.random.default_rng(0).permutation(adata.n_vars)]
    back = loaded.latents(shuffled)
    for key, value in trained.latents(adata).items():
        pd.testing.assert_frame_equal(back[key][::-1], value, rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match="lack 7 of its genes"):
        loaded.latents(adata[:, 7:])
    loaded.fit(adata, max_epochs=1, progress=False)
    assert list(loaded.history["epoch"]) == [1, 2, 3, 4]


@pytest.mark.slow
def test_everything_that_is_set_comes_back(adata, tmp_path):
    latents = (
        shared(3, prior=dist.StudentT(5.0, 0.0, 1.5)),
        private(2, foreign=SameAsOwn(), prior=dist.Laplace(0.0, 1.0)),
        subsets("few", {"first": ["group1"], "rest": ["group2", "group3"]}, 1, Absent()),
    )
    mgvi = untrained(
        adata,
        latents=latents,
        decoder=partial(JointDecoder, hidden=8),
        own_weight={"t": 2.0},
        foreign_sample=7,
        observed_library=True,
        seed=3,
    )
    plan = TrainingPlan(max_epochs=2, search=SearchSettings(epoch=1, clusters=4), seed=5)
    mgvi.fit(adata, plan, progress=False)
    mgvi.save(tmp_path / "m")
    loaded = MGVI.load(tmp_path / "m")
    for ours, theirs in zip(mgvi.families, loaded.families, strict=True):
        assert replace(ours, prior=None) == replace(theirs, prior=None)
        assert type(ours.prior) is type(theirs.prior)
    assert loaded.families["z"].prior.df == 5.0 and loaded.families["z"].prior.scale == 1.5
    assert [copy.key for copy in loaded.families.copies] == [
        copy.key for copy in mgvi.families.copies
    ]
    assert loaded.given_weight == {"t": 2.0} and loaded.own_weight == mgvi.own_weight
    assert loaded.plan == plan and loaded.seed == 3
    assert loaded.guide.foreign_sample == 7 and loaded.model.observed_library
    assert components.describe(loaded.components["decoder"]) == {
        "class": "JointDecoder",
        "settings": {"hidden": 8},
        "built_in": True,
    }
    assert same(loaded.latents(adata, draw=0), mgvi.latents(adata, draw=0))


def test_an_untrained_model_is_saved_too(adata, tmp_path):
    mgvi = untrained(adata, own_weight=np.float32(0.5))
    mgvi.save(tmp_path / "m")
    loaded = MGVI.load(tmp_path / "m")
    assert loaded.plan is None and not len(loaded.history)
    assert loaded.own_weight == {"z": 0.5, "t": 0.5}
    assert same(loaded.latents(adata), mgvi.latents(adata))


def test_the_paper_s_plan_is_saved(adata, tmp_path):
    mgvi = untrained(adata, **PAPER.settings)
    plan = replace(PAPER.plan, max_epochs=1)
    mgvi.fit(adata, plan, progress=False)
    mgvi.save(tmp_path / "m")
    assert MGVI.load(tmp_path / "m").plan == plan


def test_files_that_do_not_fit_are_refused(trained, tmp_path):
    trained.save(tmp_path / "m")
    settings = json.loads((tmp_path / "m" / "settings.json").read_text())

    def broken(**changes):
        (tmp_path / "m" / "settings.json").write_text(json.dumps(settings | changes))
        return MGVI.load(tmp_path / "m")

    with pytest.raises(ModelFileError, match=r"format 99.*reads formats 3 and 4"):
        broken(format=99)
    with pytest.raises(ModelFileError, match=r"'Evil'.*components=\[Evil\]"):
        broken(decoder={"class": "Evil", "settings": {}})
    with pytest.raises(ModelFileError, match="do not fit"):
        broken(latents=settings["latents"][:1], own_weight={})
    with pytest.raises(ModelFileError, match="damaged"):
        broken(schema={})
    with pytest.raises(ModelFileError, match="damaged"):
        broken(plan={"epochs": 3})
    with pytest.raises(ModelFileError, match="unknown prior 'Evil'"):
        broken(latents=[settings["latents"][0] | {"prior": {"class": "Evil", "settings": {}}}])
    (tmp_path / "m" / "settings.json").write_text("{")
    with pytest.raises(ModelFileError, match="damaged"):
        MGVI.load(tmp_path / "m")
    with pytest.raises(ModelFileError, match="not a saved model"):
        MGVI.load(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious.txt").write_text("keep")
    with pytest.raises(ModelFileError, match="exists and is not a saved model"):
        trained.save(tmp_path / "other")
    assert (tmp_path / "other" / "precious.txt").read_text() == "keep"


def test_weights_that_hold_code_are_not_run(trained, tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "owned"), "w")

    trained.save(tmp_path / "m")
    without_digests(tmp_path / "m")
    torch.save({"model": Evil()}, tmp_path / "m" / "weights.pt")
    with pytest.raises(ModelFileError, match="damaged"):
        MGVI.load(tmp_path / "m")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["weights.pt", "history.csv"])
def test_a_file_of_another_model_is_refused(adata, trained, tmp_path, name):
    trained.save(tmp_path / "m")
    fitted(adata, seed=3).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / name, tmp_path / "m" / name)
    with pytest.raises(ModelFileError, match=rf"m.{name} is missing, damaged or of another model"):
        MGVI.load(tmp_path / "m")
    without_digests(tmp_path / "m")
    MGVI.load(tmp_path / "m")
    trained.save(tmp_path / "m")
    (tmp_path / "m" / name).unlink()
    with pytest.raises(ModelFileError, match=name):
        MGVI.load(tmp_path / "m")


def test_settings_that_are_not_what_was_saved_are_refused(trained, tmp_path):
    trained.save(tmp_path / "m")
    schema = json.loads((tmp_path / "m" / "settings.json").read_text())["schema"]
    genes, groups = schema["genes"], schema["groups"]
    nan = {"z": float("nan"), "t": 1.0}
    for message, changes in {
        f"{genes[0]} is there twice": {"schema": schema | {"genes": [genes[0], *genes[:-1]]}},
        "group1 is there twice": {"schema": schema | {"groups": [groups[0], *groups[:-1]]}},
        "drop_empty must be True or False": {"schema": schema | {"drop_empty": "no"}},
        "trained must be True or False": {"trained": "no"},
        "interrupted must be True or False": {"interrupted": "no"},
        "own_weight of z must be a number": {"own_weight": nan},
    }.items():
        trained.save(tmp_path / "m")
        edited(tmp_path / "m", **changes)
        with pytest.raises(ModelFileError, match=message) as caught:
            MGVI.load(tmp_path / "m")
        assert str(tmp_path / "m") in str(caught.value)
    trained.save(tmp_path / "m")
    without_digests(tmp_path / "m")
    (tmp_path / "m" / "history.csv").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"history.csv is damaged: it is empty"):
        MGVI.load(tmp_path / "m")


def test_a_save_that_fails_leaves_the_old_model(adata, trained, tmp_path, monkeypatch):
    trained.save(tmp_path / "m")

    def full(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ModelFileError, match=r"cannot write the model to .*m: no space left"):
        untrained(adata).save(tmp_path / "m")
    assert [file.name for file in tmp_path.iterdir()] == ["m"]
    assert same(MGVI.load(tmp_path / "m").latents(adata), trained.latents(adata))


@pytest.mark.parametrize("name", ["MyDecoder", "JointDecoder"])
def test_a_user_s_own_component_is_saved_by_name(adata, tmp_path, name):
    class MyDecoder(JointDecoder):
        pass

    MyDecoder.__name__ = name
    mgvi = untrained(adata, decoder=partial(MyDecoder, hidden=8))
    mgvi.save(tmp_path / "m")
    loaded = MGVI.load(tmp_path / "m", components=[MyDecoder])
    assert isinstance(loaded.model.decoder, MyDecoder)
    assert same(loaded.latents(adata), mgvi.latents(adata))
    with pytest.raises(ModelFileError, match=rf"components=\[{name}\]"):
        MGVI.load(tmp_path / "m")


def test_a_user_s_own_prior_is_saved_by_name(adata, tmp_path):
    @dataclass(frozen=True)
    class Wide:
        scale: float

        def __call__(self, own, member):
            wide = dist.Normal(torch.zeros(own.event_shape), self.scale).to_event(1)
            return dist.MaskedMixture(member, wide.expand(member.shape), own)

    mgvi = untrained(adata, latents=(shared(3), private(2, foreign=Wide(3.0))))
    mgvi.save(tmp_path / "m")
    loaded = MGVI.load(tmp_path / "m", components=[Wide])
    assert loaded.families["t"].foreign == Wide(3.0)


def test_what_cannot_be_described_is_not_saved(adata, tmp_path):
    def build(latents, initial, n_outputs):
        return JointDecoder(latents, initial, n_outputs)

    for decoder in (build, partial(build)):
        with pytest.raises(SettingsError, match="cannot be saved"):
            untrained(adata, decoder=decoder).save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


class Widths(JointDecoder):
    def __init__(self, latents, initial, n_outputs, widths):
        super().__init__(latents, initial, n_outputs, hidden=widths[0])


@dataclass
class Doubled:
    scale: float

    def __post_init__(self):
        self.scale *= 2

    def __call__(self, own, member):
        return SameAsOwn()(own, member)


def of_the_same_name():
    class Widths(SharedTrunk):
        pass

    return Widths


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"decoder": partial(Widths, widths={0: 8})}, r"^decoder cannot be saved.*'0': 8"),
        (
            {"decoder": partial(Widths, widths=(8,)), "encoder": of_the_same_name()},
            "^(encoder|decoder) cannot be saved.*name of its own",
        ),
        (
            {"latents": (shared(3), private(2, foreign=Doubled(1.0)))},
            "^foreign of latent 't' cannot be",
        ),
    ],
)
def test_what_would_come_back_as_another_is_not_saved(adata, tmp_path, settings, message):
    with pytest.raises(SettingsError, match=message):
        untrained(adata, **settings).save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


# A model of format 3 and what it said, written by the version before format 4:
#
#   adata = clear_recipe(seed=0, n_cells=40, n_shared_genes=15, n_program_genes=5)
#   adata.obs["donor"] = np.where(np.arange(40) % 2, "d1", "d2")
#   MGVI.from_anndata(adata, "group", batch_key="donor", latents=(shared(3), private(2)),
#       encoder=partial(SeparateEncoders, hidden=4, foreign_sample=8),
#       decoder=partial(JointDecoder, hidden=4), own_weight={"z": 0.3})
#   .fit(adata, max_epochs=30, batch_size=8, learning_rate=0.02, search_after=None, relevance=0.08)


@pytest.fixture(scope="module")
def format_3():
    """Return the cells, and what the version that saved the model said of them."""
    said = dict(np.load(FORMAT_3 / "latents.npz"))
    counts, genes = said.pop("counts"), pd.Index(said.pop("genes"))
    obs = pd.DataFrame({name: pd.Categorical(said.pop(name)) for name in ("group", "donor")})
    obs.index = obs.index.astype(str)
    return ad.AnnData(counts, obs, pd.DataFrame(index=genes)), said


def assert_says(mgvi, adata, said):
    """Compare all that the old version said; only the last bits may depend on the machine."""
    found = {f"latents/{key}": value for key, value in mgvi.latents(adata).items()}
    found |= {f"encoded/{key}": value for key, value in mgvi.latents(adata, "encode").items()}
    found["expression"] = mgvi.normalized_expression(adata)
    found["expression_shared"] = mgvi.normalized_expression(adata, latents="z")
    assert found.keys() == said.keys()
    for key, value in found.items():
        np.testing.assert_allclose(value, said[key], rtol=1e-5, atol=1e-6, err_msg=key)


def test_a_model_of_format_3_says_the_same(format_3):
    adata, said = format_3
    loaded = MGVI.load(FORMAT_3)
    assert_says(loaded, adata, said)
    assert loaded.model.active["z"].tolist() == [[False, True, False]]
    assert loaded.model.active["t"].tolist() == [[True, True], [False, True]]
    assert loaded.guide.foreign_sample == 8 and loaded.guide.encoder.hidden == 4
    assert loaded.given_weight == {"z": 0.3}
    assert loaded.own_weight["t"] == pytest.approx(0.81 * 2)  # 20 cells of a group, 20 genes
    assert loaded.plan is None and len(loaded.history) == 30


def test_a_model_of_format_3_goes_on_and_is_saved_in_the_new_one(format_3, tmp_path):
    adata, said = format_3
    loaded = MGVI.load(FORMAT_3)
    loaded.save(tmp_path / "m")
    assert json.loads((tmp_path / "m" / "settings.json").read_text())["format"] == 4
    assert_says(MGVI.load(tmp_path / "m"), adata, said)
    loaded.fit(adata, TrainingPlan(batch_size=8, search=None), max_epochs=2, progress=False)
    assert list(loaded.history["epoch"]) == [*range(1, 31), 31, 32]
    assert loaded.history["kept"].sum() == 1 and loaded.history["kept"].iloc[-2:].any()
    assert loaded.history["training"].tolist() == [1] * 30 + [2] * 2
    assert loaded.model.active["z"].tolist() == [[False, True, False]]


def prior_of_t(path, foreign):
    """Give the saved latent t another prior for foreign cells."""
    latents = json.loads((path / "settings.json").read_text())["latents"]
    assert latents[1]["name"] == "t"
    edited(path, latents=[latents[0], latents[1] | {"foreign": foreign}])


def test_davison_s_prior_of_format_3_is_that_of_the_owners(format_3, tmp_path):
    adata, said = format_3
    shutil.copytree(FORMAT_3, tmp_path / "m")
    prior_of_t(tmp_path / "m", {"class": "Davison", "settings": {}})
    loaded = MGVI.load(tmp_path / "m")
    assert loaded.families["t"].foreign == SameAsOwn()
    assert_says(loaded, adata, said)


def test_a_dirac_away_from_zero_of_format_3_is_refused(tmp_path):
    shutil.copytree(FORMAT_3, tmp_path / "m")
    prior_of_t(tmp_path / "m", {"class": "Dirac", "settings": {"value": 1.0}})
    with pytest.raises(ModelFileError, match=r"'t' has a Dirac prior away from zero.*train"):
        MGVI.load(tmp_path / "m")


@pytest.mark.slow
def test_sizes_that_the_weights_do_not_have_are_refused_before_anything_is_made(
    trained, tmp_path, monkeypatch
):
    trained.save(tmp_path / "m")
    settings = json.loads((tmp_path / "m" / "settings.json").read_text())
    latent, *others = settings["latents"]
    schema, huge = settings["schema"], 10**9

    def never(*args, **kwargs):
        raise AssertionError("a model was made")

    monkeypatch.setattr(InitialValues, "blank", never)
    for changes, message in (
        ({"latents": [latent | {"dim": huge}, *others]}, "dims_z is .* settings say .*1000000000"),
        ({"latents": [latent | {"subsets": latent["subsets"] * 1000}, *others]}, "dims_z"),
        ({"schema": schema | {"genes": [str(i) for i in range(10**6)]}}, "input_g is"),
        ({"schema": schema | {"genes": huge}}, "damaged"),
        ({"schema": schema | {"batches": list("abc")}}, "log_library_b2 is"),
        ({"decoder": {"class": "JointDecoder", "settings": {"hidden": huge}}}, "hidden=1000000000"),
        ({"encoder": {"class": "SharedTrunk", "settings": {"hidden": huge}}}, "hidden=1000000000"),
    ):
        edited(tmp_path / "m", **(settings | changes))
        with pytest.raises(ModelFileError, match=message) as caught:
            MGVI.load(tmp_path / "m")
        assert "\n" not in str(caught.value)


def test_settings_that_build_no_model_are_refused(trained, tmp_path):
    trained.save(tmp_path / "m")
    settings = json.loads((tmp_path / "m" / "settings.json").read_text())
    latents = settings["latents"]
    for changes in (
        {"decoder": {"class": "JointDecoder", "settings": {"hidden": -1}}},
        {"decoder": {"class": "JointDecoder", "settings": {"hidden": "many"}}},
        {"decoder": {"class": "JointDecoder", "settings": {"hiden": 8}}},
        {"decoder": {"class": "ZINB", "settings": {}}},
        {"latents": [latents[0] | {"dim": "3"}, latents[1]]},
        {"latents": "z:3"},
        {"given_weight": {"u": 1.0}},
        {"seed": "zero"},
        {"foreign_sample": -4},
        {"schema": settings["schema"] | {"groups": ["a", "b"]}},
    ):
        edited(tmp_path / "m", **(settings | changes))
        with pytest.raises(ModelFileError) as caught:
            MGVI.load(tmp_path / "m")
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value), changes
    for text in ("[" * 100_000, "\xff", "[]", "7", "null", '{"format": []}'):
        (tmp_path / "m" / "settings.json").write_text(text, encoding="latin-1")
        with pytest.raises(ModelFileError) as caught:
            MGVI.load(tmp_path / "m")
        assert "\n" not in str(caught.value)


def test_weights_that_are_none_are_refused(trained, tmp_path):
    trained.save(tmp_path / "m")
    without_digests(tmp_path / "m")
    good = torch.load(tmp_path / "m" / "weights.pt", weights_only=True)
    some = next(iter(good["guide"]))
    for wrong in (
        {},
        [1, 2],
        {"model": {}, "guide": {}},
        {"model": good["model"]},
        good | {"guide": {k: v for k, v in good["guide"].items() if k != some}},
        good | {"guide": good["guide"] | {some: "text"}},
        good | {"guide": good["guide"] | {"input_g": torch.zeros(1).expand(10**12)}},
    ):
        torch.save(wrong, tmp_path / "m" / "weights.pt")
        with pytest.raises(ModelFileError) as caught:
            MGVI.load(tmp_path / "m")
        assert "\n" not in str(caught.value)


def test_a_folder_that_holds_more_than_a_model_is_not_replaced(trained, tmp_path):
    trained.save(tmp_path / "m")
    (tmp_path / "m" / "notes.txt").write_text("mine")
    with pytest.raises(ModelFileError, match=r"holds more than a saved model \(notes.txt\)"):
        trained.save(tmp_path / "m")
    assert (tmp_path / "m" / "notes.txt").read_text() == "mine"
    assert len(MGVI.load(tmp_path / "m").history) == 3


def test_whether_training_was_interrupted_is_saved(adata, tmp_path):
    mgvi = untrained(adata)
    for interrupted in (True, False):
        mgvi.interrupted = interrupted
        mgvi.save(tmp_path / "m")
        assert MGVI.load(tmp_path / "m").interrupted is interrupted
    assert MGVI.load(FORMAT_3).interrupted is False


def test_a_model_keeps_its_samples_and_one_without_the_entry_has_none(adata, tmp_path):
    adata = adata.copy()
    adata.obs["donor"] = [f"donor{i % 4}" for i in range(adata.n_obs)]
    fitted(adata, sample_key="donor").save(tmp_path / "model")
    assert MGVI.load(tmp_path / "model").schema.sample_key == "donor"
    path = tmp_path / "model" / "settings.json"
    settings = json.loads(path.read_text())
    del settings["schema"]["sample_key"]  # as models were written before there were samples
    path.write_text(json.dumps(settings))
    earlier = MGVI.load(tmp_path / "model")
    assert earlier.schema.sample_key is None and set(earlier.read(adata).sample_n) == {""}
