"""Scores of latents: what is in them, what is wrongly in them, and what is missing."""

from pyro_mgvi.analysis.metrics.completeness import Completeness, bent, completeness
from pyro_mgvi.analysis.metrics.named import cells_with
from pyro_mgvi.analysis.metrics.recovery import recovered
from pyro_mgvi.analysis.metrics.scores import (
    FOLDS,
    active_units,
    in_use,
    kmeans_ari,
    linear_cka,
    log_shares,
    probe,
    probe_and_chance,
    program_score,
    silhouette,
)
from pyro_mgvi.data.names import known_labels

__all__ = [
    "FOLDS",
    "Completeness",
    "active_units",
    "bent",
    "cells_with",
    "completeness",
    "in_use",
    "kmeans_ari",
    "known_labels",
    "linear_cka",
    "log_shares",
    "probe",
    "probe_and_chance",
    "program_score",
    "recovered",
    "silhouette",
]
