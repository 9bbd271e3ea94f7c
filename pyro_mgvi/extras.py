"""Packages that only some functions need: imported where they are used, or asked for by name."""

from __future__ import annotations

import warnings
from importlib import import_module

from pyro_mgvi.errors import SettingsError


def extra(module: str):
    """Import a module of the extra ``benchmark``, or say how to get it.

    Raises
    ------
    SettingsError
        If it cannot be imported.

    Examples
    --------
    >>> extra("json").__name__
    'json'
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(module)
    except ImportError as error:
        raise SettingsError(
            f"{module.split('.')[0]} cannot be imported ({error}): "
            'pip install "pyro-mgvi[benchmark]"'
        ) from error
