"""Figures of training, rankings, expression and diagnosis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pyro_mgvi.analysis.diagnosis import SURE, Diagnosis
from pyro_mgvi.errors import DataError
from pyro_mgvi.plots.colours import MARKERS, PALETTE
from pyro_mgvi.plots.figures import axes_grid, check, finish, legend_of, new_figure
from pyro_mgvi.support.values import number, whole_number


def history(
    table: pd.DataFrame,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw training and validation loss per epoch, in nats per cell.

    Parameters
    ----------
    table
        ``MGVI.history``.
    ax
        Axes to draw on; new ones by default.
    show
        By default a notebook shows the figure, and a script that uses pyplot at its
        ``pyplot.show()``. True shows it at once, False never.
    save
        File to write the figure to, whose ending says the format.

    Raises
    ------
    DataError
        If the table lacks a column.
    SettingsError
        If the figure cannot be shown or saved.

    Examples
    --------
    >>> table = pd.DataFrame({"epoch": [1, 2], "train": [9.0, 8.0], "validation": [9.5, 8.7]})
    >>> [line.get_label() for line in history(table).lines]
    ['train', 'validation']
    """
    check(show, save)
    _needs(table, "MGVI.history", "epoch")
    ax = new_figure(5, 3.4, show).subplots() if ax is None else ax
    for column, colour in zip(("train", "validation"), PALETTE):
        if column in table:
            ax.plot(table["epoch"], table[column], color=colour, label=column)
    ax.set(xlabel="epoch", ylabel="loss (nats per cell)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False)
    finish([ax], show, save)
    return ax


def ranking(
    table: pd.DataFrame,
    top: int = 20,
    level: float = 0.1,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the Bayes factors of the first genes of a ranking, in nats per cell.

    Parameters
    ----------
    table
        From :func:`~pyro_mgvi.rank_genes`.
    top
        How many genes to draw.
    level
        Genes with a q-value below it are filled; the others, or those without one, hollow.
    ax
        Axes to draw on; new ones by default.
    show
        By default a notebook shows the figure, and a script that uses pyplot at its
        ``pyplot.show()``. True shows it at once, False never.
    save
        File to write the figure to, whose ending says the format.

    Raises
    ------
    DataError
        If the table lacks a column, or is of several labels (``by=``).
    SettingsError
        If the figure cannot be shown or saved.

    Examples
    --------
    >>> table = {"per_cell": [0.3, 0.1], "q_value": [0.01, 0.4]}
    >>> ranking(pd.DataFrame(table, index=["a", "b"])).get_xlabel()
    'Bayes factor (nats per cell)'
    """
    check(show, save)
    _needs(table, "what rank_genes returns", "per_cell", "q_value")
    if table.index.nlevels > 1:
        first = table.index[0][0]
        raise DataError(f"the ranking is of several labels: draw that of one, table.loc[{first!r}]")
    table, level = table.head(whole_number("top", top, least=1)), number("level", level)
    if ax is None:
        ax = new_figure(4, 1 + 0.2 * len(table), show).subplots()
    sure = (table["q_value"] < level).to_numpy()
    rows = np.arange(len(table))
    rest = "not called" if table["q_value"].notna().any() else "without q-values"
    for kind, fill, label in ((sure, PALETTE[0], f"q < {level:g}"), (~sure, "none", rest)):
        if kind.any():
            values = table["per_cell"].to_numpy()[kind]
            ax.barh(rows[kind], values, 0.7, color=fill, edgecolor=PALETTE[0], label=label)
    ax.set_yticks(rows, list(table.index))
    ax.invert_yaxis()
    ax.set_xlabel("Bayes factor (nats per cell)")
    ax.legend(frameon=False, loc="lower right")
    finish([ax], show, save)
    return ax


def _needs(table: pd.DataFrame, what: str, *columns: str) -> None:
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"the table is a {type(table).__name__}: pass {what}")
    missing = [column for column in columns if column not in table]
    if missing:
        raise DataError(f"the table has no column {', '.join(missing)}: pass {what}")


def diagnostics(
    report: Diagnosis, show: bool | None = None, save: str | Path | None = None
) -> np.ndarray:
    """Draw a report of the diagnostics: what dimensions say, what latents are worth, and leaks.

    Parameters
    ----------
    report
        From :func:`~pyro_mgvi.diagnose`.
    show
        By default a notebook shows the figure, and a script that uses pyplot at its
        ``pyplot.show()``. True shows it at once, False never.
    save
        File to write the figure to, whose ending says the format.

    Returns
    -------
    Array of three axes (the last is empty without probes), left to right: KL of each dimension,
    sorted; worth of the group-specific latents on unseen cells beside that of the refit on
    shuffled groups, with 3 standard errors; and the probes, with chance as a line. Their
    figure is ``axes[0].figure``.

    Raises
    ------
    SettingsError
        If the figure cannot be shown or saved.

    Examples
    --------
    >>> from pyro_mgvi.analysis import Diagnosis
    >>> dimensions = pd.DataFrame({"latent": ["t_a", "t_a"], "dimension": [1, 2], "kl": [1.0, 0.1]})
    >>> worth = {"worth": [2.0], "worth_se": [0.1], "shuffled": [0.2], "shuffled_se": [0.1]}
    >>> copies = pd.DataFrame(worth, index=["t_a"])
    >>> probes = pd.DataFrame(columns=["latent", "kind", "target", "accuracy", "chance"])
    >>> len(diagnostics(Diagnosis(dimensions, copies, probes, ())))
    3
    """
    check(show, save)
    if not isinstance(report, Diagnosis):
        raise DataError(f"report is a {type(report).__name__}, not the Diagnosis of diagnose")
    keys = list(dict.fromkeys(report.dimensions["latent"]))
    specific = report.copies.dropna(subset="worth")
    height = 1.4 + 0.3 * max(len(keys), len(specific), len(report.probes))
    longest = max(map(len, keys), default=0)
    figure = new_figure(max(12, 9 + 0.25 * longest), max(3.2, height), show)
    axes = axes_grid(figure, 1, 3)
    for i, key in enumerate(keys):
        kl = np.sort(report.dimensions.query("latent == @key")["kl"])[::-1]
        colour = PALETTE[i % len(PALETTE)]
        marker = MARKERS[i // len(PALETTE) % len(MARKERS)]
        rank = np.arange(1, len(kl) + 1)
        axes[0].plot(rank, kl, "-", marker=marker, ms=4, color=colour, label=key)
    axes[0].set(xlabel="dimension, sorted", ylabel="nats per cell", title="KL of each dimension")
    rows = np.arange(len(specific))
    sides = (("worth", "true groups", -0.12, PALETTE[0]), ("shuffled", "shuffled", 0.12, "0.6"))
    for name, label, shift, colour in sides:
        error = SURE * specific[f"{name}_se"]
        axes[1].errorbar(
            specific[name], rows + shift, xerr=error, fmt="o", color=colour, capsize=3, label=label
        )
    axes[1].axvline(0, color="0.8", zorder=0)
    axes[1].set_yticks(rows, list(specific.index))
    axes[1].margins(y=0.3)
    axes[1].invert_yaxis()
    axes[1].set(xlabel="nats per unseen cell", title="what a latent is worth")
    if len(report.probes):
        names = [f"{row.latent} → {row.target}" for row in report.probes.itertuples()]
        rows = np.arange(len(names))
        axes[2].barh(rows, report.probes["accuracy"], 0.6, color=PALETTE[5], label="probe")
        chance = report.probes["chance"]
        axes[2].vlines(chance, rows - 0.4, rows + 0.4, color=PALETTE[7], lw=2, label="chance")
        axes[2].set_yticks(rows, names)
        axes[2].invert_yaxis()
        axes[2].set(xlabel="balanced accuracy", title="what a linear probe tells", xlim=(0, 1))
    else:
        axes[2].set_axis_off()
    for ax in axes[: 2 + bool(len(report.probes))]:
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "frameon": False}
        if ax is axes[0]:
            below |= {"fontsize": 8, "ncols": max(1, min(3, 40 // (longest + 5)))}
            legend_of(ax, ax.get_lines(), keys, **below)
        else:
            ax.legend(ncols=3, **below)
    finish(axes, show, save)
    return axes
