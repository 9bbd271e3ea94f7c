"""Every docstring example runs, in all modules of all sub-packages."""

import doctest
import importlib
import pkgutil

import pytest

import pyro_mgvi

EXTRA = {  # what needs an extra: the module, and its name
    "pyro_mgvi.analysis.gene_sets.enrichment": ("decoupler", "enrich"),
    "pyro_mgvi.baselines.attribution": ("captum", "benchmark"),
    "pyro_mgvi.baselines.hotspot": ("hotspot", "benchmark"),
}
SLOW = {"pyro_mgvi.baselines.hotspot", "pyro_mgvi.report.page"}  # take seconds


def refuse(name):
    """Fail where a sub-package cannot be imported: its modules would be left out silently."""
    raise ImportError(name)


def parameter(name):
    return pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())


MODULES = [
    "pyro_mgvi",
    *(module.name for module in pkgutil.walk_packages(pyro_mgvi.__path__, "pyro_mgvi.", refuse)),
]


@pytest.mark.parametrize("name", [parameter(name) for name in MODULES])
def test_docstring_examples(name):
    if name in EXTRA:
        package, extra = EXTRA[name]
        pytest.importorskip(package, reason=f"needs the extra [{extra}]")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_all_modules_are_found():
    assert {"pyro_mgvi.core.latents", "pyro_mgvi.training.search.pruning"} < set(MODULES)
    assert set(EXTRA) | set(SLOW) <= set(MODULES)


def test_examples_are_there():
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [
        test
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
        if test.examples
    ]
    assert len(examples) >= 50
