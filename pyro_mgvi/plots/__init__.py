"""Figures of latents, rankings, training and predictive checks, each returned as axes."""

from pyro_mgvi.plots.checks import plate_diagram, predictive_checks
from pyro_mgvi.plots.colours import PALETTE
from pyro_mgvi.plots.discovery import discovery
from pyro_mgvi.plots.expression import expression
from pyro_mgvi.plots.latents import latents, scatter
from pyro_mgvi.plots.layouts import pca, umap
from pyro_mgvi.plots.programs import program
from pyro_mgvi.plots.results import diagnostics, history, ranking

__all__ = [
    "PALETTE",
    "diagnostics",
    "discovery",
    "expression",
    "history",
    "latents",
    "pca",
    "plate_diagram",
    "predictive_checks",
    "program",
    "ranking",
    "scatter",
    "umap",
]
