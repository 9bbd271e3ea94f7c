"""The deliberate faults are still faults of the code as it is."""

from pathlib import Path

import pytest

import pyro_mgvi
from benchmarks.mutations import mutations

PACKAGE = Path(pyro_mgvi.__file__).parent
TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("mutation", mutations(), ids=lambda mutation: mutation.what)
def test_a_fault_is_of_a_text_that_is_there_and_has_tests_that_mirror_it(mutation):
    assert mutation.old != mutation.new
    assert mutation.old in (PACKAGE / mutation.file).read_text(encoding="utf-8")
    assert all((TESTS / name).exists() for name in mutation.tests.split())
