"""Benchmarks can be imported: none asks another for what is no longer there."""

import importlib
import pkgutil

import pytest

import benchmarks

NAMES = [
    module.name
    for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_can_be_imported(name):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("benchmarks", "pyro_mgvi")):
            raise
        pytest.skip(f"{error.name} comes with an extra")
