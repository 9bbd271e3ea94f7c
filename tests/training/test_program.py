"""A program knows whether it was trained, reads data from anywhere, and refuses what is none."""

import copy
import pickle
from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from helpers.fitting import LATENTS, fitted, untrained
from pyro.infer import SVI
from scipy import sparse

from pyro_mgvi import (
    MGVI,
    NB,
    DataError,
    DataWarning,
    GroupedCounts,
    JointDecoder,
    LogLinearDecoder,
    SettingsError,
    TrainingPlan,
    UntrainedWarning,
)
from pyro_mgvi.criticism import held_out, predictive_checks, to_arviz

BRIEF = TrainingPlan(max_epochs=1, batch_size=64, search=None)

QUESTIONS = {
    "latents": lambda m, a, _: m.latents(a),
    "write_latents": lambda m, a, _: m.write_latents(a.copy()),
    "normalized_expression": lambda m, a, _: m.normalized_expression(a, genes="shared_1"),
    "expression_draws": lambda m, a, _: m.expression_draws(a, genes="shared_1", n_draws=2),
    "differential_expression": lambda m, a, _: m.differential_expression(
        a, "group1", "group2", n_draws=4
    ),
    "rank_genes": lambda m, a, _: m.rank_genes(a, "group1", calibration=False),
    "loadings": lambda m, a, _: m.loadings("z"),
    "held_out": lambda m, a, _: held_out(m, a, n_draws=2, progress=False),
    "predictive_checks": lambda m, a, _: predictive_checks(m, a, n_draws=20, progress=False),
    "to_arviz": lambda m, a, _: to_arviz(m, a[:5], n_draws=2, progress=False),
    "save": lambda m, a, folder: m.save(folder / "model"),
}


@pytest.mark.slow
def test_weights_and_contexts_without_enough_digits_are_refused(adata, mgvi):
    def moved(change):
        other = copy.deepcopy(mgvi)
        change(other.model), change(other.guide)
        return other

    results = [lambda m: m.latents(adata), lambda m: m.fit(adata, max_epochs=1, progress=False)]
    for ask in results:
        with pytest.raises(SettingsError, match="bfloat16: make both float32"):
            ask(moved(lambda part: part.bfloat16()))
        with pytest.raises(SettingsError, match="'meta', which holds no numbers"):
            ask(moved(lambda part: part.to("meta")))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with pytest.raises(SettingsError, match="autocast is on"):
                ask(mgvi)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(SettingsError, match="autocast is on"):
            MGVI.from_anndata(adata, "group")
    with torch.device("meta"), pytest.raises(SettingsError, match="default device is 'meta'"):
        MGVI.from_anndata(adata, "group")
    frozen = moved(lambda part: part.requires_grad_(False))
    with pytest.raises(SettingsError, match="no weight can change"):
        frozen.fit(adata, max_epochs=1, progress=False)


def test_a_diagnosis_of_an_untrained_model_says_so(adata):
    with pytest.warns(UntrainedWarning) as caught:
        untrained(adata).diagnose(adata, plan=BRIEF, progress=False)
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore::pyro_mgvi.ChainDiagnosticsWarning")
@pytest.mark.parametrize("question", QUESTIONS)
def test_an_untrained_model_says_so_once(adata, tmp_path, question):
    mgvi = untrained(adata, decoder=LogLinearDecoder)
    with pytest.warns(UntrainedWarning, match="not trained.*call fit first") as caught:
        QUESTIONS[question](mgvi, adata, tmp_path)
    said = [each for each in caught if each.category is UntrainedWarning]
    assert len(said) == 1 and said[0].filename == __file__


def by_svi(mgvi, adata):
    setup = mgvi.training_setup(adata, BRIEF)
    svi = SVI(setup.model, setup.guide, pyro.optim.Adam({"lr": 1e-3}), loss=setup.elbo)
    svi.step(*next(iter(setup.minibatches(0))))
    setup.finish()


def by_hand(mgvi, adata):
    setup = mgvi.training_setup(adata, BRIEF)
    weights = [*setup.model.parameters(), *setup.guide.parameters()]
    setup.elbo.differentiable_loss(
        setup.model, setup.guide, *next(iter(setup.minibatches(0)))
    ).backward()
    torch.optim.SGD([w for w in weights if w.grad is not None], lr=1e-6).step()
    setup.finish()


def by_fit(mgvi, adata):
    mgvi.fit(adata, BRIEF, progress=False)


@pytest.mark.filterwarnings("error:the model is not trained")
@pytest.mark.parametrize("train", [by_fit, by_svi, by_hand])
def test_whatever_trains_a_model_it_is_trained(adata, tmp_path, train):
    mgvi = untrained(adata)
    assert not mgvi.trained
    train(mgvi, adata)
    assert mgvi.trained
    mgvi.latents(adata)
    mgvi.save(tmp_path / "model")
    for other in (
        MGVI.load(tmp_path / "model"),
        copy.deepcopy(mgvi),
        pickle.loads(pickle.dumps(mgvi)),
    ):
        assert other.trained
        other.latents(adata)


def test_copies_of_an_untrained_model_are_untrained(adata, tmp_path):
    mgvi = untrained(adata)
    mgvi.save(tmp_path / "model")
    mgvi.training_setup(adata, BRIEF).finish()
    for other in (
        mgvi,
        MGVI.load(tmp_path / "model"),
        copy.deepcopy(mgvi),
        mgvi.fresh(mgvi.read(adata), seed=1),
    ):
        assert not other.trained
        other.model.double(), other.guide.double()  # another precision is no training
        assert not other.trained
    loaded = MGVI.load(tmp_path / "model")
    loaded.fit(adata, BRIEF, progress=False)
    assert loaded.trained


def normalised(adata):
    """Return the cells after the usual steps: counts in a layer and in raw, X log-normalised."""
    after = adata.copy()
    after.layers["counts"] = after.X.copy()
    after.raw = after.copy()
    x = after.X.toarray()
    after.X = np.log1p(1e4 * x / x.sum(1, keepdims=True))
    return after


@pytest.mark.slow
def test_a_model_is_asked_after_its_data_were_normalised(adata):
    mgvi = fitted(adata)
    expected = mgvi.latents(adata)
    after = normalised(adata)
    with pytest.raises(DataError, match=r"pass mgvi.read\(adata, layer='counts'\) in place"):
        mgvi.latents(after)
    for data in (mgvi.read(after, layer="counts"), mgvi.read(after, use_raw=True)):
        for key, table in mgvi.latents(data).items():
            np.testing.assert_array_equal(table, expected[key])
        again = mgvi.rank_genes(data, "group1", calibration=False)
        first = mgvi.rank_genes(adata, "group1", calibration=False)
        pd.testing.assert_frame_equal(again, first)
        mgvi.fit(data, BRIEF, progress=False)
        mgvi.read(data)
        mgvi = fitted(adata)
    mgvi.write_latents(after, counts=mgvi.read(after, layer="counts"))
    np.testing.assert_array_equal(after.obsm["X_mgvi_z"], expected["z"])
    after.X = after.layers["counts"]
    in_layer = MGVI.from_anndata(after, "group", layer="counts", latents=LATENTS)
    del after.layers["counts"]
    assert len(in_layer.read(after, layer="X")) == len(adata)
    with pytest.raises(DataError, match="choose one"):
        mgvi.read(after, layer="counts", use_raw=True)


@pytest.mark.parametrize("raw", [False, True])
def test_the_source_of_the_counts_is_saved_with_the_model(adata, tmp_path, raw):
    after = normalised(adata)
    after = after[:, :20].copy()  # as a choice of variable genes leaves it
    after.layers["corrected"] = after.layers["counts"].toarray() * 0.93
    where = {"use_raw": True} if raw else {"layer": "corrected", "round_counts": True}
    mgvi = untrained(after, **where)
    assert len(mgvi.schema.genes) == (60 if raw else 20)
    mgvi.fit(after, BRIEF, progress=False)
    mgvi.save(tmp_path / "model")
    loaded = MGVI.load(tmp_path / "model")
    assert loaded.schema == mgvi.schema
    for key, table in mgvi.latents(after).items():
        pd.testing.assert_frame_equal(loaded.latents(after)[key], table, rtol=1e-5)


def test_missing_genes_may_be_asked_about_but_not_learnt(adata):
    mgvi = fitted(adata)
    some = adata[:, 2:].copy()
    with pytest.warns(DataWarning, match="lack 2 of .*count as zero"):
        mgvi.latents(some)
    with pytest.raises(DataError, match=r"lack 2 .*up to 0% may be missing"):
        mgvi.fit(some, BRIEF, progress=False)
    with pytest.warns(DataWarning, match="lack 2"):
        data = mgvi.read(some)
    mgvi.fit(data, BRIEF, progress=False)


WRONG = {
    "likelihood name": ({"likelihood": "nb"}, "likelihood='nb' is no class.*likelihood=NB"),
    "likelihood none": ({"likelihood": None}, "likelihood=None is no class"),
    "encoder name": ({"encoder": "SharedTrunk"}, "encoder='SharedTrunk' is no class"),
    "decoder name": ({"decoder": "linear"}, "decoder='linear' is no class.*LogLinearDecoder"),
    "setting": ({"decoder": partial(JointDecoder, n_hiden=3)}, "cannot be built.*n_hiden"),
    "likelihood setting": ({"likelihood": partial(NB, x=3)}, "cannot be built.*'x'"),
    "own_weight": ({"own_weight": "high"}, "own_weight of z must be a number"),
    "own_weights": ({"own_weight": {"z": "high"}}, "own_weight of z must be a number"),
    "infinite weight": ({"own_weight": np.inf}, "own_weight of z must be a number"),
    "library": ({"observed_library": "yes"}, "observed_library must be True or False"),
    "foreign": ({"foreign_sample": 2.5}, "foreign_sample must be"),
    "foreign text": ({"foreign_sample": "few"}, "foreign_sample must be"),
    "seed": ({"seed": "a"}, "seed must be a whole number"),
    "half seed": ({"seed": 1.5}, "seed must be a whole number"),
    "negative seed": ({"seed": -1}, "seed must be at least 0"),
    "latents": ({"latents": ["z:ten"]}, "'z:ten' is not understood"),
}


@pytest.mark.parametrize("case", WRONG)
def test_settings_of_the_wrong_kind_are_refused_in_one_line(adata, case):
    settings, message = WRONG[case]
    with pytest.raises(SettingsError, match=message) as refused:
        untrained(adata, **settings)
    assert "\n" not in str(refused.value)


def test_a_built_component_is_refused(adata):
    built = untrained(adata).model.likelihood
    with pytest.raises(SettingsError, match=r"ZINB that is built already.*likelihood=ZINB"):
        untrained(adata, likelihood=built)


ASKED = {
    "no cell": (lambda m, a: m.latents(a[:0]), DataError, "no cell"),
    "no counts": (lambda m, a: m.latents(m.read(a).subset(np.arange(0))), DataError, "no cell"),
    "path": (lambda m, a: m.fit("x.h5ad"), DataError, "read_h5ad"),
    "epochs": (lambda m, a: m.fit(a, max_epochs=2.5), SettingsError, "max_epochs must be a whole"),
    "epochs text": (lambda m, a: m.fit(a, max_epochs="all"), SettingsError, "max_epochs must be"),
    "plan": (lambda m, a: m.fit(a, 20), SettingsError, "plan must be a TrainingPlan, not 20"),
    "gene": (lambda m, a: m.normalized_expression(a, genes="IFIT1"), DataError, "model: IFIT1$"),
    "genes": (lambda m, a: m.normalized_expression(a, genes=3), DataError, "genes=3"),
    "no gene": (lambda m, a: m.normalized_expression(a, genes=[]), DataError, r"genes=\[\]"),
    "draws": (lambda m, a: m.expression_draws(a, n_draws=2.5), SettingsError, "n_draws"),
    "group": (lambda m, a: m.rank_genes(a, ["group1"]), DataError, "unknown to the model"),
    "foreign": (lambda m, a: m.latents(a, "none"), SettingsError, "foreign must be one of"),
    "new group": (lambda m, a: m.add_group("x.h5ad"), DataError, "read_h5ad"),
    "group of none": (lambda m, a: m.add_group(a[:0].copy()), DataError, "no cell"),
}


@pytest.mark.parametrize("case", ASKED)
def test_questions_of_the_wrong_kind_are_refused_in_one_line(mgvi, adata, case):
    ask, error, message = ASKED[case]
    with pytest.raises(error, match=message) as refused:
        ask(mgvi, adata)
    assert "\n" not in str(refused.value)


def counted(change):
    counts = np.random.default_rng(0).poisson(2.0, (200, 50)).astype(float)
    change(counts)
    obs = pd.DataFrame({"group": ["a", "b"] * 100}, index=[f"cell{i}" for i in range(200)])
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs)


def one(value):
    def change(x):
        x[3, 4] = value

    return change


def libraries(x):
    depth = np.logspace(0, 7, len(x))[:, None]
    x[:] = np.random.default_rng(1).poisson(depth * np.ones(x.shape[1]) / x.shape[1])
    x[x.sum(1) == 0, 0] = 1


def single_counts(x):
    x[:40] = 0
    x[:40, 0] = 1


def zero_genes(x):
    x[:, 10:20] = 0


def large(x):
    x *= 1e5


@pytest.mark.parametrize(
    "change",
    [one(1e6), one(1e8), libraries, single_counts, zero_genes, large],
    ids=["1e6", "1e8", "libraries", "single counts", "zero genes", "large"],
)
def test_extreme_counts_give_finite_results(change):
    adata = counted(change)
    mgvi = fitted(adata, TrainingPlan(max_epochs=12))
    assert np.isfinite(mgvi.history.drop(columns="kept").to_numpy(float)).all()
    for table in mgvi.latents(adata, foreign="zero").values():
        assert np.isfinite(table.to_numpy()).all()
    expression = mgvi.normalized_expression(adata).to_numpy()
    assert np.isfinite(expression).all() and (expression >= 0).all()
    ranked = mgvi.rank_genes(adata, "a", calibration=False)
    assert np.isfinite(ranked["bayes_factor"]).all()


def test_one_gene_is_refused():
    with pytest.raises(DataError, match=r"1 gene\(s\); at least 2"):
        untrained(counted(zero_genes)[:, :1].copy())


@pytest.mark.slow
def test_training_needs_no_gradient_mode_of_the_caller(adata):
    expected = fitted(adata).latents(adata)
    with torch.no_grad():
        mgvi = fitted(adata)
        assert not torch.is_grad_enabled()
    for key, table in mgvi.latents(adata).items():
        pd.testing.assert_frame_equal(table, expected[key])
    data = GroupedCounts.from_anndata(adata, "group")
    with torch.no_grad():
        mgvi.diagnose(data, plan=BRIEF, progress=False)


def test_where_genes_are_many_fewer_cells_are_taken_at_a_time(adata, monkeypatch):
    mgvi = fitted(adata)
    whole = mgvi.rank_genes(adata, "group1", calibration=False)
    monkeypatch.setattr("pyro_mgvi.training.program.VALUES", 20 * adata.n_vars + 5)
    taken = [len(cells) for cells, _ in mgvi.batches(mgvi.read(adata))]
    assert taken == [20] * (adata.n_obs // 20)
    parts = mgvi.rank_genes(adata, "group1", calibration=False)
    pd.testing.assert_frame_equal(parts.loc[whole.index], whole, rtol=1e-3, atol=1e-5)
