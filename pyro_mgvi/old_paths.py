"""Import paths and names of earlier versions, which work until 0.2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

#: Modules that have moved, by their old path.
MODULES = {
    "pyro_mgvi.calibration": "pyro_mgvi.analysis.cross_fit",
    "pyro_mgvi.demo": "pyro_mgvi.cli.demo",
    "pyro_mgvi.expression": "pyro_mgvi.analysis.expression",
    "pyro_mgvi.genes": "pyro_mgvi.analysis.ranking",
    "pyro_mgvi.latents": "pyro_mgvi.core.latents",
    "pyro_mgvi.metrics": "pyro_mgvi.analysis.metrics",
    "pyro_mgvi.priors": "pyro_mgvi.core.priors",
    "pyro_mgvi.simulate": "pyro_mgvi.datasets.simulate",
}
#: Names of the top level that have changed.
NAMES = {"Davison": "SameAsOwn", "Start": "InitialValues", "start_anew": "restart_idle"}


class OldPaths(MetaPathFinder, Loader):
    """Finds a moved module by its old path."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for the old path of a module, and for nothing else."""
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the import system; :meth:`exec_module` replaces what it makes."""

    def exec_module(self, module: ModuleType) -> None:
        """Let the old path stand for the module itself."""
        sys.modules[module.__name__] = import_module(MODULES[module.__name__])


sys.meta_path.append(OldPaths())
