"""Latents in two dimensions, read back from the artists."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from pyro_mgvi import DataError, plots
from pyro_mgvi.datasets import clear_recipe


def cells(n=90):
    rng = np.random.default_rng(0)
    adata = AnnData(
        np.ones((n, 2), np.float32),
        obs=pd.DataFrame(
            {
                "two": pd.Categorical(np.resize(["a", "b"], n)),
                "many": np.resize([f"type {i:02}" for i in range(20)], n),
                "score": np.linspace(0, 1, n),
                "flag": np.resize([True, False], n),
                "gaps": np.resize(["a", None], n),
            },
            index=[f"c{i}" for i in range(n)],
        ),
    )
    adata.obsm["X_mgvi_z"] = rng.normal(size=(n, 4))
    adata.obsm["X_mgvi_t_a"] = np.where(adata.obs[["two"]] == "a", rng.normal(size=(n, 2)), np.nan)
    return adata


def test_one_panel_per_latent_without_foreign_cells():
    axes = plots.latents(cells(), "two", layout=plots.pca)
    assert [ax.get_title() for ax in axes] == ["z by two", "t_a by two"]
    assert axes[0].get_xlabel() == "PC 1"
    drawn = [len(ax.collections[0].get_offsets()) for ax in axes]
    assert drawn == [90, 45]


def test_a_continuous_column_has_a_colour_bar_and_its_own_values():
    adata = cells()
    ax = plots.latents(adata, [("X_mgvi_z", "score")], layout=plots.pca)[0]
    points = ax.collections[0]
    assert len(ax.child_axes) == 1 and ax.get_legend() is None
    place = plots.pca(adata.obsm["X_mgvi_z"])
    shown = dict(zip(map(tuple, points.get_offsets().round(6).tolist()), points.get_array()))
    for xy, score in zip(place.round(6).tolist(), adata.obs["score"]):
        assert shown[tuple(xy)] == pytest.approx(score)


def test_twenty_categories_differ_in_colour_or_marker_and_booleans_are_categories():
    axes = plots.latents(cells(), [("X_mgvi_z", "many"), ("X_mgvi_z", "flag")], layout=plots.pca)
    legend = axes[0].get_legend()
    looks = set()
    for handle in legend.legend_handles:
        marker = handle.get_paths()[0].vertices.round(3).tobytes()
        looks.add((marker, tuple(handle.get_facecolor()[0])))
    assert len(legend.get_texts()) == 20 == len(looks)
    assert [x.get_text() for x in axes[1].get_legend().get_texts()] == ["False", "True"]


def test_missing_labels_are_grey_and_not_in_the_legend():
    ax = plots.latents(cells(), [("X_mgvi_z", "gaps")], layout=plots.pca)[0]
    assert [x.get_text() for x in ax.get_legend().get_texts()] == ["a"]
    grey = [x for x in ax.collections if len(x.get_offsets()) == 45 and x.get_zorder() == 0]
    assert len(grey) == 1


@pytest.mark.slow
def test_umap_is_the_default_where_scanpy_is():
    pytest.importorskip("scanpy")
    adata = cells()
    adata.obsm["X_mgvi_z"][:45] += 20
    del adata.obsm["X_mgvi_t_a"]
    ax = plots.latents(adata, "score")[0]
    assert ax.get_xlabel() == "UMAP 1"
    xy = plots.umap(adata.obsm["X_mgvi_z"])
    apart = np.linalg.norm(xy[:45].mean(0) - xy[45:].mean(0))
    assert apart > 2 * max(xy[:45].std(0).max(), xy[45:].std(0).max())


def test_what_is_not_there_is_named():
    adata = cells()
    for panels in ("none_such", [("X_none_such", "two")]):
        with pytest.raises(DataError, match="none_such"):
            plots.latents(adata, panels, layout=plots.pca)
    with pytest.raises(DataError, match="write_latents"):
        plots.latents(adata, "two", prefix="X_other_")


@pytest.mark.slow
def test_latents_figure_leaves_out_foreign_cells():
    rng = np.random.default_rng(0)
    adata = clear_recipe(0, n_cells=60, n_shared_genes=20, n_program_genes=10)
    t = rng.normal(size=(60, 4))
    foreign = (adata.obs["group"] != "group1").to_numpy()
    t[foreign] = np.nan
    adata.obsm["X_mgvi_t_group1"] = t
    adata.obsm["X_mgvi_z"] = rng.normal(size=(60, 1))
    axes = plots.latents(adata, [("X_mgvi_z", "group"), ("X_mgvi_t_group1", "program")])
    assert len(axes) == 2 and axes[1].get_title() == "t_group1 by program"
    assert len(axes[1].collections[0].get_offsets()) == (~foreign).sum()
    assert [x.get_text() for x in axes[1].get_legend().get_texts()] == ["P1", "P2"]
