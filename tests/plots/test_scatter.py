"""Points are told apart by colour, and by shape where colours run out."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pyro_mgvi import DataError, plots


def test_more_labels_than_colours_differ_in_shape():
    rng = np.random.default_rng(0)
    labels = np.repeat([f"type {i:02d}" for i in range(20)], 3)
    ax = plots.scatter(Figure().subplots(), rng.normal(size=(60, 2)), labels)
    handles = ax.get_legend().legend_handles
    looks = {(tuple(h.get_facecolor()[0]), h.get_paths()[0].vertices.tobytes()) for h in handles}
    assert len(handles) == 20 and len(looks) == 20
    assert sum(len(x.get_offsets()) for x in ax.collections) == 60


def test_missing_labels_of_every_kind_are_no_level_and_the_text_nan_is_one():
    z = np.random.default_rng(0).normal(size=(6, 2))
    ax = plots.scatter(Figure().subplots(), z, ["a", np.nan, None, pd.NA, pd.NaT, "nan"])
    assert [x.get_text() for x in ax.get_legend().get_texts()] == ["a", "nan", "missing"]


def test_a_palette_is_used_if_it_has_every_label():
    z, labels = np.random.default_rng(0).normal(size=(6, 2)), ["a", "b"] * 3
    for palette, first in (({"a": "red", "b": "blue"}, "red"), ({"a": "red"}, plots.PALETTE[0])):
        ax = plots.scatter(Figure().subplots(), z, labels, palette=palette)
        same = Figure().subplots().scatter([0], [0], color=first).get_facecolor()
        np.testing.assert_array_equal(ax.get_legend().legend_handles[0].get_facecolor(), same)


def test_labels_are_one_per_cell():
    for labels in (["a"], np.ones((4, 2))):
        with pytest.raises(DataError, match="one per cell"):
            plots.scatter(Figure().subplots(), np.ones((4, 2)), labels)


def test_other_axes_of_the_figure_stay_as_they_are():
    mine, other = Figure().subplots(1, 2)
    other.set_title("$x^2$")
    plots.scatter(mine, np.random.default_rng(0).normal(size=(4, 2)), list("abab"), "$y$")
    assert other.title.get_parse_math() and not mine.title.get_parse_math()
