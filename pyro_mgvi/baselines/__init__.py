"""Methods to compare with: linear and non-negative ones, and configurations of our own model.

All have one interface, ``method.fit(data, seed) -> {"z": array, "t": {group: array}}``.
"""

from pyro_mgvi.baselines.attribution import integrated_gradients
from pyro_mgvi.baselines.hotspot import hotspot
from pyro_mgvi.baselines.methods import (
    Decomposed,
    Deep,
    Fitted,
    Linear,
    Method,
    ScviTools,
    Separate,
    TwoStage,
)
from pyro_mgvi.baselines.mgfa import MGFA
from pyro_mgvi.baselines.nonnegative import GMDF, INMF, SeparateNMF
from pyro_mgvi.baselines.registry import METHODS, method

__all__ = [
    "GMDF",
    "INMF",
    "METHODS",
    "MGFA",
    "Decomposed",
    "Deep",
    "Fitted",
    "Linear",
    "Method",
    "ScviTools",
    "Separate",
    "SeparateNMF",
    "TwoStage",
    "hotspot",
    "integrated_gradients",
    "method",
]
