"""Compile elementwise code where it pays and a compiler exists; run it as it is otherwise."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, TypeVarTuple

import torch

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)

_active: ContextVar[bool] = ContextVar("compilation", default=False)


@contextmanager
def compilation(active: bool) -> Iterator[None]:
    """Within this context, functions marked :func:`compilable` run compiled (if they can).

    Examples
    --------
    >>> @compilable()
    ... def increment(x):
    ...     return x + 1
    >>> with compilation(False):
    ...     increment(torch.zeros(2))
    tensor([1., 1.])
    """
    token = _active.set(active)
    try:
        yield
    finally:
        _active.reset(token)


class Mark(Protocol):
    """A decorator that leaves a function's type as it is; arguments are given by position."""

    def __call__(
        self, function: Callable[[*Arguments], Result], /
    ) -> Callable[[*Arguments], Result]:
        """Return the marked function."""


def compilable(plain: Callable[..., Any] | None = None) -> Mark:
    """Mark a function of tensors as one to compile as a whole within :func:`compilation`.

    For code whose gradient is written out or not wanted: the results carry none.

    Parameters
    ----------
    plain
        What to run where nothing is compiled: the same result, written to be fast without a
        compiler; by default the function itself. A whole ELBO does not compile into one graph;
        functions like this do.
    """

    def mark(function: Callable[[*Arguments], Result]) -> Callable[[*Arguments], Result]:
        uncompiled: Callable[..., Result] = plain or function
        # Made on first use: the compiler takes a second to import.
        compiled: Callable[..., Result] | None = None
        works = True

        @functools.wraps(function)
        def run(*args: *Arguments) -> Result:
            nonlocal compiled, works
            if not _active.get() or not works:
                return uncompiled(*args)
            try:
                if compiled is None:
                    compiled = torch.compile(function, fullgraph=True, dynamic=True)
                # One program for training and validation: whether gradients are wanted is part
                # of what is compiled. The compiler's advice is not for our users.
                detached = [x.detach() if isinstance(x, torch.Tensor) else x for x in args]
                with torch.no_grad(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return compiled(*detached)
            except Exception as error:
                result = uncompiled(*args)  # raises, too, if the arguments are at fault
                logger.warning("%s runs without compilation: %s", function.__name__, error)
                works = False
                return result

        return run

    return mark
