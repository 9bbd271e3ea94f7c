"""Criticism of a trained model: ArviZ, predictive checks and held-out likelihood."""

from pyro_mgvi.criticism.export import to_arviz
from pyro_mgvi.criticism.heldout import HeldOut, compare, elpds, held_out
from pyro_mgvi.criticism.predictive import PredictiveChecks, predictive_checks

__all__ = [
    "HeldOut",
    "PredictiveChecks",
    "compare",
    "elpds",
    "held_out",
    "predictive_checks",
    "to_arviz",
]
