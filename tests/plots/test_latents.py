"""Latents in two dimensions, read back from the artists."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex

from pyro_mgvi import DataError, SettingsError, plots
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.plots.colours import MISSING


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


def test_complex_numbers_are_refused_by_name():
    adata = cells()
    adata.obs["score"] = adata.obs["score"] + 1j
    with pytest.raises(DataError, match="panels 'score' holds complex numbers"):
        plots.latents(adata, "score", layout=plots.pca)


def test_twenty_categories_differ_in_colour_or_marker_and_booleans_are_categories():
    axes = plots.latents(cells(), [("X_mgvi_z", "many"), ("X_mgvi_z", "flag")], layout=plots.pca)
    legend = axes[0].get_legend()
    looks = set()
    for handle in legend.legend_handles:
        marker = handle.get_paths()[0].vertices.round(3).tobytes()
        looks.add((marker, tuple(handle.get_facecolor()[0])))
    assert len(legend.get_texts()) == 20 == len(looks)
    assert [x.get_text() for x in axes[1].get_legend().get_texts()] == ["False", "True"]


def legend(ax):
    """Return the colour of each name."""
    box = ax.get_legend()
    return {
        text.get_text(): to_hex(handle.get_facecolor()[0])
        for text, handle in zip(box.get_texts(), box.legend_handles)
    }


def test_missing_labels_are_grey_and_called_missing():
    ax = plots.latents(cells(), [("X_mgvi_z", "gaps")], layout=plots.pca)[0]
    assert legend(ax) == {"a": plots.PALETTE[0].lower(), "missing": MISSING.lower()}
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


def refuse(latent_nk):
    raise AssertionError("an empty or a single dimension was laid out")


@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_an_empty_latent_is_said_to_be_empty_and_nothing_is_drawn(constant):
    adata = cells()
    adata.obsm["X_mgvi_t_a"] = np.full((90, 10), constant, np.float32)
    for column in ("two", "score", "gaps"):
        ax = plots.latents(adata, [("X_mgvi_t_a", column)], layout=refuse)[0]
        assert [text.get_text().split(":")[0] for text in ax.texts] == ["empty"]
        assert not ax.collections and ax.get_legend() is None and ax.get_xlabel() == ""
    adata.obsm["X_mgvi_t_a"][:] = np.nan
    assert (
        "no cell"
        in plots.latents(adata, "two", prefix="X_mgvi_t", layout=refuse)[0].texts[0].get_text()
    )


def one_dimension(adata):
    t = np.zeros((adata.n_obs, 10))
    t[:, 4] = np.linspace(0, 1, adata.n_obs) + 5 * (adata.obs["two"] == "a")
    adata.obsm["X_mgvi_t_a"] = t
    return t[:, 4]


def test_one_dimension_in_use_is_a_row_for_each_label_the_highest_median_on_top():
    adata = cells()
    value = one_dimension(adata)
    adata.obs["gaps"] = adata.obs["two"].astype(object).where(np.arange(90) >= 9, None)
    ax = plots.latents(adata, [("X_mgvi_t_a", "gaps")], layout=refuse)[0]
    assert ax.get_xlabel() == "dimension 5" and "PC" not in ax.get_ylabel()
    assert [x.get_text() for x in ax.get_yticklabels()] == ["missing", "b", "a"]
    points = ax.collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 0], value)
    row = np.where(adata.obs["gaps"].isna(), 0, np.where(adata.obs["gaps"] == "a", 2, 1))
    np.testing.assert_array_equal(points[:, 1].round(), row)
    medians = [lines.get_segments()[0][0, 0] for lines in ax.collections[1:]]
    np.testing.assert_allclose(medians, [np.median(value[row == r]) for r in range(3)])


def test_one_dimension_in_use_is_drawn_against_a_number():
    adata = cells()
    value = one_dimension(adata)
    adata.obs.loc["c3", "score"] = np.nan
    ax = plots.latents(adata, [("X_mgvi_t_a", "score")], layout=refuse)[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("dimension 5", "score")
    known = adata.obs["score"].notna().to_numpy()
    points = np.column_stack([value, adata.obs["score"]])[known]
    np.testing.assert_allclose(ax.collections[0].get_offsets(), points)
    assert len(ax.collections[1].get_offsets()) == 1  # grey, at the edge


def test_names_are_no_formulas_and_those_with_an_underscore_are_in_the_legend():
    adata = cells()
    one_dimension(adata)
    adata.obs["odd"] = np.resize(["_hidden", r"$\none{$", "<b>"], 90)
    axes = plots.latents(adata, "odd", layout=plots.pca)
    assert set(legend(axes[0])) == {"_hidden", r"$\none{$", "<b>"}
    assert {x.get_text() for x in axes[1].get_yticklabels()} == {"_hidden", r"$\none{$", "<b>"}
    adata.obs["$a$ $"] = adata.obs["odd"]
    plots.latents(adata, "$a$ $", layout=plots.pca)[0].figure.draw_without_rendering()


def test_levels_beyond_those_that_can_be_told_apart_are_other():
    adata = cells()
    one_dimension(adata)
    level = np.arange(90) % 45
    level[(level > 40) & (np.arange(90) < 45)] = 0  # the last four are rare
    adata.obs["very_many"] = [f"a rather long name of level {i:02}" for i in level]
    axes = plots.latents(adata, "very_many", layout=plots.pca)
    names = list(legend(axes[0]))
    assert len(names) == 33 and names[-1] == "other (13 levels)"
    assert sum(len(x.get_offsets()) for x in axes[0].collections) == 90
    rows = [x.get_text() for x in axes[1].get_yticklabels()]
    assert rows[0] == "other (13 levels)" and set(rows) == set(names)
    axes[0].figure.draw_without_rendering()  # a legend that leaves no room would warn


def test_colours_that_scanpy_keeps_are_used_where_they_fit():
    adata = cells()
    adata.uns["two_colors"] = np.array(["#ff0000", "lime"])
    adata.uns["many_colors"] = ["#ff0000"]  # too few
    adata.uns["flag_colors"] = ["red", "no colour"]
    pairs = [("X_mgvi_z", column) for column in ("two", "many", "flag")]
    two, many, flag = map(legend, plots.latents(adata, pairs, layout=plots.pca))
    assert two == {"a": "#ff0000", "b": "#00ff00"}
    assert many["type 00"] == flag["False"] == plots.PALETTE[0].lower()


def test_a_label_looks_the_same_in_every_panel():
    adata = cells()  # t_a is of the cells of "a" only: of the even levels
    z, t = map(legend, plots.latents(adata, "many", layout=plots.pca))
    assert len(z) == 20 and len(t) == 10 and t == {name: z[name] for name in t}


def test_categories_keep_their_order():
    adata = cells()
    adata.obs["two"] = adata.obs["two"].cat.reorder_categories(["b", "a"])
    assert list(legend(plots.latents(adata, "two", layout=plots.pca)[0])) == ["b", "a"]


def test_what_cannot_be_drawn_is_refused():
    adata = cells()
    adata.obsm["X_mgvi_z"][3, 1] = np.inf
    with pytest.raises(DataError, match="infinite"):
        plots.latents(adata, "two", layout=plots.pca)
    with pytest.raises(SettingsError, match="columns must be at least 1"):
        plots.latents(adata, "two", columns=0)
    with pytest.raises(DataError, match="panels is empty"):
        plots.latents(adata, [])
    with pytest.raises(DataError, match=r"shape \(45, 3\), not \(45, 2\)"):
        pair = [("X_mgvi_t_a", "two")]
        plots.latents(adata, pair, layout=lambda x: np.ones((len(x), 3)))
