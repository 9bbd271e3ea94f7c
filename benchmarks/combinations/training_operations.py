"""Training, in all its ways, and what is then true of any configuration whatsoever."""

from __future__ import annotations

import numpy as np
import pyro
import torch
from anndata import AnnData
from pyro.infer import SVI
from pyro.util import get_rng_state, set_rng_state

from benchmarks.combinations import outside
from benchmarks.combinations.case import Case, equal, may_lack_abilities, state
from benchmarks.combinations.cells import NEW, cells, masked, measured, whole_or_not
from benchmarks.combinations.factors import MASKS
from pyro_mgvi import MGVI


def same_tables(first: dict, second: dict) -> bool:
    """Return whether two sets of tables are equal to the last bit."""
    return list(first) == list(second) and all(first[key].equals(second[key]) for key in first)


def log_likelihood(mgvi: MGVI, adata: AnnData) -> np.ndarray:
    """Return the log-likelihood of each cell at its posterior's mean."""
    data = mgvi.read(adata)
    posterior = mgvi.posterior(data.rows(np.arange(len(data))))
    with torch.no_grad():
        return posterior.log_likelihood(posterior.means()).numpy()


def fit(case: Case) -> None:
    """Check that losses are finite and that a second training gives the same model."""
    history = case.mgvi.history
    assert history["epoch"].tolist() == list(range(1, len(history) + 1))
    assert np.isfinite(history.to_numpy(float)).all() and history["kept"].sum() == 1
    sites = [column for column in history.columns if column.startswith("train_")]
    np.testing.assert_allclose(history[sites].sum(axis=1), history["train"], rtol=1e-6)
    zeros = case.chosen["counts"] == "mostly zero" and case.chosen["matrix"] != "dense"
    assert case.data.mostly_zero == zeros  # then products are sparse ones
    assert case.mgvi.trained and case.mgvi.plan == case.plan
    assert equal(state(case.fitted(case.adata)), state(case.mgvi))


def resume(case: Case) -> None:
    """Check that a training which goes on from a checkpoint ends as if it had never stopped."""
    folder = case.folder / "checkpoint"
    whole = case.fitted(case.adata, checkpoint=folder)
    assert equal(state(whole), state(case.mgvi))
    newest = max(folder.iterdir(), key=lambda file: file.name)
    newest.unlink()
    resumed = case.fitted(case.adata, checkpoint=folder)
    assert equal(state(resumed), state(case.mgvi))
    assert resumed.history.equals(case.mgvi.history)


def own_loop(case: Case) -> None:
    """Check that Pyro's own SVI takes the steps that ``fit`` takes."""
    mgvi, before = case.untrained(case.adata), get_rng_state()
    setup = mgvi.training_setup(case.adata, case.plan)
    optimiser = pyro.optim.Adam({"lr": setup.plan.learning_rate})
    with pyro.get_param_store().scope():
        svi = SVI(setup.model, setup.guide, optimiser, loss=setup.elbo)
        setup.begin_epoch(0)  # it seeds, as it says
        losses = [(svi.step(*batch), len(batch.group)) for batch in setup.minibatches(0)]
    setup.finish()
    set_rng_state(before)
    per_cell = sum(loss * size for loss, size in losses) / len(setup.data) ** 2
    np.testing.assert_allclose(per_cell, case.mgvi.history["train"].iloc[0], rtol=2e-4)
    assert not (mgvi.model.training or mgvi.guide.training)
    for table in mgvi.latents(case.adata, "encode").values():
        assert np.isfinite(table.to_numpy()).all()


def prior_draws(case: Case) -> None:
    """Check draws of the model without counts: latents are zero where they are foreign."""
    batch = case.data.rows(np.arange(len(case.data)))
    with torch.random.fork_rng(), torch.no_grad(), pyro.get_param_store().scope():
        trace = pyro.poutine.trace(case.mgvi.model).get_trace(None, *batch[1:4])
    drawn = trace.nodes["counts"]["value"].numpy()
    assert drawn.shape == case.data.shape and np.isfinite(drawn).all()
    assert whole_or_not(drawn) == case.counts
    names = [latent.name for latent in case.mgvi.families]
    assert set(names) <= set(trace.nodes)
    for copy in case.mgvi.families.copies:
        value = trace.nodes[copy.latent]["value"]
        value = value[copy.index] if value.dim() > 2 else value
        closed = ~case.mgvi.model.active.of(copy)
        owned = torch.from_numpy(np.isin(case.groups, copy.groups))
        assert value.shape == (len(batch.group), copy.dim)
        assert (value[owned][:, closed] == 0).all()
        if case.chosen["foreign prior"] == "Dirac":
            assert (value[~owned] == 0).all()


def save_and_load(case: Case) -> None:
    """Check that a loaded model says the same to the last bit, and that it trains."""
    mgvi, path = case.mgvi, case.folder / "model"
    mgvi.save(path)
    with may_lack_abilities():
        loaded = MGVI.load(path, components=outside.COMPONENTS)
    assert equal(state(loaded), state(mgvi))
    assert same_tables(loaded.latents(case.adata), mgvi.latents(case.adata))
    assert same_tables(loaded.latents(case.adata, draw=1), mgvi.latents(case.adata, draw=1))
    ours, theirs = (each.normalized_expression(case.adata) for each in (mgvi, loaded))
    assert ours.equals(theirs)
    assert loaded.schema == mgvi.schema and loaded.plan == mgvi.plan
    assert loaded.own_weight == mgvi.own_weight and loaded.history.equals(mgvi.history)
    # and goes on as the saved one does
    plan = mgvi.plan
    with may_lack_abilities():
        twins = [MGVI.load(path, components=outside.COMPONENTS) for _ in range(2)]
    for twin in twins:
        twin.fit(case.adata, plan, max_epochs=1, progress=False)
    assert equal(state(twins[0]), state(twins[1]))


def add_group(case: Case) -> None:
    """Check that old groups are as they were, and that the new one has what is its own."""
    mgvi = case.mgvi
    mask = MASKS["new"] if masked(case.chosen) else None
    with may_lack_abilities():
        larger = mgvi.add_group(case.newcomers, max_epochs=1, feature_mask=mask, progress=False)
    old, after = mgvi.latents(case.adata), larger.latents(case.adata)
    assert all(after[key].equals(table) for key, table in old.items())
    new_copies = [copy for copy in larger.families.copies if copy.groups == tuple(NEW)]
    assert set(after) - set(old) == {copy.key for copy in new_copies}
    has_t = any(latent.name == "t" for latent in mgvi.families)
    assert [copy.latent for copy in new_copies] == (["t"] if has_t else [])
    assert all(after[copy.key].isna().all(axis=None) for copy in new_copies)
    fits = [log_likelihood(each, case.adata) for each in (mgvi, larger)]
    np.testing.assert_allclose(*fits, rtol=1e-4, atol=1e-3)
    found = larger.latents(case.newcomers)
    for copy in larger.families.copies:
        table = found[copy.key]
        assert (
            table.notna().to_numpy().all()
            if "new" in copy.groups
            else table.isna().to_numpy().all()
        )
    expression = larger.normalized_expression(case.newcomers).to_numpy()
    has_ng = measured(np.repeat("new", case.newcomers.n_obs)) | (mask is None)
    assert expression.shape == has_ng.shape and (np.isfinite(expression) == has_ng).all()
    if case.counts:
        np.testing.assert_allclose(np.nansum(expression, 1), 1, rtol=1e-4)


def input_forms(case: Case) -> None:
    """Check that the same cells in another form, place or order say the same."""
    mgvi, latents = case.mgvi, case.mgvi.latents(case.adata)
    expression = mgvi.normalized_expression(case.adata).to_numpy()

    def assert_same(other: object, index: np.ndarray | slice = slice(None)) -> None:
        for key, table in mgvi.latents(other).items():
            expected = latents[key].to_numpy()[index]
            np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-5, err_msg=key)
        found = mgvi.normalized_expression(other).to_numpy()
        np.testing.assert_allclose(found, expression[index], rtol=1e-4, atol=1e-6)

    for matrix in ("dense", "CSR", "backed"):
        assert_same(cells(case.chosen | {"matrix": matrix}, case.folder))
    elsewhere = {"X": {"layer": "X"}, "layer": {"layer": "counts"}, "raw": {"use_raw": True}}
    for place, where in elsewhere.items():
        other = cells(case.chosen | {"place": place, "matrix": "CSR"}, case.folder)
        assert_same(mgvi.read(other, **where))
    few = np.random.default_rng(0).permutation(len(case.kept))[:25]
    assert_same(case.in_memory[case.kept[few]], few)
    assert_same(case.in_memory[case.kept[few[:1]]], few[:1])
    # and train the same model, but for rounding errors
    matrix = "CSR" if case.chosen["matrix"] == "dense" else "dense"
    other = case.fitted(cells(case.chosen | {"matrix": matrix}, case.folder))
    np.testing.assert_allclose(other.history["train"], mgvi.history["train"], rtol=1e-4)
