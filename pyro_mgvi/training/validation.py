"""Checks of the fields of settings: plain numbers in range, or an error that names the field."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

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


def whole_number(name: str, value: Any, least: int) -> int:
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
    number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not number or int(value) != value:
        raise SettingsError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise SettingsError(f"{name} must be at least {least}, not {value!r}")
    if value > LARGEST:
        raise SettingsError(f"{name} must be at most {LARGEST:,}, not {value!r}")
    return int(value)


def at_least(settings: object, name: str, least: float, exclusive: bool = False) -> None:
    """Make a field a plain number of at least (or above) ``least``.

    Raises
    ------
    SettingsError
        If it is none.
    """
    value = vars(settings)[name]
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise SettingsError(f"{name} must be a number, not {value!r}")
    if value < least or (exclusive and value == least):
        raise SettingsError(
            f"{name} must be {'above' if exclusive else 'at least'} {least:g}, not {value!r}"
        )
    object.__setattr__(settings, name, float(value))
