"""What the figures show, read back from their artists."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import pyro_mgvi
from pyro_mgvi import DataError, MGVIError, plots
from pyro_mgvi.criticism import PredictiveChecks

matplotlib.use("Agg")
RNG = np.random.default_rng(0)


def cells(n=90):
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
    adata.obsm["X_mgvi_z"] = RNG.normal(size=(n, 4))
    adata.obsm["X_mgvi_t_a"] = np.where(adata.obs[["two"]] == "a", RNG.normal(size=(n, 2)), np.nan)
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


def test_umap_is_the_default_where_scanpy_is():
    pytest.importorskip("scanpy")
    adata = cells()
    adata.obsm["X_mgvi_z"][:45] += 20
    del adata.obsm["X_mgvi_t_a"]
    ax = plots.latents(adata, "score")[0]
    assert ax.get_xlabel() == "UMAP 1"
    xy = plots.umap(adata.obsm["X_mgvi_z"])
    apart = np.linalg.norm(xy[:45].mean(0) - xy[45:].mean(0))
    assert apart > 2 * max(xy[:45].std(), xy[45:].std())


def test_what_is_not_there_is_named():
    adata = cells()
    for panels in ("none_such", [("X_none_such", "two")]):
        with pytest.raises(DataError, match="none_such"):
            plots.latents(adata, panels, layout=plots.pca)
    with pytest.raises(DataError, match="write_latents"):
        plots.latents(adata, "two", prefix="X_other_")


def table(names, n):
    columns = {}
    for name in names:
        observed = RNG.uniform(1, 2, n)
        columns[f"{name}_observed"] = observed
        columns[f"{name}_predicted"] = observed + 0.01
        columns[f"{name}_lower"] = observed - 0.1
        columns[f"{name}_upper"] = observed + np.where(np.arange(n) < n / 4, -0.05, 0.1)
    return pd.DataFrame(columns)


def test_predictive_checks_mark_what_is_outside():
    checks = PredictiveChecks(
        table(("mean", "variance", "zeros"), 40), table(("library", "zeros"), 20), draws=20
    )
    axes = plots.predictive_checks(checks)
    assert len(axes) == 6
    for ax, n in zip(axes[1:], (40, 40, 40, 20, 20)):
        inside, outside = (x for x in ax.collections if type(x).__name__ == "PathCollection")
        assert (len(inside.get_offsets()), len(outside.get_offsets())) == (0.75 * n, 0.25 * n)
        assert ax.texts[0].get_text().startswith("75%")
    assert axes[0].get_xscale() == axes[0].get_yscale() == "log"


def test_plate_diagram_shows_sites_and_plates_and_writes_a_file(mgvi, adata, tmp_path):
    pytest.importorskip("graphviz")
    graph = plots.plate_diagram(mgvi)
    for name in ("z", "t", "library", "counts", "cells", "t_copies"):
        assert name in graph.source, name
    latents = (pyro_mgvi.shared(2), pyro_mgvi.pairwise(1))
    other = pyro_mgvi.MGVI.from_anndata(adata, "group", batch_key="celltype", latents=latents)
    assert "pair_copies" in plots.plate_diagram(other, distributions=True).source
    import shutil

    if shutil.which("dot") is None:
        with pytest.raises(MGVIError, match="graphviz"):
            plots.plate_diagram(mgvi, tmp_path / "model.svg")
        return
    plots.plate_diagram(mgvi, tmp_path / "model.svg")
    assert "t_copies" in (tmp_path / "model.svg").read_text()
    with pytest.raises(MGVIError, match=r"model\.nothing"):
        plots.plate_diagram(mgvi, tmp_path / "model.nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["model.svg"]
