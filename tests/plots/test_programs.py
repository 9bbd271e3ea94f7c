"""The picture of one dimension, read back from its artists."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import pyro_mgvi
from pyro_mgvi import plots
from pyro_mgvi.plots.programs import _smooth


def test_cells_are_in_the_order_of_the_dimension_with_their_labels(mgvi, adata):
    ax = plots.program(mgvi, adata, "t_group2", 2, label_key="celltype", top=5)
    table = mgvi.programs(adata, "t_group2", calibration=False).query("dimension == 2")
    genes = [label.get_text() for label in ax.get_yticklabels()]
    up, down = (list(table["gene"][table["effect"] * way > 0].head(5)) for way in (1, -1))
    n_up = sum(gene in up for gene in genes)
    assert genes[:n_up] == up[:n_up]
    assert genes[n_up:][::-1] == down[: len(genes) - n_up] and 0 < n_up <= 5
    assert ax.get_title() == "t_group2, dimension 2"
    values = mgvi.latents(adata)["t_group2"]["t_group2_2"].dropna()
    order = (values * table["orientation"].iloc[0]).sort_values(kind="stable").index
    strip = next(child for child in ax.child_axes if child.images)
    levels = sorted(adata.obs["celltype"].unique())
    colours = [to_rgb(plots.PALETTE[levels.index(x)]) for x in adata.obs["celltype"][order]]
    np.testing.assert_allclose(np.asarray(strip.images[0].get_array())[0][:, :3], colours)
    counts = np.asarray(adata.X.todense())
    logs = np.log1p(counts / counts.sum(1, keepdims=True))
    rows = [list(adata.obs_names).index(cell) for cell in order]
    first = logs[rows][:, list(adata.var_names).index(genes[0])]
    assert np.corrcoef(ax.images[0].get_array()[0], first)[0, 1] > 0.9
    assert {text.get_text() for text in ax.get_legend().get_texts()} <= set(levels)


def test_smoothing_keeps_what_is_constant_and_the_mean_of_a_window():
    row = np.random.default_rng(0).normal(size=(1, 120))
    smooth = _smooth(row)[0]  # over 3 cells
    mean = np.array([row[0, max(0, i - 1) : i + 2].mean() for i in range(120)])
    np.testing.assert_allclose(smooth, (mean - mean.mean()) / mean.std())
    assert (_smooth(np.ones((2, 50))) == 0).all()


def test_a_number_is_a_strip_of_its_own_and_a_figure_can_be_saved(mgvi, adata, tmp_path):
    adata = adata.copy()
    adata.obs["age"] = np.arange(120.0)
    path = tmp_path / "program.png"
    ax = plots.program(mgvi, adata, "t_group1", label_key="age", save=path)
    assert path.stat().st_size > 1000 and ax.get_legend() is None
    strip = next(child for child in ax.child_axes if child.images)
    assert strip.get_ylabel() == "age"


def test_what_cannot_be_drawn_is_said(mgvi, adata):
    for options, error, message in (
        (("t_group9",), pyro_mgvi.SettingsError, "unknown latent 't_group9'"),
        (("t_group1", 3), pyro_mgvi.SettingsError, "dimension 3 of t_group1 is not in use"),
        (("t_group1", 1, "organ"), pyro_mgvi.DataError, "label_key 'organ' is not a column"),
        (("t_group1", 1, ["organ"]), pyro_mgvi.DataError, "label_key must be the name of one"),
    ):
        with pytest.raises(error, match=message):
            plots.program(mgvi, adata, *options)
    still = pyro_mgvi.MGVI.from_anndata(
        adata, "group", latents=["z:2", "t:1"], decoder=pyro_mgvi.LogLinearDecoder
    )
    for weight in still.model.decoder.heads[0].parameters():
        weight.data.zero_()
    with pytest.raises(pyro_mgvi.DataError, match="changes no gene"):
        plots.program(still, adata, "t_group1")


def test_transformed_values_are_drawn_as_they_are(adata):
    adata = adata.copy()
    adata.X = np.log1p(adata.X.toarray())
    mgvi = pyro_mgvi.MGVI.from_anndata(
        adata, "group", latents=["z:2", "t:1"], likelihood=pyro_mgvi.Gaussian
    )
    table = mgvi.programs(adata, "t_group1")  # no counts: nothing to refit for
    assert table["q_value"].isna().all() and (table["information"] == table["effect"] ** 2).all()
    ax = plots.program(mgvi, adata, "t_group1")
    assert ax.get_yticklabels()[0].get_text() == table["gene"].iloc[0]
    assert "depth_correlation" not in mgvi.program_summary(adata)


def test_the_legend_hides_no_word_of_the_colour_bar(mgvi, adata):
    ax = Figure((6.5, 7)).subplots()  # tall, so that the bar could have long numbers
    plots.program(mgvi, adata, "t_group2", label_key="celltype", ax=ax, show=False)
    ax.figure.canvas.draw()
    bar = next(child for child in ax.child_axes if child.get_ylabel())
    name = bar.yaxis.label.get_window_extent()
    legend = ax.get_legend().get_window_extent()
    assert name.width > 0 and name.x1 < legend.x0
