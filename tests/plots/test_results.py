"""Figures of what training and analysis found, read back from their artists."""

import numpy as np
import pandas as pd
import pytest

import pyro_mgvi
from pyro_mgvi import DataError, Diagnosis, plots


def test_history_plot():
    table = pd.DataFrame({"epoch": [1, 2], "train": [3.0, 2.0], "validation": [3.1, 2.4]})
    ax = plots.history(table)
    assert [line.get_label() for line in ax.lines] == ["train", "validation"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [3.1, 2.4])
    longer = pd.DataFrame({"epoch": range(1, 21), "train": np.linspace(3, 2, 20)})
    ticks = plots.history(longer).get_xticks()  # there is no epoch 2.5
    np.testing.assert_array_equal(ticks, ticks.round())


def test_ranking_fills_what_the_q_value_calls():
    columns = {"per_cell": [3.0, 2.0, 1.0], "q_value": [0.01, 0.5, np.nan]}
    table = pd.DataFrame(columns, index=list("abc"))
    ax = plots.ranking(table, top=3)
    assert [x.get_text() for x in ax.get_yticklabels()] == ["a", "b", "c"] and ax.yaxis_inverted()
    called, not_called = ax.containers
    assert [bar.get_width() for bar in called] == [3.0]
    assert [bar.get_width() for bar in not_called] == [2.0, 1.0]
    assert not_called[0].get_facecolor()[3] == 0


def test_diagnostics_draw_what_the_report_holds():
    dimensions = {"latent": ["z", "z", "t_a"], "dimension": [1, 2, 1], "kl": [0.2, 1.5, 0.7]}
    copies = {"worth": [np.nan, 2.0], "worth_se": [np.nan, 0.1], "shuffled": [np.nan, -0.5]}
    copies = pd.DataFrame(copies | {"shuffled_se": [np.nan, 0.2]}, index=["z", "t_a"])
    probes = {
        "latent": ["t_a"],
        "kind": ["label"],
        "target": ["label"],
        "accuracy": [0.4],
        "chance": [0.25],
    }
    report = Diagnosis(pd.DataFrame(dimensions), copies, pd.DataFrame(probes), ())
    kl, worth, probe = plots.diagnostics(report)
    drawn = {line.get_label(): list(line.get_ydata()) for line in kl.lines}
    assert drawn == {"z": [1.5, 0.2], "t_a": [0.7]}
    assert [label.get_text() for label in worth.get_yticklabels()] == ["t_a"]
    points = [box.lines[0].get_xdata()[0] for box in worth.containers]
    bars = [box.lines[2][0].get_segments()[0][:, 0] for box in worth.containers]
    assert points == [2.0, -0.5]
    np.testing.assert_allclose(bars, [[1.7, 2.3], [-1.1, 0.1]])  # 3 standard errors
    assert [bar.get_width() for bar in probe.patches] == [0.4]
    none = Diagnosis(report.dimensions, copies, report.probes[:0], ())
    assert not plots.diagnostics(none)[2].axison
    kl.figure.draw_without_rendering()


def test_every_figure_can_be_saved(mgvi, adata, tmp_path):
    table = pd.DataFrame({"per_cell": [1.0], "q_value": [0.5]}, index=["$a$ _{"])
    plots.ranking(table, save=tmp_path / "ranking.png")
    plots.expression(mgvi, adata, "group2", "shared_1", save=tmp_path / "expression.svg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["expression.svg", "ranking.png"]


def test_a_table_of_something_else_is_refused():
    for draw in (plots.history, plots.ranking):
        with pytest.raises(pyro_mgvi.DataError, match="no column"):
            draw(pd.DataFrame({"x": [1]}))


@pytest.mark.slow
def test_every_latent_of_many_groups_is_told_apart_in_the_diagnostics():
    keys = ["_z", *(f"t_group {i} $" for i in range(41))]
    dimensions = pd.DataFrame({"latent": keys, "dimension": 1, "kl": 1.0})
    copies = {"worth": 1.0, "worth_se": 0.1, "shuffled": 0.0, "shuffled_se": 0.1}
    probes = pd.DataFrame(columns=["latent", "kind", "target", "accuracy", "chance"])
    report = Diagnosis(dimensions, pd.DataFrame(copies, index=keys), probes, ())
    kl = plots.diagnostics(report)[0]
    assert [text.get_text() for text in kl.get_legend().get_texts()] == keys
    looks = {(line.get_color(), line.get_marker()) for line in kl.lines}
    assert len(looks) == 42
    kl.figure.draw_without_rendering()


def test_a_ranking_of_several_labels_is_not_drawn_as_one():
    index = pd.MultiIndex.from_product([["T1", "T2"], ["a", "b"]], names=["label", "gene"])
    table = pd.DataFrame({"per_cell": 0.1, "q_value": 0.5}, index=index)
    with pytest.raises(DataError, match=r"table\.loc\['T1'\]"):
        plots.ranking(table)
    assert len(plots.ranking(table.loc["T2"]).get_yticklabels()) == 2
