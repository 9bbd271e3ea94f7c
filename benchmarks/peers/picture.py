"""The picture of all methods: labels kept against groups mixed, a panel for each set."""

from __future__ import annotations

from itertools import cycle, product
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

from benchmarks.peers.page import OURS

COLUMNS = 3
MARKERS = ("o", "D")


def write_picture(rows: pd.DataFrame, path: Path) -> None:
    """Draw the mean over seeds of each method, with curves of equal harmonic mean."""
    sets, methods = list(rows["data"].unique()), list(rows["method"].unique())
    n_rows = -(-len(sets) // COLUMNS)
    figure, axes = plt.subplots(
        n_rows, COLUMNS, figsize=(4 * COLUMNS, 3.6 * n_rows), squeeze=False, layout="constrained"
    )
    looks = dict(zip(methods, cycle(product(MARKERS, plt.get_cmap("tab10").colors))))
    looks |= {OURS: ("*", "#c0392b")}
    for axis in axes.flat[len(sets) :]:
        axis.set_axis_off()
    for axis, data in zip(axes.flat, sets):
        mine = rows[rows["data"] == data]
        mean = mine.pivot_table(index="method", columns="metric", values="value")
        draw(axis, mean, looks)
        axis.set_title(data, loc="left")
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False)
    figure.supxlabel("groups mixed within labels (1: not told apart)")
    figure.supylabel("labels kept (ARI of Leiden clusters)")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw(axis: plt.Axes, mean: pd.DataFrame, looks: dict[str, tuple[str, object]]) -> None:
    """Draw one set: a point for each method, ours a star."""
    grid = pd.Series(range(1, 101)) / 100
    for level in (0.4, 0.6, 0.8):  # h = 2 a m / (a + m), so a = h m / (2 m - h)
        ari = level * grid / (2 * grid - level)
        seen = (grid > level / 2) & (ari <= 1)
        axis.plot(grid[seen], ari[seen], color="0.85", linewidth=1, zorder=0)
    for method, (marker, colour) in looks.items():
        if method in mean.index:
            at = mean.loc[method, ["mixing", "label ARI"]]
            size = 160 if method == OURS else 45
            axis.scatter(*at, s=size, marker=marker, color=colour, label=method, alpha=0.85)
    axis.set(xlim=(-0.05, 1.08), ylim=(0, 1.08), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
