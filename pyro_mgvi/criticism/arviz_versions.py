"""ArviZ, whichever major version is installed."""

from __future__ import annotations

import warnings
from types import ModuleType


def arviz_and_version() -> tuple[ModuleType, int]:
    """Return the package and its major version; imported on first use, for it takes seconds.

    Examples
    --------
    >>> arviz, version = arviz_and_version()
    >>> version in (0, 1)
    True
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 0.23 announces the next version whenever it is imported
        import arviz
    return arviz, int(arviz.__version__.split(".")[0])
