import matplotlib
import numpy as np
import pandas as pd
import pytest

import pyro_mgvi
from pyro_mgvi import metrics, plots
from pyro_mgvi.analysis.diagnosis import Report
from pyro_mgvi.datasets.simulate import clear_recipe

matplotlib.use("Agg")
RNG = np.random.default_rng(0)


def test_scores_know_separate_from_mixed():
    labels = np.repeat(["a", "b", "c"], 100)
    apart = np.eye(3)[np.repeat(range(3), 100)] * 10 + RNG.normal(size=(300, 3))
    mixed = RNG.normal(size=(300, 3))
    assert metrics.kmeans_ari(apart, labels) == 1 and metrics.kmeans_ari(mixed, labels) < 0.05
    assert metrics.silhouette(apart, labels) > 0.7 and metrics.silhouette(mixed, labels) < 0.02
    assert metrics.probe(apart, labels) == 1
    assert metrics.probe(mixed, labels) == pytest.approx(1 / 3, abs=0.1)


def test_probe_is_balanced():
    labels = np.array(["rare"] * 10 + ["common"] * 190)
    assert metrics.probe(np.ones((200, 1)), labels) == pytest.approx(0.5)


def test_active_units_and_cka():
    x = RNG.normal(size=(400, 3))
    assert metrics.active_units(np.column_stack([x, 0.05 * x[:, :2]])) == 3
    rotation = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    assert metrics.linear_cka(x, x @ rotation) == pytest.approx(1)
    assert metrics.linear_cka(x, RNG.normal(size=(400, 3))) < 0.05
    assert metrics.linear_cka(x, np.zeros((400, 2))) == 0


def test_program_score_is_a_ceiling():
    adata = clear_recipe(0, n_cells=600, n_shared_genes=100, n_program_genes=150)
    ideal, program = metrics.program_score(adata, "group1")
    assert ideal.shape == (len(program), 1) and set(program) == {"P1", "P2"}
    assert metrics.kmeans_ari(ideal, program) > 0.8
    shuffled = RNG.permutation(program)
    assert metrics.kmeans_ari(ideal, shuffled) < 0.05


def test_latents_figure_leaves_out_foreign_cells():
    adata = clear_recipe(0, n_cells=60, n_shared_genes=20, n_program_genes=10)
    t = RNG.normal(size=(60, 4))
    foreign = (adata.obs["group"] != "group1").to_numpy()
    t[foreign] = np.nan
    adata.obsm["X_mgvi_t_group1"] = t
    adata.obsm["X_mgvi_z"] = RNG.normal(size=(60, 1))
    axes = plots.latents(adata, [("X_mgvi_z", "group"), ("X_mgvi_t_group1", "program")])
    assert len(axes) == 2 and axes[1].get_title() == "t_group1 by program"
    assert len(axes[1].collections[0].get_offsets()) == (~foreign).sum()
    assert [x.get_text() for x in axes[1].get_legend().get_texts()] == ["P1", "P2"]


def test_history_plot():
    table = pd.DataFrame({"epoch": [1, 2], "train": [3.0, 2.0], "validation": [3.1, 2.4]})
    ax = plots.history(table)
    assert [line.get_label() for line in ax.lines] == ["train", "validation"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [3.1, 2.4])


def test_ranking_fills_what_the_q_value_calls():
    table = pd.DataFrame(
        {"gene": list("abc"), "per_cell": [3.0, 2.0, 1.0], "q_value": [0.01, 0.5, np.nan]}
    )
    ax = plots.ranking(table, top=3)
    assert [x.get_text() for x in ax.get_yticklabels()] == ["a", "b", "c"] and ax.yaxis_inverted()
    called, not_called = ax.containers
    assert [bar.get_width() for bar in called] == [3.0]
    assert [bar.get_width() for bar in not_called] == [2.0, 1.0]
    assert not_called[0].get_facecolor()[3] == 0


def test_expression_draws_all_and_shared_for_the_group_and_for_the_others(mgvi, adata):
    genes = ["program_2", "shared_1"]
    axes = plots.expression(mgvi, adata, "group2", genes)
    assert [ax.get_title() for ax in axes] == genes
    own = (adata.obs["group"] == "group2").to_numpy()
    drawn = [x.get_ydata()[0] for x in axes[0].lines if x.get_color() == plots.PALETTE[-1]]
    truth = []
    for latents in (None, "z"):
        values = 1e4 * mgvi.normalized_expression(adata, latents, genes)["program_2"].to_numpy()
        truth += [np.median(values[own]), np.median(values[~own])]
    np.testing.assert_allclose(drawn, truth, rtol=1e-5)
    with pytest.raises(pyro_mgvi.DataError, match="group9"):
        plots.expression(mgvi, adata, "group9", genes)


def test_diagnostics_draw_what_the_report_holds():
    dimensions = {"latent": ["z", "z", "t_a"], "dimension": [0, 1, 0], "kl": [0.2, 1.5, 0.7]}
    copies = {"worth": [np.nan, 2.0], "worth_se": [np.nan, 0.1], "shuffled": [np.nan, -0.5]}
    copies = pd.DataFrame(copies | {"shuffled_se": [np.nan, 0.2]}, index=["z", "t_a"])
    probes = {"latent": ["t_a"], "target": ["label"], "accuracy": [0.4], "chance": [0.25]}
    report = Report(pd.DataFrame(dimensions), copies, pd.DataFrame(probes), ())
    kl, worth, probe = plots.diagnostics(report)
    drawn = {line.get_label(): list(line.get_ydata()) for line in kl.lines}
    assert drawn == {"z": [1.5, 0.2], "t_a": [0.7]}
    assert [label.get_text() for label in worth.get_yticklabels()] == ["t_a"]
    points = [box.lines[0].get_xdata()[0] for box in worth.containers]
    bars = [box.lines[2][0].get_segments()[0][:, 0] for box in worth.containers]
    assert points == [2.0, -0.5]
    np.testing.assert_allclose(bars, [[1.7, 2.3], [-1.1, 0.1]])  # 3 standard errors
    assert [bar.get_width() for bar in probe.patches] == [0.4]
    none = Report(report.dimensions, copies, report.probes[:0], ())
    assert not plots.diagnostics(none)[2].axison
    figure = kl.figure
    figure.canvas.draw()
