"""Figures, each returned as matplotlib axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from pyro_mgvi.genes import select

# Okabe and Ito's colours, told apart with any common colour vision.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#000000")
MARKERS = "o^sDvP"  # the next one where there are more labels than colours


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
    levels = list(np.unique(labels))
    colour = {level: PALETTE[i % len(PALETTE)] for i, level in enumerate(levels)}
    marker = {level: MARKERS[i // len(PALETTE) % len(MARKERS)] for i, level in enumerate(levels)}
    for shape in dict.fromkeys(marker.values()):
        cells = order[[marker[x] == shape for x in labels[order]]]
        colours = [colour[x] for x in labels[cells]]
        size = 6 if shape == "o" else 10
        ax.scatter(*latent_nk[cells].T, s=size, linewidths=0, alpha=0.7, c=colours, marker=shape)
    for level in levels:
        ax.scatter([], [], s=24, color=colour[level], marker=marker[level], label=level)
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


def ranking(table, top: int = 20, level: float = 0.1, ax: Axes | None = None) -> Axes:
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

    Examples
    --------
    >>> import pandas as pd
    >>> table = {"gene": ["a", "b"], "per_cell": [0.3, 0.1], "q_value": [0.01, 0.4]}
    >>> ranking(pd.DataFrame(table)).get_xlabel()
    'Bayes factor (nats per cell)'
    """
    table = table.head(top)
    if ax is None:
        ax = Figure(figsize=(4, 1 + 0.2 * len(table)), layout="constrained").subplots()
    sure = (table["q_value"] < level).to_numpy()
    rows = np.arange(len(table))
    for kind, fill, label in ((sure, PALETTE[0], f"q < {level:g}"), (~sure, "none", "not called")):
        if kind.any():
            values = table["per_cell"].to_numpy()[kind]
            ax.barh(rows[kind], values, 0.7, color=fill, edgecolor=PALETTE[0], label=label)
    ax.set_yticks(rows, list(table["gene"]))
    ax.invert_yaxis()
    ax.set_xlabel("Bayes factor (nats per cell)")
    ax.legend(frameon=False, loc="lower right")
    return ax


def expression(mgvi, adata, group: str, genes: Sequence[str], cells=None) -> np.ndarray:
    """Draw genes' expected expression with all and with only the shared latents.

    For the group's cells and for all others (paper, figure 5h): what differs between the two
    boxes of the group is what its own latents and its mean shift add.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data.
    group
        Name of the group.
    genes
        Genes to draw, one panel each.
    cells
        Boolean mask over all cells: which to use; all by default.

    Returns
    -------
    Array of axes, one per gene; their figure is ``axes[0].figure``.

    Raises
    ------
    DataError
        If the group or a gene is unknown, or no cell of the group is chosen.
    """
    genes = [genes] if isinstance(genes, str) else list(genes)
    data = mgvi.read(adata)
    chosen, own = select(data, group, cells)
    others = np.setdiff1d(chosen, own)
    shared = [x.name for x in mgvi.model.latents if x.covers(mgvi.model.groups)]
    sides = [("all", None, PALETTE[0]), ("shared only", shared, PALETTE[1])]
    figure = Figure(figsize=(2.6 * len(genes), 3.2), layout="constrained")
    axes = figure.subplots(1, len(genes), squeeze=False).ravel()
    for side, (name, latents_, colour) in enumerate(sides):
        table = mgvi.normalized_expression(data, latents_, genes).to_numpy() * 1e4
        for ax, values in zip(axes, table.T):
            boxes = ax.boxplot(
                [values[own], values[others]],
                positions=[side, side + 3],
                widths=0.7,
                patch_artist=True,
                showfliers=False,
                medianprops={"color": PALETTE[-1]},
            )
            for box in boxes["boxes"]:
                box.set(facecolor=colour, label=name if box is boxes["boxes"][0] else None)
    for ax, gene in zip(axes, genes):
        ax.set_xticks([0.5, 3.5], [group, "others"])
        ax.set_title(gene)
    axes[0].set_ylabel("expected counts per 10,000")
    axes[-1].legend(frameon=False, fontsize=8)
    return axes
