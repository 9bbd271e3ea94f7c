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


def compilable(plain: Callable | None = None) -> Callable:
    """Mark a function of tensors as one to compile as a whole within :func:`compilation`.

    For code whose gradient is written out or not wanted: the results carry none.

    Parameters
    ----------
    plain
        What to run where nothing is compiled: the same result, written to be fast without a
        compiler; by default the function itself. A whole ELBO does not compile into one graph;
        functions like this do.
    """

    def mark(function: Callable) -> Callable:
        uncompiled = plain or function
        compiled = torch.compile(function, fullgraph=True, dynamic=True)

        @functools.wraps(function)
        def run(*args):
            global _broken
            if not _active.get() or _broken:
                return uncompiled(*args)
            try:
                # One program for training and validation: whether gradients are wanted is part
                # of what is compiled. The compiler's advice is not for our users.
                args = [x.detach() if isinstance(x, torch.Tensor) else x for x in args]
                with torch.no_grad(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return compiled(*args)
            except Exception as error:
                logger.info("running without compilation: %s", error)
                _broken = True
                return uncompiled(*args)

        return run

    return mark
