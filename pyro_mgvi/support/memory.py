"""How much memory this process holds."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path


def resident_bytes() -> float:
    """Return the bytes of memory that this process holds now; elsewhere than on Linux, its peak.

    Examples
    --------
    >>> resident_bytes() > 1e6
    True
    """
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return float(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_bytes()


def peak_bytes() -> float:
    """Return the most bytes that this process has held.

    Examples
    --------
    >>> peak_bytes() > 1e6
    True
    """
    peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else 1024 * peak
