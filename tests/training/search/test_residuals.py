"""Which groups are searched, and how small combinations of levels are put together."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_mgvi.core import Design
from pyro_mgvi.training.search.residuals import Residuals, searched_groups, units

LEAST = 100


@given(st.lists(st.integers(0, 300), min_size=1, max_size=8))
def test_of_one_column_large_groups_are_searched(sizes):
    design = Design.of([f"g{i}" for i in range(len(sizes))])
    sizes_b = np.array(sizes)
    assert (searched_groups(design, sizes_b, LEAST) == (sizes_b >= LEAST)).all()


def test_a_small_combination_of_a_large_level_is_searched():
    donors = Design(("drug", "donor"), (("no", "d0"), ("no", "d1"), ("yes", "d2"), ("yes", "d3")))
    searched = [True, True, False, False]
    assert searched_groups(donors, np.array([60, 60, 40, 40]), LEAST).tolist() == searched
    crossed = Design(("a", "b"), (("x", "u"), ("x", "v"), ("y", "u"), ("y", "v")))
    assert searched_groups(crossed, np.array([60, 60, 60, 60]), LEAST).all()
    assert searched_groups(crossed, np.array([90, 0, 20, 5]), LEAST).tolist() == [
        True, False, True, False
    ]  # fmt: skip


def residuals(n, first, small):
    cells = np.arange(first, first + n)
    return Residuals(torch.full((n, 3), float(first)), torch.full((3,), float(n)), cells, small)


def test_small_groups_are_one_unit():
    large, one, two = residuals(120, 0, False), residuals(60, 120, True), residuals(90, 180, True)
    assert units([large], LEAST) == [large]
    kept, together = units([large, one, two], LEAST)
    assert kept is large and together.r_ng.shape == (150, 3)
    assert (together.cells == np.arange(120, 270)).all()
    torch.testing.assert_close(together.slope_g, torch.full((3,), (60 * 60 + 90 * 90) / 150))
    assert units([large, one], LEAST) == [large]  # too few to be asked
    assert len(units([one], LEAST)) == 1
