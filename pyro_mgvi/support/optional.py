"""Packages that only some functions need: asked for by name where they are used."""

from __future__ import annotations

import warnings
from importlib import import_module
from types import ModuleType

from pyro_mgvi.errors import SettingsError


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an optional extra, or say how to get it.

    Parameters
    ----------
    module
        Name of the module.
    extra
        Extra of pyro_mgvi that installs it.

    Raises
    ------
    SettingsError
        If it cannot be imported.

    Examples
    --------
    >>> require("json", "benchmark").__name__
    'json'
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(module)
    except ImportError as error:
        raise SettingsError(
            f'{module.split(".")[0]} cannot be imported ({error}): pip install "pyro-mgvi[{extra}]"'
        ) from error
