"""Values as text that says what they are: the same in another process, and for equal ones only."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from types import CodeType, FunctionType, MethodType

import numpy as np
import pandas as pd
from scipy import sparse
from torch import Tensor
from torch.distributions import Distribution

ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def described(value: object, around: tuple[int, ...] = ()) -> str:
    """Return what a value is, as text, with all that it is made of.

    Classes and functions are told by where they are defined, a function also by what it holds, and
    one without a name by its code. An object of a class that does not say what it holds is told by
    its attributes.

    Parameters
    ----------
    value
        A component, a prior or a setting of one.
    around
        Identities of the values that this one is part of.

    Examples
    --------
    >>> described(partial(sorted, key=abs))
    "partial(<built-in function sorted>, (), (('key', <built-in function abs>)))"
    """
    if isinstance(value, type):
        return _place(value)
    if id(value) in around:
        return "itself"
    taken = _taken_apart(value)
    if isinstance(taken, str):
        return taken
    name, parts = taken
    texts = [described(part, (*around, id(value))) for part in parts]
    if isinstance(value, (set, frozenset)):  # whose order is another in another process
        texts.sort()
    return f"{name}({', '.join(texts)})"


def _taken_apart(value: object) -> str | tuple[str, Iterable[object]]:
    """Return the text of a value without parts, or else its kind and its parts."""
    name = type(value).__qualname__
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, Enum):
        return repr(value.value)
    if isinstance(value, (np.ndarray, Tensor)):
        listed = repr(value.tolist()).encode()
        return f"{name}({value.dtype}, {tuple(value.shape)}, {hashlib.sha256(listed).hexdigest()})"
    if isinstance(value, (pd.DataFrame, pd.Series)):
        return name, [pd.DataFrame(value).to_dict("split")]
    if sparse.issparse(value):
        entries = sparse.coo_array(value)
        return name, [entries.shape, entries.row, entries.col, entries.data]
    if isinstance(value, Mapping):
        return "", value.items()
    if isinstance(value, (tuple, list, set, frozenset)):
        return "" if isinstance(value, tuple) else name, value
    if isinstance(value, partial):
        return name, [value.func, value.args, tuple(sorted(value.keywords.items()))]
    if isinstance(value, MethodType):
        return name, [value.__func__, value.__self__]
    if isinstance(value, FunctionType):
        held = [cell.cell_contents for cell in value.__closure__ or ()]
        code = value.__code__ if value.__name__ == "<lambda>" else None
        return _place(value), [held, value.__defaults__, value.__kwdefaults__, code]
    if isinstance(value, CodeType):
        return name, [value.co_code, value.co_names, value.co_consts]
    if isinstance(value, Distribution):
        return _place(type(value)), [(k, getattr(value, k)) for k in value.arg_constraints]
    if is_dataclass(value):
        return _place(type(value)), [
            (each.name, getattr(value, each.name)) for each in fields(value)
        ]
    if type(value).__repr__ is object.__repr__ and hasattr(value, "__dict__"):
        return _place(type(value)), vars(value).items()
    return ADDRESS.sub("", repr(value))


def _place(defined: type | FunctionType) -> str:
    return f"{defined.__module__}.{defined.__qualname__}"
