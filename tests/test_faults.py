"""Faults that a review found between two features that were each tested alone."""

import copy
import json
import sys
import warnings
from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive

from pyro_mgvi import (
    MGVI,
    NB,
    PAPER,
    AdditiveDecoder,
    ComponentWarning,
    DataError,
    Gaussian,
    GroupedCounts,
    InitialValues,
    JointDecoder,
    Latent,
    Latents,
    Likelihood,
    ModelFileError,
    SameAsOwn,
    SearchSettings,
    SettingsError,
    TrainingPlan,
    WassersteinTraceELBO,
    cross_fit,
    pairwise,
    private,
    shared,
    subsets,
)
from pyro_mgvi.analysis.cross_fit import CrossFit
from pyro_mgvi.analysis.efficient_scores import q_values
from pyro_mgvi.core import DecoderInput
from pyro_mgvi.datasets import clear_recipe

SMALL = (shared(3), private(2))
BRIEF = TrainingPlan(max_epochs=2, search=None, prune_below=0.0)


def renamed(adata, **names):
    """Return the data with groups of other names."""
    adata = adata.copy()
    adata.obs["group"] = adata.obs["group"].astype(str).replace(names)
    return adata


def test_keys_are_safe_in_hdf5_and_results_are_read_back(adata, tmp_path):
    cells = renamed(adata, group1="CD4/CD8", group2="T/NK")
    mgvi = MGVI.from_anndata(cells, "group", latents=SMALL)
    mgvi.write_latents(cells)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    found = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert sorted(found.obsm) == [
        "X_mgvi_t_CD4_CD8",
        "X_mgvi_t_T_NK",
        "X_mgvi_t_group3",
        "X_mgvi_z",
    ]
    mgvi.save(tmp_path / "model")
    assert MGVI.load(tmp_path / "model").schema.groups == ("CD4/CD8", "T/NK", "group3")


def test_two_copies_of_one_key_are_refused_by_name(adata):
    cells = renamed(adata, group1="a", group2="b", group3="a+b")
    overlapping = (shared(3), Latent("t", (("a", "b"), ("a+b",)), 2))
    with pytest.raises(SettingsError, match=r"t_a\+b"):
        MGVI.from_anndata(cells, "group", latents=overlapping)
    slashes = renamed(adata, group1="a/b", group2="a_b")
    with pytest.raises(SettingsError, match="t_a_b"):
        MGVI.from_anndata(slashes, "group", latents=SMALL)
    with pytest.raises(SettingsError, match="t_copies"):
        MGVI.from_anndata(adata, "group", latents=(private(2), shared(2, name="t_copies")))


def test_a_loaded_model_has_the_objective_of_the_saved_one(adata, tmp_path):
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    mgvi.fit(adata, BRIEF, progress=False)
    mgvi.save(tmp_path / "model")
    loaded = MGVI.load(tmp_path / "model")
    batch = next(iter(mgvi.read(adata).minibatches(32, seed=0)))
    losses = []
    for each in (mgvi, loaded):
        torch.manual_seed(0)
        losses.append(WassersteinTraceELBO().loss(each.model, each.guide, *batch))
    assert losses[0] == losses[1]
    assert loaded.plan == mgvi.plan == BRIEF


@pytest.mark.parametrize("search", [None, SearchSettings(epoch=2)])
def test_svi_as_the_readme_shows_it_trains_as_fit_does(search):
    adata = clear_recipe(seed=0, n_cells=400, n_shared_genes=60, n_program_genes=60)
    # A step as large in every epoch: Pyro's optimiser has no schedule of its own.
    plan = TrainingPlan(max_epochs=4, search=search, validation_fraction=0.0, patience=None)
    svi_model = MGVI.from_anndata(adata, "group", latents=SMALL)
    setup = svi_model.training_setup(adata, plan)
    optimiser = pyro.optim.LambdaLR(
        {
            "optimizer": torch.optim.Adam,
            "optim_args": {"lr": plan.learning_rate},
            "lr_lambda": setup.plan.step_size,
        }
    )
    svi = SVI(setup.model, setup.guide, optimiser, loss=setup.elbo)
    losses = []
    for epoch in range(4):
        changed = setup.begin_epoch(epoch)
        if changed:
            break  # fit then holds the decoder still for an epoch
        steps = [svi.step(*batch) for batch in setup.minibatches(epoch)]
        losses.append(np.mean(steps) / len(setup.data))
        optimiser.step()
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    mgvi.fit(adata, plan, progress=False)
    assert len(losses) == (4 if search is None else 2)
    np.testing.assert_allclose(losses, mgvi.history["train"][: len(losses)], rtol=2e-4)


@pytest.mark.slow
def test_views_are_counts_like_any_other(adata):
    data = GroupedCounts.from_anndata(adata, "group")
    cells = np.flatnonzero(np.arange(len(data)) % 2 == 0)
    view = data.view(cells)
    assert (view.x != data.x[cells]).nnz == 0
    from_view, from_subset = (
        MGVI.from_counts(part, latents=SMALL) for part in (view, data.subset(cells))
    )
    for (name, value), other in zip(
        from_view.model.state_dict().items(), from_subset.model.state_dict().values()
    ):
        assert torch.equal(value, other), name
    from_view.fit(view, BRIEF, progress=False)
    report = from_view.diagnose(view, plan=BRIEF, progress=False)
    assert list(report.copies.index) == ["z", "t_group1", "t_group2", "t_group3"]


def test_refits_follow_the_plan_of_the_model(adata, monkeypatch):
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    plan = TrainingPlan(max_epochs=1, learning_rate=1e-3, search=None, batch_size=64)
    mgvi.fit(adata, plan, progress=False)
    refits = cross_fit(mgvi, adata, progress=False)
    assert [len(refit.history) for refit in refits.refits] == [1, 1]
    seen = []
    module = sys.modules[CrossFit.__module__]
    monkeypatch.setattr(module, "train", lambda refit, data, plan, **_: seen.append(plan))
    cross_fit(mgvi, adata, progress=False)
    assert {(p.learning_rate, p.search, p.batch_size) for p in seen} == {(1e-3, None, 32)}


def test_a_foreign_prior_that_nothing_would_use_is_refused(adata):
    with pytest.raises(SettingsError, match="no cell is foreign to it"):
        MGVI.from_anndata(adata, "group", latents=Latent("z", lambda g: (g,), 2, SameAsOwn()))


def test_what_a_component_lacks_is_said_when_the_model_is_built(adata):
    class Bare(torch.distributions.Poisson):
        @property
        def variance(self):
            raise NotImplementedError

    class NoVariance(NB):
        def forward(self, parts, log_library):
            rate = self.expression(parts) * log_library.exp().unsqueeze(-1)
            return torch.distributions.Independent(Bare(rate), 1)

    with pytest.raises(SettingsError, match=r"NoVariance: .* has no variance"):
        MGVI.from_anndata(adata, "group", likelihood=NoVariance, latents=SMALL)
    with pytest.raises(SettingsError, match="not derived from"):
        MGVI.from_anndata(adata, "group", likelihood=lambda initial: torch.nn.Linear(1, 1))
    with pytest.warns(ComponentWarning, match="leaves out the search"):
        MGVI.from_anndata(adata, "group", decoder=AdditiveDecoder, latents=SMALL)


@pytest.mark.slow
def test_a_likelihood_made_by_a_function_has_its_own_kind_of_data(adata):
    values = adata.copy()
    values.X = np.log1p(values.X.toarray())
    mgvi = MGVI.from_anndata(
        values, "group", likelihood=lambda initial: Gaussian(initial), latents=SMALL
    )
    assert not mgvi.guide.has_library
    mgvi.fit(values, BRIEF, progress=False)
    report = mgvi.diagnose(values, plan=BRIEF, progress=False)
    assert report.copies["worth"].notna().sum() == 3


def test_the_additive_decoder_starts_at_the_data_with_several_copies(adata):
    latents = Latents((shared(3), private(2), pairwise(2)), ("group1", "group2", "group3"))
    initial = GroupedCounts.from_anndata(adata, "group").initial_values()
    decoder = AdditiveDecoder(latents, initial, n_outputs=1)
    values = {x.name: torch.zeros(x.n_copies, 3, x.dim) for x in latents}
    cells = DecoderInput(values, torch.eye(3), torch.arange(3))
    expected = (initial.log_rate_g + initial.offset_bg).softmax(-1)
    for (location,) in decoder(cells)[1:]:
        gap = (expected * (expected.log() - location.log_softmax(-1))).sum(-1)
        assert (gap < 0.05).all()


def test_own_and_foreign_weights_reach_the_right_copies_under_every_prior(adata):
    latents = (shared(3), private(2, foreign=SameAsOwn()))
    mgvi = MGVI.from_anndata(adata, "group", latents=latents)
    data = mgvi.read(adata)
    batch = data.rows(np.arange(len(data)))
    posterior = mgvi.posterior(batch)
    kl_sn = posterior.divergence("t").sum(-1)
    owned_sn = posterior.owned("t")
    for weights in ({"own_weight": {"t": 2.0}}, {"foreign_weight": {"t": 3.0}}):
        torch.manual_seed(0)
        term = WassersteinTraceELBO(**weights).terms(mgvi.model, mgvi.guide, *batch)["t"]
        own = weights.get("own_weight", {"t": 1.0})["t"]
        foreign = weights.get("foreign_weight", {"t": 1.0})["t"]
        expected = (kl_sn * torch.where(owned_sn, own, foreign)).sum()
        assert term.item() == pytest.approx(expected.item(), rel=1e-4)
    per_copy = WassersteinTraceELBO(own_weight={"t": [1.0, 2.0, 3.0]})
    term = per_copy.terms(mgvi.model, mgvi.guide, *batch)["t"]
    own_s = torch.tensor([1.0, 2.0, 3.0]).unsqueeze(-1)
    expected = (kl_sn * torch.where(owned_sn, own_s, 1.0)).sum()
    assert term.item() == pytest.approx(expected.item(), rel=1e-4)
    with pytest.raises(SettingsError, match="'T'"):
        WassersteinTraceELBO(own_weight={"T": 1.0}).loss(mgvi.model, mgvi.guide, *batch)


def test_empty_cells_are_left_out_everywhere_if_that_was_asked_for(adata):
    cells = adata.copy()
    x = cells.X.tolil()
    x[[3, 7]] = 0
    cells.X = x.tocsr()
    mgvi = MGVI.from_anndata(cells, "group", drop_empty=True, latents=SMALL)
    mgvi.fit(cells, BRIEF, progress=False)
    names = cells.obs_names.drop(cells.obs_names[[3, 7]])
    assert mgvi.latents(cells)["z"].index.equals(pd.Index(names, name="cell"))
    mgvi.write_latents(cells)
    assert np.flatnonzero(np.isnan(cells.obsm["X_mgvi_z"]).any(1)).tolist() == [3, 7]
    mask = cells.obs["celltype"].isin(["T1", "T2"])
    with_names = mgvi.rank_genes(cells, "group1", list(cells.obs_names[mask]), calibration=False)
    with_mask = mgvi.rank_genes(cells, "group1", mask.to_numpy(), calibration=False)
    shuffled = mask.sample(frac=1, random_state=0)  # a Series is aligned by the cells' names
    with_series = mgvi.rank_genes(cells, "group1", shuffled, calibration=False)
    pd.testing.assert_frame_equal(with_mask, with_names)
    pd.testing.assert_frame_equal(with_mask, with_series)
    with pytest.raises(DataError, match="drop_empty=True"):
        MGVI.from_anndata(cells, "group")


def test_a_copy_of_a_trained_model_trains(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    data = mgvi.read(adata)
    twin = copy.deepcopy(mgvi)
    for each in (mgvi, twin):
        before = {k: v.clone() for k, v in each.model.named_parameters()}
        svi = SVI(each.model, each.guide, pyro.optim.Adam({"lr": 1e-2}), WassersteinTraceELBO())
        for batch in data.minibatches(64, seed=0):
            svi.step(*batch)
        moved = [k for k, v in each.model.named_parameters() if (v != before[k]).any()]
        assert len(moved) == len(before)
    assert twin.model.active is twin.guide.active


def test_the_papers_weights_are_one_for_any_latents(adata):
    latents = (shared(3), private(2), pairwise(2))
    mgvi = MGVI.from_anndata(adata, "group", latents=latents, **PAPER.settings)
    assert mgvi.own_weight == {"z": 1.0, "t": 1.0, "pair": 1.0}
    only_z = MGVI.from_anndata(adata, "group", latents=shared(3), **PAPER.settings)
    assert only_z.own_weight == {"z": 1.0}


def test_the_epoch_that_is_told_is_the_one_whose_weights_are_kept():
    adata = clear_recipe(seed=0, n_cells=300, n_shared_genes=100, n_program_genes=40, groups=3)
    mgvi = MGVI.from_anndata(adata, "group", latents=(shared(4), private(3)))
    mgvi.fit(adata, max_epochs=11, progress=False)  # the search is after ten
    assert mgvi.history["kept"].sum() == 1
    assert mgvi.history.loc[mgvi.history["kept"], "epoch"].item() == 11


def test_a_second_fit_goes_on(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    mgvi.fit(adata, TrainingPlan(search=None, prune_below=1e3), max_epochs=2, progress=False)
    assert not mgvi.model.active["t"].any()
    mgvi.fit(adata, BRIEF, max_epochs=3, progress=False)
    assert mgvi.history["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert mgvi.history["kept"].sum() == 1 and mgvi.history["kept"][2:].any()
    assert not mgvi.model.active["t"].any()


def test_a_checkpoint_of_something_else_is_refused_by_name(adata, tmp_path):
    folder = tmp_path / "state"
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    mgvi.fit(adata, BRIEF, checkpoint=folder, progress=False)
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}

    def again(cells=adata, plan=BRIEF, **settings):
        other = MGVI.from_anndata(cells, "group", latents=SMALL, **settings)
        other.fit(cells, plan, checkpoint=folder, progress=False)

    again()
    changed = adata.copy()
    changed.X[0, 0] += 1
    for what, run in {
        "counts": partial(again, changed),
        "own_weight": partial(again, own_weight={"t": 9.0}),
        "plan.learning_rate": partial(
            again, plan=TrainingPlan(max_epochs=2, search=None, learning_rate=1.0)
        ),
        "likelihood": partial(again, likelihood=NB),
    }.items():
        with pytest.raises(SettingsError, match=what):
            run()
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole
    for file in folder.iterdir():
        file.write_bytes(whole[file.name][: len(whole[file.name]) // 2])
    with pytest.raises(SettingsError, match="damaged"):
        again()


def test_numpy_numbers_can_be_saved(adata, tmp_path):
    mgvi = MGVI.from_anndata(
        adata,
        "group",
        latents=(shared(np.int64(3)), private(2.0)),
        decoder=partial(JointDecoder, sparsity=np.float32(0.05)),
        own_weight={"t": np.float32(1.5)},
        seed=np.int64(4),
    )
    plan = TrainingPlan(np.int64(1), batch_size=np.int32(32), learning_rate=np.float32(1e-3))
    mgvi.fit(adata, plan, progress=False)
    mgvi.save(tmp_path / "model")
    loaded = MGVI.load(tmp_path / "model")
    assert loaded.own_weight == mgvi.own_weight and loaded.plan == mgvi.plan
    json.loads((tmp_path / "model" / "settings.json").read_text())


def test_a_model_that_cannot_be_written_leaves_the_old_one_whole(adata, tmp_path, monkeypatch):
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    mgvi.save(tmp_path / "model")
    before = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}

    def fail(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(ModelFileError, match=r"cannot write the model to .*model: no space"):
        mgvi.save(tmp_path / "model")
    assert {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_an_inactive_dimension_is_exactly_zero_in_draws(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    mgvi.model.active.close({"z": torch.tensor([[True, False, True]])})
    drawn = mgvi.latents(adata, draw=0)["z"].to_numpy()
    assert (drawn[:, [0, 2]] == 0).all() and (drawn[:, 1] != 0).all()


def test_asking_a_model_in_training_leaves_it_in_training(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    mgvi.model.train()
    mgvi.guide.train()
    mgvi.latents(adata)
    mgvi.normalized_expression(adata)
    mgvi.rank_genes(adata, "group1", calibration=False)
    assert mgvi.model.training and mgvi.guide.training


def test_an_empty_cell_drawn_from_the_prior_has_a_finite_posterior(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    batch = mgvi.read(adata).rows(np.arange(4))
    empty = batch._replace(counts=torch.zeros_like(batch.counts))
    for loc, scale in mgvi.guide.moments(*empty[:1], empty.covariates).values():
        assert torch.isfinite(loc).all() and torch.isfinite(scale).all()
    drawn = Predictive(mgvi.model, num_samples=3)(None, batch.group)
    assert drawn["counts"].squeeze(1).shape == (3, 4, adata.n_vars)


@pytest.mark.parametrize("dim", [0, -1, 2.5, "3", None, 10**9])
def test_dimensions_are_whole_numbers(dim):
    with pytest.raises(SettingsError, match=r"dim must be (a whole number|at (least|most))"):
        shared(dim)


def test_a_missing_group_key_is_named(adata):
    with pytest.raises(DataError, match="group_key is None"):
        MGVI.from_anndata(adata, None)


def test_one_missing_score_leaves_the_other_q_values():
    q = q_values(np.array([5.0, np.nan, 0.0]))
    np.testing.assert_allclose(q[[0, 2]], q_values(np.array([5.0, 0.0])))
    assert np.isnan(q[1])
    assert np.isnan(q_values(np.full(3, np.nan))).all()


def test_texts_and_single_latents_are_latents(adata):
    for latents in ("z:3", shared(3), ["z:3"]):
        assert [x.name for x in MGVI.from_anndata(adata, "group", latents=latents).families] == [
            "z"
        ]
    with pytest.raises(SettingsError, match=r"\[\['group1', 'group2'\]\]"):
        subsets("pair", ["group1", "group2"], 2)


def test_groups_that_are_numbers_are_found_by_number(adata):
    cells = adata.copy()
    cells.obs["group"] = cells.obs["group"].astype(str).str[-1].astype(int)
    mgvi = MGVI.from_anndata(cells, "group", latents=SMALL)
    by_number = mgvi.rank_genes(cells, 1, calibration=False)
    pd.testing.assert_frame_equal(by_number, mgvi.rank_genes(cells, "1", calibration=False))


def test_the_same_pyro_seed_repeats_minibatches(adata):
    data = GroupedCounts.from_anndata(adata, "group")
    orders = []
    for _ in range(2):
        pyro.set_rng_seed(5)
        orders.append([batch.index.tolist() for batch in data.minibatches(32)])
    assert orders[0] == orders[1]


def test_objects_tell_what_they_are(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    assert repr(mgvi) == (
        "MGVI(3 groups x 60 genes; ZINB; not trained; dimensions in use: "
        "z 3 of 3, t_group1 2 of 2, t_group2 2 of 2, t_group3 2 of 2)"
    )
    assert repr(shared(5)) == "Latent('z', dim=5, foreign=Dirac())"
    mgvi.model.active.close({"t": torch.tensor([[True, False]] * 3)})
    shown = repr(mgvi.guide)
    assert "(active): ActiveDims(z: 3 of 3, t: 3 of 6)" in shown
    assert "(first): InputLayer(5 x (60 to 128))" in shown
    assert "60 genes, group 'group'" in repr(mgvi.read(adata))


def test_likelihoods_are_checked_against_what_the_decoder_gives(adata):
    class TwoOutputs(Likelihood):
        n_outputs = 2

        def __init__(self, initial: InitialValues):
            super().__init__()

        def forward(self, parts, log_library):
            return torch.distributions.Independent(
                torch.distributions.Poisson(parts[0][0].exp()), 1
            )

    class OneOutput(JointDecoder):
        def forward(self, x):
            return [part[:1] for part in super().forward(x)]

    with pytest.raises(SettingsError, match="gives 1 output"):
        MGVI.from_anndata(adata, "group", likelihood=TwoOutputs, decoder=OneOutput, latents=SMALL)


def test_a_decoder_whose_prior_fails_is_refused_when_the_model_is_built(adata):
    class Deeper(JointDecoder):  # further_layers is the way
        def __init__(self, latents, initial, n_outputs, hidden=8):
            super().__init__(latents, initial, n_outputs, hidden=hidden)
            self.trunk = torch.nn.Sequential(self.trunk, torch.nn.Linear(hidden, hidden))

    with pytest.raises(SettingsError, match=r"decoder Deeper fails on 2 cells: .*'weight'"):
        MGVI.from_anndata(adata, "group", decoder=Deeper, latents=SMALL)


def test_soft_groups_are_no_codes(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    batch = mgvi.read(adata).rows(np.arange(4))
    soft = torch.full((4, 3), 1 / 3)
    for program in (mgvi.model, mgvi.guide):
        with pytest.raises(SettingsError, match="group holds fractions"):
            program(batch.counts, soft, batch.batch, batch.covariates)


def test_refits_are_of_the_data_that_are_asked_about(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    mgvi.fit(adata, BRIEF, progress=False)
    refits = cross_fit(mgvi, adata, progress=False)
    assert isinstance(refits, CrossFit)
    with pytest.raises(DataError, match="the refits are of 120 cells"):
        mgvi.rank_genes(adata[:90], "group1", calibration=refits)


def test_a_model_can_be_called_outside_of_inference(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    batch = mgvi.read(adata).rows(np.arange(4))
    assert torch.equal(mgvi.model(*batch), batch.counts)


def test_a_minibatch_that_does_not_say_of_how_many_cells_it_is_is_refused(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
    batch = next(iter(mgvi.read(adata).minibatches(32, seed=0)))
    with pytest.raises(SettingsError, match="n_cells"):
        mgvi.model(*batch[:5])
    trace = poutine.trace(mgvi.guide).get_trace(*batch)
    assert trace.nodes["z"]["scale"] == pytest.approx(len(adata) / len(batch.group))


def test_no_warning_of_others_is_seen_in_a_whole_run(adata):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mgvi = MGVI.from_anndata(adata, "group", latents=SMALL)
        mgvi.fit(adata, max_epochs=12, progress=False)
        mgvi.latents(adata)
