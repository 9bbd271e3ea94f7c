"""Methods to compare with: MGFA, and configurations of this package's own model.

All have one interface, ``method.fit(data, seed) -> {"z": array, "t": {group: array}}``.
"""

from pyro_mgvi.baselines.attribution import integrated_gradients
from pyro_mgvi.baselines.hotspot import hotspot
from pyro_mgvi.baselines.methods import Deep, Fitted, Linear, Method, ScviTools, TwoStage
from pyro_mgvi.baselines.mgfa import MGFA
from pyro_mgvi.baselines.registry import METHODS, method

__all__ = [
    "METHODS",
    "MGFA",
    "Deep",
    "Fitted",
    "Linear",
    "Method",
    "ScviTools",
    "TwoStage",
    "hotspot",
    "integrated_gradients",
    "method",
]
