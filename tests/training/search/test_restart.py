"""Idle dimensions: closed, started where something is missing, and when training does so."""

from functools import partial

import numpy as np
import pyro
import pytest
import torch
from helpers.sparse_programs import sparse_programs, with_a_small_group
from hypothesis import given
from hypothesis import strategies as st
from pyro.infer import SVI
from torch import nn

from pyro_mgvi import (
    MGVI,
    PAPER,
    AdditiveDecoder,
    ComponentWarning,
    DecoderInput,
    Encoder,
    EncoderInput,
    InitialValues,
    JointDecoder,
    Latents,
    LogLinearDecoder,
    SearchSettings,
    SeparateEncoders,
    SettingsError,
    SharedTrunk,
    TrainingPlan,
    WassersteinTraceELBO,
    private,
    restart_idle,
    shared,
)
from pyro_mgvi.analysis.metrics import kmeans_ari, probe, program_score
from pyro_mgvi.core import DimensionStart
from pyro_mgvi.datasets import SplatParams, clear_recipe, grouped
from pyro_mgvi.networks.heads import location_and_scale
from pyro_mgvi.training import Trainer
from pyro_mgvi.training.search.directions import find_directions
from pyro_mgvi.training.search.restart import close_idle, plant_directions

SEARCH = SearchSettings()


def small_recipe(n_cells):
    return clear_recipe(seed=0, n_cells=n_cells, n_shared_genes=60, n_program_genes=60)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [JointDecoder, LogLinearDecoder])
@pytest.mark.parametrize("encoder", [SeparateEncoders, SharedTrunk])
def test_planting_starts_decoder_and_encoder_at_the_direction(decoder, encoder):
    adata = sparse_programs(0)
    mgvi = MGVI.from_anndata(adata, "group", decoder=decoder, encoder=encoder)
    plan = TrainingPlan(max_epochs=10, search=None, prune_below=0.0)  # all active, as in training
    mgvi.fit(adata, plan, progress=False)
    data = mgvi.read(adata)
    found = find_directions(mgvi, data)
    assert plant_directions(mgvi, data) == sum(map(len, found.values()))
    copy = mgvi.families.copies_of("t")[0]
    direction = found[copy][0]
    model = mgvi.model
    weight = model.decoder.linear.T if decoder is JointDecoder else model.decoder.heads[0].weight
    columns = weight[:, 10:20].detach()  # of the first copy of t
    which = int((columns - direction.loading_g[:, None]).abs().sum(0).argmin())
    assert torch.equal(columns[:, which], direction.loading_g)
    location = mgvi.posterior(data.rows(direction.cells)).mean("t")[copy.index, :, which]
    assert np.corrcoef(location, direction.score_n)[0, 1] > 0.8


def test_what_is_known_starts_first_and_is_not_found_again():
    adata = small_recipe(400)
    mgvi = MGVI.from_anndata(adata, "group", latents=(shared(3), private(2)))
    data = mgvi.read(adata)
    found = find_directions(mgvi, data)
    copy = next(copy for copy in found if not copy.shared)
    known = found[copy][0]._replace(loading_g=2 * found[copy][0].loading_g)  # known by its genes
    n_planted = plant_directions(mgvi, data, known={copy.groups: [known]})
    assert n_planted == sum(map(len, found.values()))  # one in place of one
    first = mgvi.model.decoder.first_input[copy.key]
    columns = mgvi.model.decoder.linear[first : first + copy.dim].detach()
    starts = [torch.equal(column, known.loading_g) for column in columns]
    assert sum(starts) == 1 and not any(
        torch.equal(column, found[copy][0].loading_g) for column in columns
    )


def test_what_is_known_takes_the_place_of_what_is_not_idle():
    adata = small_recipe(400)
    mgvi = MGVI.from_anndata(adata, "group", latents=(shared(3), private(1)))
    data, settings = mgvi.read(adata), SearchSettings(idle=0.0)  # no dimension is
    assert plant_directions(mgvi, data, settings) == 0
    copy = mgvi.families.copies[1]
    known = {copy.groups: find_directions(mgvi, data)[copy][:1]}
    assert plant_directions(mgvi, data, settings, known=known) == 1


def test_the_paper_s_decoder_starts_at_the_directions_too():
    """It has no log-linear path: two hidden units are one."""
    adata = small_recipe(400)
    mgvi = MGVI.from_anndata(adata, "group", **PAPER.settings)
    data = mgvi.read(adata)
    found = find_directions(mgvi, data)
    before = mgvi.model.decoder.trunk.weight.clone()
    assert plant_directions(mgvi, data) == sum(map(len, found.values())) > 1
    assert not torch.equal(mgvi.model.decoder.trunk.weight, before)


@pytest.mark.parametrize(
    "decoder",
    [LogLinearDecoder, JointDecoder, partial(JointDecoder, linear=False, response=0.0)],
    ids=["log-linear", "joint", "hidden units alone"],
)
def test_a_decoder_keeps_each_of_the_directions_at_which_it_starts(decoder):
    """Expression changes along each as its loadings say, whatever is started after it."""
    n_genes, latents = 2000, Latents((shared(5), private(3)), ("a", "b"))
    built = decoder(latents, InitialValues.blank(n_genes, 2), 1)
    unused = EncoderInput(torch.zeros(2, n_genes)), torch.zeros(2)  # an encoder's
    z, t_a, t_b = latents.copies
    directions = []
    for i, (copy, dim) in enumerate([(z, 1), (z, 3), (t_a, 0), (t_b, 2)]):
        loading_g = torch.zeros(n_genes)
        loading_g[10 * i : 10 * (i + 1)] = 0.3
        built.start_dimension(copy, dim, DimensionStart(loading_g, *unused))
        directions.append((copy, dim, loading_g))
    for copy, dim, loading_g in directions:
        values = {x.name: torch.zeros(x.n_copies, 2, x.dim) for x in latents}
        values[copy.latent][copy.index, :, dim] = torch.tensor([-1.0, 1.0])
        with torch.no_grad():
            ((location, *_),) = built(DecoderInput(values, torch.eye(2)[[0, 0]]))
        slope_g = (location[1] - location[0]) / 2
        along = slope_g @ loading_g / loading_g.square().sum()
        assert 0.8 < along < 1.2, (copy.key, dim)
        assert torch.corrcoef(torch.stack([slope_g, loading_g]))[0, 1] > 0.9, (copy.key, dim)


class PlainEncoder(Encoder):
    """One layer, which cannot start a dimension."""

    def __init__(self, latents, initial):
        super().__init__()
        self.layers = nn.ModuleDict(
            {x.name: nn.Linear(initial.n_inputs, 2 * x.n_copies * x.dim) for x in latents}
        )
        self.copies = {x.name: x.n_copies for x in latents}

    def forward(self, x):
        raw = {name: layer(x.dense()) for name, layer in self.layers.items()}
        return {
            name: location_and_scale(value.unflatten(-1, (self.copies[name], -1)).transpose(0, 1))
            for name, value in raw.items()
        }


@pytest.mark.parametrize("kinds", [{"decoder": AdditiveDecoder}, {"encoder": PlainEncoder}])
def test_nothing_is_planted_where_decoder_or_encoder_has_no_place(kinds):
    adata = small_recipe(400)
    with pytest.warns(ComponentWarning, match="cannot start a dimension"):
        mgvi = MGVI.from_anndata(adata, "group", **kinds)
    data = mgvi.read(adata)
    assert find_directions(mgvi, data)
    modules = mgvi.model, mgvi.guide
    before = [{k: v.clone() for k, v in module.state_dict().items()} for module in modules]
    assert plant_directions(mgvi, data) == 0
    close_idle(mgvi, data, SEARCH)
    for module, state in zip(modules, before):
        assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())


def test_idle_private_dimensions_are_closed_where_a_search_can_open_them():
    adata = with_a_small_group()
    mgvi = MGVI.from_anndata(adata, "group")
    data = mgvi.read(adata)
    for copy, kept in (([False, False], [True, True]), ([True, True], [False, True])):
        copies = {"z": torch.tensor([True]), "t": torch.tensor(copy)}
        with torch.no_grad():
            for head in mgvi.guide.encoder.heads.values():
                head.weight.zero_()  # posteriors close to the prior: all idle
        close_idle(mgvi, data, SEARCH, copies)
        for module in (mgvi.model, mgvi.guide):
            assert module.active["z"].all()  # what all groups share is left alone
            assert module.active["t"].all(1).tolist() == kept  # 60 cells are too few to search
            assert module.active["t"].any(1).tolist() == kept


def test_what_cannot_be_compared_stays_open_and_a_small_group_keeps_nothing():
    adata = with_a_small_group()
    mgvi = MGVI.from_anndata(adata, "group")
    close_idle(mgvi, mgvi.read(adata), SEARCH)
    large = adata.obs["group"].value_counts()[list(mgvi.schema.groups)].to_numpy() >= 100
    for module in (mgvi.model, mgvi.guide):
        assert module.active["t"].all(1).tolist() == large.tolist()
        assert module.active["t"].any(1).tolist() == large.tolist()
        assert module.active["z"].all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_without_a_program_no_private_dimension_is_left(seed):
    none = SplatParams(lib_loc=7.0, de_prob=0.0)
    adata = grouped(1002 + seed, SplatParams(lib_loc=10.0), none, 1000, 400, 100)
    mgvi = MGVI.from_anndata(adata, "group", seed=seed)
    mgvi.fit(adata, max_epochs=25, progress=False)
    assert not mgvi.model.active["t"].any() and mgvi.model.active["z"].any()


@pytest.mark.slow
def test_training_finds_programs_that_a_random_start_loses():
    adata = sparse_programs(0)
    for search in (None, SearchSettings(epoch=10)):
        mgvi = MGVI.from_anndata(adata, "group")
        mgvi.fit(adata, TrainingPlan(max_epochs=30, search=search), progress=False)
        latents = mgvi.latents(adata)
        for group in mgvi.schema.groups:
            own = (adata.obs["group"] == group).to_numpy()
            t, program = latents[f"t_{group}"][own], adata.obs["program"].astype(str)[own]
            if search is None:
                assert probe(t, program) < 0.7  # or there is nothing left to show
            else:
                ceiling = kmeans_ari(*program_score(adata, group))
                assert kmeans_ari(t, program) > 0.75 * ceiling > 0.6
                assert probe(t, adata.obs["celltype"].astype(str)[own]) < 0.3


def test_svi_goes_on_from_a_new_start():
    """Parameters change in place: Pyro's parameter store and its optimisers hold the new ones."""
    adata = small_recipe(400)
    mgvi = MGVI.from_anndata(adata, group_key="group")
    data = mgvi.read(adata)
    adam = pyro.optim.Adam({"lr": 1e-3})
    svi = SVI(mgvi.model, mgvi.guide, adam, loss=WassersteinTraceELBO())
    batch = data.rows(np.arange(len(data)))
    svi.step(*batch)
    parameters = [*mgvi.model.parameters(), *mgvi.guide.parameters()]
    before = [p.detach().clone() for p in parameters]
    mgvi.model.train()
    mgvi.guide.eval()
    assert restart_idle(mgvi, data)
    assert mgvi.model.training and not mgvi.guide.training
    assert not all(map(torch.equal, parameters, before))
    stored = dict(pyro.get_param_store().named_parameters()).values()
    assert {id(p) for p in parameters} <= set(map(id, stored))
    after = [p.detach().clone() for p in parameters]
    svi.step(*batch)
    for old, new in zip(after, parameters):
        torch.testing.assert_close(new, old, rtol=0, atol=2e-3)  # a step of Adam's from there


def test_an_epoch_to_search_after_is_positive():
    with pytest.raises(SettingsError, match="epoch must be at least 1, not 0"):
        SearchSettings(epoch=0)


def test_what_was_best_before_the_search_is_past(monkeypatch):
    adata = small_recipe(200)
    mgvi = MGVI.from_anndata(adata, "group")
    plan = TrainingPlan(max_epochs=5, search=SearchSettings(epoch=2))
    trainer = Trainer(mgvi, mgvi.read(adata), plan)
    losses = iter([1.0, 2.0, 5.0, 4.0, 6.0])
    monkeypatch.setattr(trainer, "_validate", lambda: {"counts": torch.tensor(next(losses))})
    history = trainer.run(progress=False)
    assert trainer.best["epoch"] == 4 and trainer.best["loss"] == 4.0
    assert history["kept"].tolist() == [False, False, False, True, False]
    rates = [plan.learning_rate * plan.step_size(epoch) for epoch in range(5)]
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    assert rates[0] == rates[2] == plan.learning_rate and min(rates) > 0


@given(st.integers(1, 40), st.one_of(st.none(), st.integers(1, 40)))
def test_steps_shrink_up_to_a_search_and_up_to_the_end(max_epochs, epoch):
    search = None if epoch is None else SearchSettings(epoch=epoch)
    plan = TrainingPlan(max_epochs=max_epochs, search=search)
    sizes = np.array([plan.step_size(epoch) for epoch in range(max_epochs + 1)])
    starts = [0]
    if epoch is not None and epoch < max_epochs:
        starts.append(epoch)
    assert (sizes[starts] == 1).all() and sizes[-1] == pytest.approx(0)
    assert set(np.flatnonzero(np.diff(sizes) > 0) + 1) == set(starts[1:]) - {1}
    assert (sizes[:-1] > 0).all()


@pytest.mark.parametrize("max_epochs", [8, 10])
def test_training_that_ends_before_the_search_or_at_it(max_epochs):
    adata = small_recipe(200)
    mgvi = MGVI.from_anndata(adata, "group")
    mgvi.fit(adata, max_epochs=max_epochs, progress=False)
    loss = mgvi.history["train"].to_numpy()
    assert len(loss) == max_epochs and loss[2] < loss[0]  # the first epochs' steps are full ones
