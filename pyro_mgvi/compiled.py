"""Compile elementwise code where it pays and a compiler exists; fall back silently otherwise."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

logger = logging.getLogger(__name__)

_active: ContextVar[bool] = ContextVar("compilation", default=False)
_broken = False  # no compiler here: found once, then never tried again


@contextmanager
def compilation(active: bool) -> Iterator[None]:
    """Within this context, functions marked :func:`compilable` run compiled (if they can).

    Examples
    --------
    >>> @compilable(lambda x: x + 1)
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


def compilable(plain: Callable) -> Callable:
    """Mark a function of tensors as one to compile as a whole within :func:`compilation`.

    Parameters
    ----------
    plain
        What to run where nothing is compiled: the same result, written to be fast without a
        compiler. Parts of a whole ELBO do not compile into one graph; functions like this do.
    """

    def mark(function: Callable) -> Callable:
        compiled = torch.compile(function, fullgraph=True, dynamic=True)

        @functools.wraps(function)
        def run(*args):
            global _broken
            if not _active.get() or _broken:
                return plain(*args)
            try:
                with warnings.catch_warnings():  # the compiler's advice is not for our users
                    warnings.simplefilter("ignore")
                    return compiled(*args)
            except Exception as error:
                logger.info("running without compilation: %s", error)
                _broken = True
                return plain(*args)

        return run

    return mark
