"""Values of settings: plain and in range, or an error that names the setting."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from pyro_mgvi.errors import SettingsError

LARGEST = 2**62  # what torch takes as a seed, with room for those of refits


def whole(settings: object, name: str, least: int, optional: bool = False) -> None:
    """Make a field a plain integer of at least ``least``.

    Raises
    ------
    SettingsError
        If it is none.
    """
    value = vars(settings)[name]
    if value is not None or not optional:
        object.__setattr__(settings, name, whole_number(name, value, least))


def at_least(settings: object, name: str, least: float, exclusive: bool = False) -> None:
    """Make a field a plain number of at least (or above) ``least``.

    Raises
    ------
    SettingsError
        If it is none.
    """
    object.__setattr__(settings, name, number(name, vars(settings)[name], least, exclusive))


def switch(settings: object, name: str, optional: bool = False) -> None:
    """Make a field a plain truth value.

    Raises
    ------
    SettingsError
        If it is none.
    """
    value = vars(settings)[name]
    if value is not None or not optional:
        object.__setattr__(settings, name, flag(name, value))


def whole_number(name: str, value: Any, least: int, most: int = LARGEST) -> int:
    """Return a plain integer of at least ``least``.

    Raises
    ------
    SettingsError
        If the value is none.

    Examples
    --------
    >>> whole_number("n_draws", 3.0, least=1)
    3
    """
    if not _finite(value) or int(value) != value:
        raise SettingsError(f"{name} must be a whole number, not {_said(value)}")
    if value < least:
        raise SettingsError(f"{name} must be at least {least}, not {_said(value)}")
    if value > most:
        raise SettingsError(f"{name} must be at most {most:,}, not {_said(value)}")
    return int(value)


def number(
    name: str, value: Any, least: float = -sys.float_info.max, exclusive: bool = False
) -> float:
    """Return a plain finite number of at least (or above) ``least``.

    Raises
    ------
    SettingsError
        If the value is none.

    Examples
    --------
    >>> number("threshold", 1, least=0.0)
    1.0
    """
    try:
        plain = float(value) if _finite(value) else math.nan
    except OverflowError:
        plain = math.nan
    if math.isnan(plain):
        raise SettingsError(f"{name} must be a number, not {_said(value)}")
    if plain < least or (exclusive and plain == least):
        raise SettingsError(
            f"{name} must be {'above' if exclusive else 'at least'} {least:g}, not {_said(value)}"
        )
    return plain


def flag(name: str, value: Any) -> bool:
    """Return a plain truth value; refuse what is neither True nor False, such as the text "no".

    Raises
    ------
    SettingsError
        If the value is neither.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise SettingsError(f"{name} must be True or False, not {_said(value)}")
    return bool(value)


def one_of(name: str, value: Any, words: Sequence[str]) -> str:
    """Return one of some words.

    Raises
    ------
    SettingsError
        If the value is none of them.
    """
    if not isinstance(value, str) or value not in words:
        raise SettingsError(f"{name} must be one of {tuple(words)}, not {_said(value)}")
    return value


def path_of(name: str, value: Any) -> Path:
    """Return a path that a file system can hold.

    Raises
    ------
    SettingsError
        If the value is none.

    Examples
    --------
    >>> path_of("path", "cells.h5ad").suffix
    '.h5ad'
    """
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise SettingsError(f"{name} must be a path, not {_said(value)}")
    if not os.fspath(value):
        raise SettingsError(f"{name} is an empty text: name a path")
    path = Path(value)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return path
    except (OSError, ValueError) as error:  # a name too long, or with a character of none
        raise SettingsError(f"{name} {_said(str(value))} cannot be a path: {error}") from error
    return path


def _finite(value: Any) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    largest = sys.float_info.max
    return isinstance(value, Integral) or abs(float(value)) <= largest


def _said(value: Any) -> str:
    """Return a value as an error shows it: in one line, and not without end."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
