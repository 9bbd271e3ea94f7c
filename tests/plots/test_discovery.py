"""The picture of programs by groups, read back from its artists."""

import numpy as np
import pandas as pd
import pytest

from pyro_mgvi import Discovery, SettingsError, plots

COLUMNS = ["program", "group", "verdict", "share", "genes"]


def found(rows):
    return Discovery(pd.DataFrame(rows, columns=COLUMNS), (), {}, np.zeros(3, int))


def test_groups_that_are_called_have_a_dot_and_shares_their_colour():
    rows = [
        [1, "a", "varies", 1.2, "IL1B, CCL3"],
        [1, "b", "absent", -0.1, "IL1B, CCL3"],
        [1, "c", "too few cells", np.nan, "IL1B, CCL3"],
        [2, "a", "undecided", 0.4, "MKI67"],
        [2, "b", "varies", 1.0, "MKI67"],
        [2, "c", "absent", 0.0, "MKI67"],
        [3, "a", "varies", 1.0, "ACTB"],
        [3, "b", "varies", 0.9, "ACTB"],
        [3, "c", "varies", 0.8, "ACTB"],
    ]
    ax = plots.discovery(found(rows))
    assert [text.get_text() for text in ax.get_yticklabels()] == ["1: IL1B, CCL3", "2: MKI67"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b", "c"]
    drawn = np.ma.filled(ax.images[0].get_array().astype(float), np.nan)
    np.testing.assert_allclose(drawn, [[1.0, 0.0, np.nan], [0.4, 1.0, 0.0]])
    marks = {tuple(map(int, text.get_position())): text.get_text() for text in ax.texts}
    assert {k: v for k, v in marks.items() if v} == {
        (0, 0): "•",
        (2, 0): "-",
        (0, 1): "?",
        (1, 1): "•",
    }
    of_all = plots.discovery(found(rows[6:]))  # nothing but what all share
    assert [text.get_text() for text in of_all.get_yticklabels()] == ["3: ACTB"]


def test_without_a_program_there_is_nothing_to_draw():
    with pytest.raises(SettingsError, match="no program was discovered"):
        plots.discovery(found([]))
