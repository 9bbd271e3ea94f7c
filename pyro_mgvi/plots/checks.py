"""Figures of predictive checks, and the model as a plate diagram."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyro
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from pyro_mgvi.criticism.predictive import PredictiveChecks
from pyro_mgvi.data import Minibatch
from pyro_mgvi.errors import DataError, MGVIError
from pyro_mgvi.kernels.exclusive import exclusive
from pyro_mgvi.plots.colours import PALETTE
from pyro_mgvi.plots.figures import axes_grid, check, finish, new_figure
from pyro_mgvi.support.optional import require
from pyro_mgvi.support.values import path_of
from pyro_mgvi.training.program import Program, check_model

if TYPE_CHECKING:
    from graphviz import Digraph

OBSERVED, PREDICTED, LINE = PALETTE[0], PALETTE[1], PALETTE[-1]


def predictive_checks(
    checks: PredictiveChecks, show: bool | None = None, save: str | Path | None = None
) -> np.ndarray:
    """Draw what was observed against what the model predicts, per gene and per cell.

    Six panels: mean against variance of each gene (below the line: less than a Poisson has);
    mean, variance and fraction of zeros per gene; library size and fraction of zeros per cell.
    Bars are 90 % intervals; units outside theirs are orange.

    Parameters
    ----------
    checks
        From :func:`~pyro_mgvi.criticism.predictive_checks`.
    show
        By default a notebook shows the figure, and a script that uses pyplot at its
        ``pyplot.show()``. True shows it at once, False never.
    save
        File to write the figure to, whose ending says the format.

    Returns
    -------
    Array of six axes; their figure is ``axes[0].figure``.

    Raises
    ------
    SettingsError
        If the figure cannot be shown or saved.
    """
    check(show, save)
    if not isinstance(checks, PredictiveChecks):
        raise DataError(
            f"checks is a {type(checks).__name__}, not the PredictiveChecks of predictive_checks"
        )
    figure = new_figure(11, 6.6, show)
    axes = axes_grid(figure, 2, 3)
    genes, cells = checks.genes, checks.cells
    _mean_variance(axes[0], genes)
    observed_against_predicted(axes[1], genes, "mean", "mean count of a gene", log=True)
    observed_against_predicted(axes[2], genes, "variance", "variance of a gene", log=True)
    observed_against_predicted(axes[3], genes, "zeros", "fraction of zeros of a gene")
    observed_against_predicted(axes[4], cells, "library", "library size of a cell", log=True)
    observed_against_predicted(axes[5], cells, "zeros", "fraction of zeros of a cell")
    finish(axes, show, save)
    return axes


def _mean_variance(ax: Axes, genes: pd.DataFrame) -> None:
    for part, colour, marker in (("observed", OBSERVED, "o"), ("predicted", PREDICTED, "^")):
        mean, variance = genes[f"mean_{part}"], genes[f"variance_{part}"]
        shown = (mean > 0) & (variance > 0)
        ax.scatter(
            mean[shown], variance[shown], s=9, alpha=0.6, lw=0, c=colour, marker=marker, label=part
        )
    means = genes["mean_observed"][genes["mean_observed"] > 0]
    ends = np.array([means.min(), means.max()])
    ax.plot(ends, ends, color=LINE, lw=1, label="Poisson")
    ax.set(xscale="log", yscale="log", xlabel="mean count of a gene", ylabel="variance")
    ax.legend(frameon=False, fontsize=8)


def observed_against_predicted(
    ax: Axes, table: pd.DataFrame, name: str, title: str, log: bool = False
) -> None:
    """Draw predicted intervals against observed values, and the share of them that is right."""
    observed, predicted, lower, upper = (
        table[f"{name}_{part}"].to_numpy() for part in ("observed", "predicted", "lower", "upper")
    )
    inside = (lower <= observed) & (observed <= upper)
    shown = (observed > 0) & (predicted > 0) if log else np.ones(len(observed), bool)
    if log:  # an interval that ends at zero reaches the edge of the panel
        lower = np.maximum(lower, min(observed[shown].min(), predicted[shown].min()))
    for kind, colour, marker in ((inside, OBSERVED, "o"), (~inside, PREDICTED, "^")):
        kind = kind & shown
        x = observed[kind]
        ax.vlines(x, lower[kind], np.maximum(upper, lower)[kind], color=colour, lw=0.6, alpha=0.35)
        ax.scatter(x, predicted[kind], s=9, lw=0, alpha=0.7, color=colour, marker=marker)
    ends = [min(observed[shown].min(), predicted[shown].min())]
    ends.append(max(observed[shown].max(), predicted[shown].max()))
    ax.plot(ends, ends, color=LINE, lw=1)
    if log:
        ax.set(xscale="log", yscale="log")
        if ends[1] < 100 * ends[0]:  # matplotlib would label minor ticks on top of each other
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter(ScalarFormatter())
                axis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="observed", ylabel="predicted", title=title)
    text = f"{inside.mean():.0%} inside their 90 % interval"
    ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", fontsize=8)


def plate_diagram(
    mgvi: Program, path: str | Path | None = None, distributions: bool = False
) -> Digraph:
    """Draw the generative model as a plate diagram, by ``pyro.render_model``.

    Parameters
    ----------
    mgvi
        A :class:`~pyro_mgvi.MGVI`, trained or not.
    path
        File to write, whose ending says the format (``.pdf``, ``.png``, ``.svg``).
    distributions
        List each site's distribution below the diagram.

    Returns
    -------
    A ``graphviz.Digraph``, which a notebook shows by itself.

    Raises
    ------
    MGVIError
        If the Python package graphviz, or the program of that name that draws, is missing; or
        the ending of ``path`` is no format that it knows.
    """
    check_model(mgvi)
    graphviz = require("graphviz", "tutorials")
    n = len(mgvi.schema.groups)  # one made-up cell of each group
    cells = Minibatch(
        counts=torch.ones(n, len(mgvi.schema.genes), dtype=torch.float32),
        group=torch.arange(n),
        batch=torch.zeros(n, dtype=torch.long),
        covariates=torch.zeros(n, mgvi.schema.n_covariates, dtype=torch.float32),
        sample=torch.zeros(n, dtype=torch.long) if mgvi.schema.samples else None,
    )
    alone = pyro.get_param_store().scope()  # what is rendered registers its weights
    with exclusive(), alone, torch.no_grad(), pyro.validation_enabled(False):
        graph = pyro.render_model(
            mgvi.model, model_args=tuple(cells.to(mgvi.device)), render_distributions=distributions
        )
    if path is not None:
        path = path_of("path", path)
        try:
            picture = graph.pipe(path.suffix.lstrip(".").lower())
        except (graphviz.ExecutableNotFound, graphviz.CalledProcessError, ValueError) as error:
            raise MGVIError(f"graphviz could not draw {path.name}: {error}") from error
        path.write_bytes(picture)
    return graph
