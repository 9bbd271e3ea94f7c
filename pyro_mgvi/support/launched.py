"""How this process was started: by itself, or by ``torchrun`` as one of several."""

from __future__ import annotations

import os
from typing import NamedTuple


class Launched(NamedTuple):
    """The place of this process among those that ``torchrun`` has started.

    Attributes
    ----------
    rank
        Its number, from 0.
    n_ranks
        How many there are, on all machines.
    n_here
        How many there are on this machine.
    """

    rank: int
    n_ranks: int
    n_here: int


ALONE = Launched(rank=0, n_ranks=1, n_here=1)


def launched() -> Launched:
    """Return the place of this process; a process that nobody has launched is the only one.

    Examples
    --------
    >>> launched()
    Launched(rank=0, n_ranks=1, n_here=1)
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ALONE
    return Launched(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")))
