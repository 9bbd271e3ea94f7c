"""Values of settings: plain and in range, or an error of ours that names the setting."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest

from pyro_mgvi import SettingsError
from pyro_mgvi.data.matching import gene_columns
from pyro_mgvi.support.values import number, whole_number


@pytest.mark.parametrize("value", [3, 3.0, np.float16(3), np.int8(3), np.uint64(3), Fraction(3)])
def test_numbers_of_any_width_are_taken(value):
    """Warnings are errors here: NumPy warns of narrow numbers that are compared with wide ones."""
    found = whole_number("seed", value, least=0), number("seed", value, least=0)
    assert found == (3, 3.0) and [type(each) for each in found] == [int, float]


@pytest.mark.parametrize(
    "value, message",
    [
        (10**5000, "n must be at most 4,611,686,018,427,387,904, not a very large int"),
        (-(10**5000), "n must be at least 0, not a very large int"),
        (Fraction(10**400), "n must be at most 4,611,686,018,427,387,904, not Fraction(1000"),
        (Fraction(10**5000), "not a very large Fraction"),
        (np.longdouble("1e400"), "n must be "),  # too large, or, of old NumPy, not whole
        (math.inf, "n must be a whole number, not inf"),
        (math.nan, "n must be a whole number, not nan"),
        (np.float16(np.inf), "n must be a whole number"),
        (2.5, "n must be a whole number, not 2.5"),
        (True, "n must be a whole number, not True"),
        ("3", "n must be a whole number, not '3'"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_numbers_that_are_not_whole_or_out_of_range_are_refused(value, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        whole_number("n", value, least=0)


@pytest.mark.parametrize(
    "value",
    [10**400, 10**5000, Fraction(10**400), math.inf, math.nan, True],
    ids=lambda value: type(value).__name__,
)
def test_numbers_that_no_float_can_hold_are_refused(value):
    with pytest.raises(SettingsError, match="x must be a number, not"):
        number("x", value)


def test_a_share_of_genes_that_is_a_very_large_number_is_refused():
    with pytest.raises(SettingsError, match=r"missing_genes must be a share.*a very large int"):
        gene_columns(None, (), missing_genes=10**5000)
