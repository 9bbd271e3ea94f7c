"""Figures, each returned as matplotlib axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

# Okabe and Ito's colours, told apart with any common colour vision.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")


def scatter(ax: Axes, latent_nk: np.ndarray, labels: Sequence, title: str = "") -> Axes:
    """Draw the first two principal components of a latent, coloured by label.

    Cells whose latent is NaN (foreign copies) are left out.

    Parameters
    ----------
    ax
        Axes to draw on.
    latent_nk
        Cells x dims.
    labels
        Label of each cell.
    title
        Title of the panel.
    """
    latent_nk, labels = np.asarray(latent_nk), np.asarray(labels).astype(str)
    known = np.isfinite(latent_nk).all(1)
    latent_nk, labels = latent_nk[known], labels[known]
    if latent_nk.shape[1] > 2:
        latent_nk = PCA(2, random_state=0).fit_transform(latent_nk)
    elif latent_nk.shape[1] == 1:
        latent_nk = np.column_stack([latent_nk[:, 0], np.random.default_rng(0).random(len(labels))])
    order = np.random.default_rng(0).permutation(len(labels))  # no label hides another
    levels = np.unique(labels)
    colour = {level: PALETTE[i % len(PALETTE)] for i, level in enumerate(levels)}
    ax.scatter(
        *latent_nk[order].T, s=6, linewidths=0, alpha=0.7, c=[colour[x] for x in labels[order]]
    )
    for level in levels:
        ax.scatter([], [], s=24, color=colour[level], label=level)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    ax.set(title=title, xticks=[], yticks=[], xlabel="PC 1", ylabel="PC 2")
    return ax


def latents(adata, panels: Sequence[tuple[str, str]], columns: int = 2) -> np.ndarray:
    """Draw one panel per (key of ``obsm``, column of ``obs``).

    Parameters
    ----------
    adata
        Annotated data with latents in ``obsm``.
    panels
        Pairs such as ``("X_mgvi_z", "celltype")``.
    columns
        Panels in a row.

    Returns
    -------
    Array of axes; their figure is ``axes[0].figure``.
    """
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (key, column) in zip(axes, panels):
        scatter(
            ax, adata.obsm[key], adata.obs[column], f"{key.removeprefix('X_mgvi_')} by {column}"
        )
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    return axes[: len(panels)]


def history(table, ax: Axes | None = None) -> Axes:
    """Draw training and validation loss per epoch, in nats per cell.

    Parameters
    ----------
    table
        ``MGVI.history``.
    ax
        Axes to draw on; new ones by default.
    """
    ax = Figure(figsize=(5, 3.4), layout="constrained").subplots() if ax is None else ax
    for column, colour in zip(("train", "validation"), PALETTE):
        if column in table:
            ax.plot(table["epoch"], table[column], color=colour, label=column)
    ax.set(xlabel="epoch", ylabel="loss (nats per cell)")
    ax.legend(frameon=False)
    return ax
