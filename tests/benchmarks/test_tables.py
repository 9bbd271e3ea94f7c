"""The tables of the docs are those of the data."""

import pytest

from benchmarks.tables import MADE, TABLES, tables


@pytest.mark.parametrize("name", MADE)
def test_a_table_is_made_of_its_data(name):
    assert (TABLES / f"{name}.csv").read_text(encoding="utf-8") == tables()[name]
