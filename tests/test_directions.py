"""Directions that a model has not got: against a plain formula, planted structure, and noise."""

from types import SimpleNamespace

import numpy as np
import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import SVI

from pyro_mgvi import (
    MGVI,
    PAPER,
    JointDecoder,
    LogLinearDecoder,
    SettingsError,
    SharedTrunk,
    WassersteinTraceELBO,
    private,
    shared,
    start_anew,
    subsets,
)
from pyro_mgvi.training.search.directions import (
    Residuals,
    _pairs,
    _without,
    find_directions,
    leading_directions,
)
from pyro_mgvi.core.latents import over_groups
from pyro_mgvi.analysis.metrics import kmeans_ari, probe, program_score
from pyro_mgvi.networks.seed_units import ridge
from pyro_mgvi.training.search.restart import plant_directions, silence_idle
from pyro_mgvi.training.search.pruning import use_all
from pyro_mgvi.datasets.simulate import SplatParams, clear_recipe, grouped
from pyro_mgvi.training.trainer import Trainer, TrainingPlan


def pairs_by_loops(own, others):
    """Return the significant pairs and their mean covariance, one pair at a time."""
    n_genes = own[0].shape[1]
    threshold = np.sqrt(2 * np.log(n_genes * (n_genes - 1) / 2))
    found = {}
    for i in range(n_genes):
        for j in range(i + 1, n_genes):
            products = [r[:, i] * r[:, j] for r in own]
            z = [p.sum() / np.sqrt((p**2).sum()) for p in products]
            chosen = min(z) > threshold or max(z) < -threshold
            if others is not None:
                q = others[:, i] * others[:, j]
                for p in products:
                    error = np.sqrt((p**2).mean() / len(p) + (q**2).mean() / len(q))
                    chosen &= abs(p.mean() - q.mean()) > threshold * error
            if chosen:
                found[i, j] = np.mean([p.mean() for p in products])
    return found


@given(st.integers(0, 10_000), st.integers(1, 2), st.booleans())
@settings(max_examples=20, deadline=None)
def test_pairs_are_those_of_the_formula(seed, n_own, has_others):
    rng = np.random.default_rng(seed)
    loading = np.where(np.arange(15) < 5, rng.uniform(0.3, 0.9, 15), 0.0)
    own = [rng.normal(size=(300, 1)) * loading + rng.normal(size=(300, 15)) for _ in range(n_own)]
    others = rng.normal(size=(200, 15)) if has_others else None
    as_tensor = [torch.tensor(x, dtype=torch.float32) for x in own]
    free = torch.ones(15, dtype=torch.bool)
    pairs, covariance = _pairs(
        as_tensor, None if others is None else torch.tensor(others, dtype=torch.float32), free
    )
    truth = pairs_by_loops(own, others)
    found = {tuple(p): c for p, c in zip(pairs.tolist(), covariance.tolist())}
    assert set(found) == set(truth)
    for pair, value in truth.items():
        assert found[pair] == pytest.approx(value, rel=1e-3)
    free[0] = False
    assert 0 not in _pairs(as_tensor, None, free)[0]


def sparse_programs(seed, n_cells=1600):
    """Few genes of low counts differ: what the paper's recipe is like, at a smaller size."""
    program = SplatParams(lib_loc=6.5, de_prob=0.1, de_fac_loc=0.4, de_fac_scale=0.4)
    return grouped(seed, SplatParams(lib_loc=8.5), program, n_cells, 800, 150)


def with_a_small_group():
    """Return data of which group2 has 60 cells, too few to be searched."""
    adata = sparse_programs(1)
    left_out = np.flatnonzero(adata.obs["group"] == "group2")[60:]
    return adata[np.setdiff1d(np.arange(adata.n_obs), left_out)].copy()


@pytest.fixture(scope="module")
def partly_trained():
    adata = sparse_programs(0)
    mgvi = MGVI.from_anndata(adata, "group")
    mgvi.fit(adata, max_epochs=8, progress=False)
    return mgvi, adata


def test_a_sparse_program_is_found_in_its_group_and_named(partly_trained):
    mgvi, adata = partly_trained
    mgvi.guide.eval()
    data = mgvi.read(adata)
    state = torch.random.get_rng_state()
    found = find_directions(mgvi.model, mgvi.guide, data)
    assert torch.equal(torch.random.get_rng_state(), state)
    direction = found["t", 0][0]
    own = (adata.obs["group"] == "group1").to_numpy()
    np.testing.assert_array_equal(direction.cells, np.flatnonzero(own))
    assert float(direction.score_n.std()) == pytest.approx(1, abs=1e-3)
    ideal, _ = program_score(adata, "group1")
    assert abs(np.corrcoef(direction.score_n, np.ravel(ideal))[0, 1]) > 0.8
    factors = np.log(adata.var["DEFacP1"] / adata.var["DEFacP2"]).to_numpy()
    top = direction.loading_g.abs().topk(10).indices.numpy()
    assert (factors[top] != 0).mean() >= 0.8 and adata.var["is_program"].to_numpy()[top].all()
    agree = np.sign(factors[top]) * np.sign(direction.loading_g.numpy()[top])
    assert abs(agree.sum()) == np.count_nonzero(factors[top])  # one sign throughout
    again = find_directions(mgvi.model, mgvi.guide, data)["t", 0][0]
    assert torch.equal(again.loading_g, direction.loading_g)
    only = {"z": torch.tensor([False]), "t": torch.tensor([False, True])}
    chosen = find_directions(mgvi.model, mgvi.guide, data, only)
    assert set(chosen) <= {("t", 1)}


def test_noise_has_no_directions_of_one_group():
    for seed in range(3):
        adata = sparse_programs(seed)
        rng = np.random.default_rng(seed)
        adata.obs["group"] = rng.permutation(adata.obs["group"].to_numpy())
        mgvi = MGVI.from_anndata(adata, "group")
        mgvi.fit(adata, max_epochs=10, progress=False)  # as when fit searches
        found = find_directions(mgvi.model, mgvi.guide.eval(), mgvi.read(adata))
        assert not {("t", 0), ("t", 1)} & set(found), seed


@pytest.mark.parametrize("decoder", [JointDecoder, LogLinearDecoder])
@pytest.mark.parametrize("encoder", ["separate", "trunk"])
def test_planting_starts_decoder_and_encoder_at_the_direction(decoder, encoder):
    adata = sparse_programs(0)
    kinds = {"encoder": SharedTrunk} if encoder == "trunk" else {}
    mgvi = MGVI.from_anndata(adata, "group", decoder=decoder, **kinds)
    mgvi.fit(adata, max_epochs=10, search_after=None, progress=False)
    data = mgvi.read(adata)
    model, guide = mgvi.model, mgvi.guide.eval()
    use_all(model, guide)  # as in training
    found = find_directions(model, guide, data)
    assert plant_directions(model, guide, data) == sum(map(len, found.values()))
    direction = found["t", 0][0]
    weight = model.decoder.linear.T if decoder is JointDecoder else model.decoder.heads[0].weight
    columns = weight[:, 10:20].detach()  # of the first copy of t
    which = int((columns - direction.loading_g[:, None]).abs().sum(0).argmin())
    assert torch.equal(columns[:, which], direction.loading_g)
    location = guide.posteriors(data.rows(direction.cells).counts)["t"][0][0, :, which]
    assert np.corrcoef(location.detach(), direction.score_n)[0, 1] > 0.8


def test_idle_private_dimensions_are_silenced_where_a_search_can_open_them():
    adata = with_a_small_group()
    mgvi = MGVI.from_anndata(adata, "group")
    data = mgvi.read(adata)
    for copy, kept in (([False, False], [True, True]), ([True, True], [False, True])):
        copies = {"z": torch.tensor([True]), "t": torch.tensor(copy)}
        with torch.no_grad():
            for head in mgvi.guide.encoder.heads.values():
                head.weight.zero_()  # posteriors close to the prior: all idle
        silence_idle(mgvi.model, mgvi.guide.eval(), data, copies)
        for module in (mgvi.model, mgvi.guide):
            assert module.in_use_z.all()  # what all groups share is left alone
            assert module.in_use_t.all(1).tolist() == kept  # 60 cells are too few to search
            assert module.in_use_t.any(1).tolist() == kept


def test_what_cannot_be_compared_with_others_is_neither_searched_nor_silenced():
    adata = with_a_small_group()
    mgvi = MGVI.from_anndata(adata, "group")
    data = mgvi.read(adata)
    found = find_directions(mgvi.model, mgvi.guide.eval(), data)
    assert set(found) == {("z", 0)}  # group1's types are no program of group1
    silence_idle(mgvi.model, mgvi.guide, data)
    assert mgvi.model.in_use_t.all()


@pytest.mark.parametrize("seed", [0, 1])
def test_without_a_program_no_private_dimension_is_left(seed):
    none = SplatParams(lib_loc=7.0, de_prob=0.0)
    adata = grouped(1002 + seed, SplatParams(lib_loc=10.0), none, 1000, 400, 100)
    mgvi = MGVI.from_anndata(adata, "group", seed=seed)
    mgvi.fit(adata, max_epochs=25, progress=False)
    assert not mgvi.model.in_use_t.any() and mgvi.model.in_use_z.any()


def test_nothing_is_planted_where_decoder_or_encoder_has_no_place(partly_trained):
    _, adata = partly_trained
    mgvi = MGVI.from_anndata(adata, "group", **PAPER.settings)
    before = {k: v.clone() for k, v in mgvi.guide.state_dict().items()}
    assert plant_directions(mgvi.model, mgvi.guide.eval(), mgvi.read(adata)) == 0
    assert all(torch.equal(v, before[k]) for k, v in mgvi.guide.state_dict().items())


def test_training_finds_programs_that_a_random_start_loses():
    adata = sparse_programs(0)
    for search_after in (None, 10):
        mgvi = MGVI.from_anndata(adata, "group")
        mgvi.fit(adata, max_epochs=30, search_after=search_after, progress=False)
        latents = mgvi.latents(adata)
        for group in mgvi.schema.groups:
            own = (adata.obs["group"] == group).to_numpy()
            t, program = latents[f"t_{group}"][own], adata.obs["program"].astype(str)[own]
            if search_after is None:
                assert probe(t, program) < 0.7  # or there is nothing left to show
            else:
                ceiling = kmeans_ari(*program_score(adata, group))
                assert kmeans_ari(t, program) > 0.75 * ceiling > 0.6
                assert probe(t, adata.obs["celltype"].astype(str)[own]) < 0.3


def test_an_epoch_to_search_after_is_positive():
    with pytest.raises(SettingsError, match="search_after must be positive, not 0"):
        TrainingPlan(search_after=0)


def test_ridge_is_least_squares_but_for_its_penalty():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4))
    y = x @ [1.0, -2.0, 0.5, 0.0] + 3.0
    slope, intercept = ridge(torch.tensor(x), torch.tensor(y))
    centred = x - x.mean(0)
    gram = centred.T @ centred
    truth = np.linalg.solve(gram + 0.01 * np.diag(gram).mean() * np.eye(4), centred.T @ y)
    np.testing.assert_allclose(slope, truth, rtol=1e-6)
    assert float(intercept) == pytest.approx(y.mean() - x.mean(0) @ truth)


def test_svi_goes_on_from_a_new_start():
    """Parameters change in place: Pyro's parameter store and its optimisers hold the new ones."""
    adata = clear_recipe(seed=0, n_cells=400, n_shared_genes=60, n_program_genes=60)
    mgvi = MGVI.from_anndata(adata, group_key="group")
    data = mgvi.read(adata)
    adam = pyro.optim.Adam({"lr": 1e-3})
    svi = SVI(mgvi.model, mgvi.guide, adam, loss=WassersteinTraceELBO())
    batch = data.rows(np.arange(len(data)))
    svi.step(*batch)
    parameters = [*mgvi.model.parameters(), *mgvi.guide.parameters()]
    before = [p.detach().clone() for p in parameters]
    mgvi.model.train()
    assert start_anew(mgvi.model, mgvi.guide.eval(), data)
    assert mgvi.model.training and not mgvi.guide.training
    assert not all(map(torch.equal, parameters, before))
    stored = dict(pyro.get_param_store().named_parameters()).values()
    assert {id(p) for p in parameters} <= set(map(id, stored))
    after = [p.detach().clone() for p in parameters]
    svi.step(*batch)
    for old, new in zip(after, parameters):
        torch.testing.assert_close(new, old, rtol=0, atol=2e-3)  # a step of Adam's from there


def test_what_is_shared_does_not_hide_what_is_not():
    """A factor of all cells on 60 genes, and of one group's cells on 12 of them."""
    rng, n, genes = np.random.default_rng(0), 800, 100
    both = rng.normal(size=(2, n, genes))
    both[:, :, :60] += 1.5 * rng.normal(size=(2, n, 1))
    both[0, :, :12] += 0.6 * rng.normal(size=(n, 1))
    r = torch.from_numpy(both / both.std((0, 1))).float()
    r = r - r.mean(1, keepdim=True)
    groups = [Residuals(r[b], torch.ones(genes), np.arange(b, 2 * n, 2)) for b in range(2)]
    shared = leading_directions(groups, None, torch.ones(genes, dtype=torch.bool))
    assert [int((x.loading_g != 0).sum()) for x in shared] == [60]
    own, other = (_without(group, shared) for group in groups)
    for group in (own, other):
        at = torch.from_numpy(np.isin(shared[0].cells, group.cells))
        torch.testing.assert_close(
            shared[0].score_n[at] @ group.r_ng, torch.zeros(genes), atol=0.05, rtol=0
        )
    (found,) = leading_directions([own], other.r_ng, torch.ones(genes, dtype=torch.bool))
    assert sorted(found.loading_g.abs().topk(12).indices.tolist()) == list(range(12))
    hidden = leading_directions([groups[0]], groups[1].r_ng, torch.ones(genes, dtype=torch.bool))
    assert not hidden


def test_what_was_best_before_the_search_is_past(monkeypatch):
    adata = clear_recipe(seed=0, n_cells=200, n_shared_genes=60, n_program_genes=60)
    mgvi = MGVI.from_anndata(adata, "group")
    plan = TrainingPlan(max_epochs=5, search_after=2)
    trainer = Trainer(mgvi.model, mgvi.guide, WassersteinTraceELBO(), mgvi.read(adata), plan)
    losses = iter([1.0, 2.0, 5.0, 4.0, 6.0])
    monkeypatch.setattr(trainer, "_validate", lambda: {"counts": torch.tensor(next(losses))})
    trainer.run(progress=False)
    assert trainer.best["epoch"] == 4 and trainer.best["loss"] == 4.0
    rates = [plan.learning_rate * plan.step_size(epoch) for epoch in range(5)]
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    assert rates[0] == rates[2] == plan.learning_rate and min(rates) > 0


@given(st.integers(1, 40), st.one_of(st.none(), st.integers(1, 40)))
def test_steps_shrink_up_to_a_search_and_up_to_the_end(max_epochs, search_after):
    plan = TrainingPlan(max_epochs=max_epochs, search_after=search_after)
    sizes = np.array([plan.step_size(epoch) for epoch in range(max_epochs + 1)])
    starts = [0]
    if search_after is not None and search_after < max_epochs:
        starts.append(search_after)
    assert (sizes[starts] == 1).all() and sizes[-1] == pytest.approx(0)
    assert set(np.flatnonzero(np.diff(sizes) > 0) + 1) == set(starts[1:]) - {1}
    assert (sizes[:-1] > 0).all()


@pytest.mark.parametrize("max_epochs", [8, 10])
def test_training_that_ends_before_the_search_or_at_it(max_epochs):
    adata = clear_recipe(seed=0, n_cells=200, n_shared_genes=60, n_program_genes=60)
    mgvi = MGVI.from_anndata(adata, "group")
    mgvi.fit(adata, max_epochs=max_epochs, progress=False)
    loss = mgvi.history["train"].to_numpy()
    assert len(loss) == max_epochs and loss[2] < loss[0]  # the first epochs' steps are full ones


def planted(code, programs, n_cells=400, n_genes=40):
    """Return residuals of a group: noise, and each program's genes with a score of its own."""
    rng = np.random.default_rng(code)
    r_ng = rng.normal(size=(n_cells, n_genes))
    for loading_of in programs:
        score_n = rng.normal(size=n_cells)
        for genes, loading in loading_of.items():
            r_ng[:, genes] += loading * score_n[:, None]
    r_ng = torch.tensor(r_ng / r_ng.std(0), dtype=torch.float32)
    return Residuals(r_ng, torch.ones(n_genes), np.arange(n_cells) + code * n_cells)


@pytest.mark.parametrize("own", [True, False])
def test_a_group_s_program_that_agrees_with_another_s_is_found(own, monkeypatch):
    """Genes of two owners' programs, taken for both, are not missing in the search for one."""
    both, a_only = {range(8): 0.9}, {range(16, 22): 0.9, range(10, 16): 0.9}
    b_only = {range(16, 22): 0.9, range(22, 30): 0.25 if own else 0.0}
    groups = {0: [both, a_only], 1: [both, b_only], 2: []}
    residuals = {code: planted(code, programs) for code, programs in groups.items()}
    monkeypatch.setattr("pyro_mgvi.training.search.directions._residuals", lambda *_: residuals)
    names = ("a", "b", "c")
    latents = (shared(2), private(2), subsets("pair", [("a", "b")], 2))
    model = SimpleNamespace(groups=names, latents=over_groups(latents, names))
    data = SimpleNamespace(group_n=np.repeat(range(3), 400))
    found = {
        key: [set(each.loading_g.nonzero()[:, 0].tolist()) for each in directions]
        for key, directions in find_directions(model, None, data).items()
    }
    assert set(range(8)) in found["pair", 0] and set(range(16, 22)) in found["pair", 0]
    assert [genes for genes in found["t", 0] if set(range(10, 16)) <= genes]
    assert not set(range(8)) & set().union(*found["t", 0], *found.get(("t", 1), []))
    if own:
        (genes,) = found["t", 1]
        assert len(genes & set(range(22, 30))) >= 6 and genes <= set(range(16, 30))
    else:  # nothing but what the pair has
        assert ("t", 1) not in found


def test_a_shared_direction_does_not_stand_for_a_group_s_own(monkeypatch):
    """Stronger in one group, it would pass for that group's, and hide what is really its own."""
    common, own = range(0, 30), range(30, 40)
    programs = {0: [{common: 1.6}, {own: 0.75}], 1: [{common: 0.8}]}
    residuals = {code: planted(code, each, 600) for code, each in programs.items()}
    monkeypatch.setattr("pyro_mgvi.training.search.directions._residuals", lambda *_: residuals)
    names = ("a", "b")
    model = SimpleNamespace(groups=names, latents=over_groups((shared(2), private(2)), names))
    data = SimpleNamespace(group_n=np.repeat(range(2), 600))
    found = find_directions(model, None, data)
    (of_all,) = found["z", 0]
    assert set(common) <= set(of_all.loading_g.nonzero()[:, 0].tolist())
    assert ("t", 1) not in found
    (of_one,) = found["t", 0]
    assert set(of_one.loading_g.nonzero()[:, 0].tolist()) == set(own)
    monkeypatch.setattr("pyro_mgvi.training.search.directions.SAME", 1.0)  # without the rule, the shared one is it
    first = find_directions(model, None, data)["t", 0][0]
    assert set(common) <= set(first.loading_g.nonzero()[:, 0].tolist())
