"""The picture of all methods: labels kept against groups mixed, a panel for each set."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

COLUMNS = 3
OURS = "MGVI"


def write_picture(rows: pd.DataFrame, path: Path) -> None:
    """Draw the mean over seeds of each method, with curves of equal harmonic mean."""
    sets = list(rows["data"].unique())
    n_rows = -(-len(sets) // COLUMNS)
    size = (4.2 * COLUMNS, 3.8 * n_rows)
    figure, axes = plt.subplots(
        n_rows, COLUMNS, figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    for axis in axes.flat[len(sets) :]:
        axis.set_axis_off()
    for axis, data in zip(axes.flat, sets):
        mine = rows[rows["data"] == data]
        mean = mine.pivot_table(index="method", columns="metric", values="value")
        draw(axis, mean.dropna(subset=["mixing", "label ARI"]))
        axis.set_title(data, loc="left")
    figure.supxlabel("groups mixed within labels (1: not told apart)")
    figure.supylabel("labels kept (ARI of Leiden clusters)")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw(axis: plt.Axes, mean: pd.DataFrame) -> None:
    """Draw one set: a named point for each method, ours in red."""
    grid = pd.Series(range(1, 101)) / 100
    for level in (0.4, 0.6, 0.8):  # h = 2 a m / (a + m), so a = h m / (2 m - h)
        ari = level * grid / (2 * grid - level)
        seen = (grid > level / 2) & (ari <= 1)
        axis.plot(grid[seen], ari[seen], color="0.85", linewidth=1, zorder=0)
    for method, row in mean.iterrows():
        colour = "#c0392b" if method == OURS else "#34495e"
        axis.scatter(row["mixing"], row["label ARI"], s=22, color=colour)
        axis.annotate(
            method, (row["mixing"], row["label ARI"]), xytext=(4, 2), color=colour,
            textcoords="offset points", fontsize=8,
        )  # fmt: skip
    axis.set(xlim=(0, 1.15), ylim=(0, 1.08), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
