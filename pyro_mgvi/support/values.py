"""Values of settings: plain and in range, or an error that names the setting."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from numbers import Real
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
    try:
        plain = int(value) if _is_number(value) else None
    except (OverflowError, ValueError):  # infinite, or NaN
        plain = None
    if plain is None or plain != value:
        raise SettingsError(f"{name} must be a whole number, not {said(value)}")
    if plain < least:
        raise SettingsError(f"{name} must be at least {least}, not {said(value)}")
    if plain > most:
        raise SettingsError(f"{name} must be at most {most:,}, not {said(value)}")
    return plain


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
        plain = float(value) if _is_number(value) else math.nan
    except OverflowError:
        plain = math.inf
    if not math.isfinite(plain):
        raise SettingsError(f"{name} must be a number, not {said(value)}")
    if plain < least or (exclusive and plain == least):
        raise SettingsError(
            f"{name} must be {'above' if exclusive else 'at least'} {least:g}, not {said(value)}"
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
        raise SettingsError(f"{name} must be True or False, not {said(value)}")
    return bool(value)


def one_of(name: str, value: Any, words: Sequence[str]) -> str:
    """Return one of some words.

    Raises
    ------
    SettingsError
        If the value is none of them.
    """
    if not isinstance(value, str) or value not in words:
        raise SettingsError(f"{name} must be one of {tuple(words)}, not {said(value)}")
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
        raise SettingsError(f"{name} must be a path, not {said(value)}")
    if not os.fspath(value):
        raise SettingsError(f"{name} is an empty text: name a path")
    path = Path(value)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return path
    except (OSError, ValueError) as error:  # a name too long, or with a character of none
        raise SettingsError(f"{name} {said(str(value))} cannot be a path: {error}") from error
    return path


def said(value: Any) -> str:
    """Return a value as an error shows it: in one line, and not without end.

    Examples
    --------
    >>> said("many"), said(10**5000)
    ("'many'", 'a very large int')
    """
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python writes no number of so many digits
        return f"a very large {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
