"""How much memory this process holds, and that it keeps what it will need again."""

from __future__ import annotations

import os
import re
import resource
import sys
from pathlib import Path

import numpy as np

LARGEST_REUSED = 31 * 2**20  # bytes; the C library of Linux learns from blocks below 32 MiB only


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
    status = Path("/proc/self/status")  # rusage would tell the peak of who has started this process
    if status.is_file() and (of_its_own := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return 1024 * float(of_its_own[1])
    peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else 1024 * peak


def reuse_freed_memory() -> None:
    """Let the C library keep the memory of arrays that are freed, for the next ones.

    Each training step makes and frees the same arrays of some megabytes. The C library of Linux
    returns such blocks to the system at once, which clears their pages anew at the next step, until
    it has seen a block as large being freed. So it is shown one; elsewhere this does nothing.
    """
    np.ones(LARGEST_REUSED, np.uint8)
