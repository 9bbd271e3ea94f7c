"""Dimensions that say nothing are closed, and are then zero in everything."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.fitting import PLAN, fitted, same, untrained

from pyro_mgvi import MGVI, Gaussian, WassersteinTraceELBO, prune
from pyro_mgvi.training.search.pruning import dimension_divergence

KEYS = ("t_group1", "t_group2", "t_group3")


@pytest.fixture
def unpruned(adata):
    return fitted(adata, plan=replace(PLAN, prune_below=0.0))


def test_dimensions_that_say_nothing_are_closed(adata, unpruned, tmp_path):
    mgvi, data = unpruned, unpruned.read(adata)
    said = dimension_divergence(mgvi, data)
    threshold = float(np.median(said["t"]))
    elbo = WassersteinTraceELBO()
    full = elbo.terms(mgvi.model, mgvi.guide, *data.rows(np.arange(len(data))))
    prune(mgvi, data, threshold)
    closed = said["t"].numpy() < threshold
    assert 0 < closed.sum() < closed.size
    np.testing.assert_array_equal(mgvi.model.active["t"], ~closed)
    latents, draws = mgvi.latents(adata), mgvi.latents(adata, draw=0)
    for copy, key in enumerate(KEYS):
        own = np.isfinite(latents[key]).all(axis=1)
        np.testing.assert_array_equal((latents[key][own] == 0).all(axis=0), closed[copy])
        assert (draws[key][own].loc[:, closed[copy]] == 0).all(axis=None)
        assert (draws[key][own].loc[:, ~closed[copy]] != 0).all(axis=None)
    left = dimension_divergence(mgvi, data)
    np.testing.assert_allclose(left["t"], np.where(closed, 0, said["t"]), rtol=1e-5)
    terms = elbo.terms(mgvi.model, mgvi.guide, *data.rows(np.arange(len(data))))
    assert 0 < terms["t"] < full["t"]  # neither owners nor others pay for them
    mgvi.save(tmp_path / "m")
    loaded = MGVI.load(tmp_path / "m")
    assert same(loaded.latents(adata), latents)
    np.testing.assert_array_equal(loaded.model.active["t"], ~closed)


def test_what_a_dimension_says_is_the_divergence_of_its_owners(adata, unpruned):
    data = unpruned.read(adata)
    batch = data.rows(np.arange(len(data)))
    with torch.no_grad():
        loc, scale = unpruned.guide.moments(batch.counts, batch.covariates)["t"]
    kl = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).numpy()
    expected = [kl[copy, data.group_n == copy].mean(0) for copy in range(3)]
    np.testing.assert_allclose(dimension_divergence(unpruned, data)["t"], expected, rtol=1e-4)


def test_only_chosen_copies_are_closed(adata, unpruned):
    copies = {"z": torch.tensor([False]), "t": torch.tensor([False, True, False])}
    prune(unpruned, unpruned.read(adata), 1e6, copies)
    assert unpruned.model.active["z"].all()
    assert unpruned.model.active["t"].all(1).tolist() == [True, False, True]
    assert not unpruned.model.active["t"][1].any()


def test_training_closes_them_at_the_end(adata):
    mgvi = untrained(adata)
    mgvi.fit(adata, replace(PLAN, prune_below=1e6), progress=False)
    assert not any(mgvi.model.active[name].any() for name in ("z", "t"))
    assert all((value == 0).all(axis=None) for value in mgvi.latents(adata, "encode").values())


def test_closed_dimensions_are_zero_for_transformed_data_too(adata):
    mgvi = untrained(adata, likelihood=Gaussian)
    mgvi.fit(adata, replace(PLAN, max_epochs=1, prune_below=1e6), progress=False)
    assert all((value == 0).all(axis=None) for value in mgvi.latents(adata, "encode").values())
