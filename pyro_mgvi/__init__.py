"""Shared and group-specific variation in grouped single-cell counts, as a Pyro program.

Names are imported when they are first used; ``__init__.pyi`` says where each of them is.
"""

import lazy_loader

from pyro_mgvi import old_paths

_find, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("pyro-mgvi")
        except PackageNotFoundError:  # a checkout that is not installed
            return "0+unknown"
    return _find(old_paths.NAMES.get(name, name))
