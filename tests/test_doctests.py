"""Every docstring example runs, in the package that is installed (not the one in the checkout)."""

import doctest
import importlib
import pkgutil

import pytest

import pyro_mgvi

EXTRA = {"pyro_mgvi.analysis.attribution": ("captum", "hotspot")}  # of the extra benchmark
MODULES = [module.name for module in pkgutil.walk_packages(pyro_mgvi.__path__, "pyro_mgvi.")]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    for package in EXTRA.get(name, ()):
        pytest.importorskip(package, reason="needs the extra benchmark")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_examples_are_there():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [
        test
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
        if test.examples
    ]
    assert len(examples) >= 15
