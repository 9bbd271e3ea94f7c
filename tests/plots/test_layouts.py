"""Layouts put cells where their latent says, and nowhere where it says nothing."""

import numpy as np
import pytest
from pyro_mgvi.metrics import kmeans_ari

from pyro_mgvi import DataError, plots
from pyro_mgvi.plots.layouts import placed


def test_principal_components_are_those_of_the_dimensions_in_use():
    x = np.random.default_rng(0).normal(size=(50, 2)) * [1, 10]
    padded = np.column_stack([x, np.full(50, 0.1)])
    xy = plots.pca(padded)
    assert abs(np.corrcoef(xy[:, 0], x[:, 1])[0, 1]) > 0.99  # the wider first: a component
    one = plots.pca(padded[:, 1:])
    np.testing.assert_allclose(one[:, 0], x[:, 1] - x[:, 1].mean())
    assert (one[:, 1] == 0).all()  # not a random number
    assert (plots.pca(padded[:, 2:]) == 0).all()


def test_nothing_is_no_layout():
    for nothing in (np.zeros((600, 10)), np.full((600, 10), 0.1)):
        with pytest.raises(DataError, match="no dimension of the latent is in use"):
            plots.umap(nothing)
    for layout in (plots.pca, plots.umap):
        with pytest.raises(DataError, match="not finite"):
            layout(np.array([[1.0, 2.0], [np.nan, np.nan]]))
    with pytest.raises(DataError, match="4 cells"):
        plots.umap(np.eye(3))


def test_too_few_cells_for_umap_are_laid_out_by_components_and_said_to_be():
    xy, axis = placed(np.eye(3), plots.umap)
    assert axis == "PC" and xy.shape == (3, 2)


@pytest.mark.slow
def test_many_cells_are_laid_out_as_few_are():
    pytest.importorskip("scanpy")
    rng = np.random.default_rng(0)
    cluster = rng.integers(3, size=9000)  # from 8,192 cells on, scanpy would approximate
    xy = plots.umap(20 * np.eye(3)[cluster] + rng.normal(size=(9000, 3)))
    assert kmeans_ari(xy, cluster) > 0.99
