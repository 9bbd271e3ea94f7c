"""Pearson residuals of counts about means that are given."""

from __future__ import annotations

import numpy as np

from pyro_mgvi import SearchSettings

LARGEST = SearchSettings().largest_residual  # cut off where the package's own search does


def pearson_residuals(x_ng: np.ndarray, mean_ng: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return counts' distance from their means in standard deviations, and these.

    Overdispersion by moments: the variance is m + m^2 / theta.
    """
    excess_g = ((x_ng - mean_ng) ** 2 - mean_ng).sum(0) / (mean_ng**2).sum(0)
    sd_ng = np.sqrt(mean_ng + mean_ng**2 * np.clip(excess_g, 0, None))
    return np.clip((x_ng - mean_ng) / sd_ng, -LARGEST, LARGEST), sd_ng
