"""Whether training was long enough, by the trend of its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LAST = 2 / 3  # of the epochs in which the trend is looked at
LEAST = 6  # epochs for a trend
AHEAD = 10  # epochs
FALL = 2e-3  # share of the loss by which it may fall in as many epochs more
SURE = 2.0  # standard errors beyond which a trend is no noise


@dataclass(frozen=True)
class Convergence:
    """Whether a loss has stopped falling.

    Attributes
    ----------
    converged
        None if there are too few epochs to tell.
    fall
        By which share of itself the loss would fall in ten more epochs; NaN if there are too few
        to tell.
    """

    converged: bool | None
    fall: float

    @classmethod
    def of(cls, losses: Sequence[float] | np.ndarray) -> Convergence:
        """Judge losses, one per epoch, of one schedule of steps.

        The trend is the median of the slopes between any two of the last two thirds of the epochs,
        six at least (Theil 1950; Sen 1968): single bad epochs do not matter. A loss still falls if
        ten more epochs along it are worth more than 0.2 % of the loss, and more epochs are below
        earlier ones than noise would put there (Mann 1945; Kendall's S, two standard errors).
        The last third alone would always look flat, for steps shrink to nothing in it
        (benchmarks/notes/RESULTS_convergence.md).

        Examples
        --------
        >>> Convergence.of([9.0, 7.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0]).converged
        True
        >>> Convergence.of([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0]).converged
        False
        """
        loss_e = np.asarray(losses, float)
        if len(loss_e) < LEAST:
            return cls(None, float("nan"))
        loss_e = loss_e[-max(LEAST, round(LAST * len(loss_e))) :]
        n = len(loss_e)
        first, second = np.triu_indices(n, k=1)
        rise = loss_e[second] - loss_e[first]
        slope = float(np.median(rise / (second - first)))
        fall = -AHEAD * slope / max(abs(float(np.median(loss_e))), 1e-12)
        s = np.sign(rise).sum() / np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
        return cls(bool(fall <= FALL or s > -SURE), fall)
