"""Figures of genes' expected expression, with and without what belongs to a group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from anndata import AnnData

from pyro_mgvi.analysis.expression import normalized_expression
from pyro_mgvi.core import DataKind
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.cells.selection import Cells, cells_of_group
from pyro_mgvi.data.masks.notes import lacking, prediction_note
from pyro_mgvi.data.names import gene_positions, named_groups
from pyro_mgvi.data.schema import Schema
from pyro_mgvi.plots.colours import PALETTE
from pyro_mgvi.plots.figures import axes_grid, check, finish, new_figure
from pyro_mgvi.training.program import Program, check_model


def expression(
    mgvi: Program,
    adata: AnnData | GroupedCounts,
    group: str,
    genes: Sequence[str] | str,
    cells: Cells = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> np.ndarray:
    """Draw genes' expected expression with all and with only the shared latents.

    For the group's cells and for all others (paper, figure 5h): what differs between the two
    boxes of the group is what its own latents and its mean shift add.

    With feature masks, a box is of the cells whose group has the gene. If none has it, the box is
    a prediction: it is hatched, and the title says so.

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
        Which to use: a boolean mask, a Series or cell names; all by default.
    show
        By default a notebook shows the figure, and a script that uses pyplot at its
        ``pyplot.show()``. True shows it at once, False never.
    save
        File to write the figure to, whose ending says the format.

    Returns
    -------
    Array of axes, one per gene; their figure is ``axes[0].figure``.

    Raises
    ------
    DataError
        If the group or a gene is unknown, or no cell of the group is chosen.
    SettingsError
        If the figure cannot be shown or saved.
    """
    check(show, save)
    check_model(mgvi)
    genes, _ = gene_positions(mgvi.schema, genes)
    data = mgvi.read_for_results(adata)
    chosen, own = cells_of_group(adata, data, named_groups(mgvi.families, group), cells)
    others = np.setdiff1d(chosen, own)
    shared = mgvi.families.of_everyone
    sides = [("all", None, PALETTE[0]), ("shared only", shared, PALETTE[1])]
    found = (normalized_expression(mgvi, data, k, genes, predict_absent=True) for _, k, _ in sides)
    tables = [table.to_numpy() for table in found]
    of_gene = [_boxes(mgvi.schema, gene, data.group_n, (own, others)) for gene in genes]
    counts = mgvi.data_kind is DataKind.COUNTS
    scale = 1e4 if counts else 1.0
    figure = new_figure(2.6 * len(genes), 3.2, show)
    axes = axes_grid(figure, 1, len(genes))
    for side, ((name, _, colour), table) in enumerate(zip(sides, tables)):
        for ax, values, (drawn, hatches, _) in zip(axes, scale * table.T, of_gene):
            boxes = ax.boxplot(
                [values[cells] for cells in drawn],
                positions=[side, side + 3],
                widths=0.7,
                patch_artist=True,
                showfliers=False,
                medianprops={"color": PALETTE[-1]},
            )
            for box, hatch in zip(boxes["boxes"], hatches):
                label = name if box is boxes["boxes"][0] else None
                box.set(facecolor=colour, label=label, hatch=hatch)
    for ax, gene, (_, _, note) in zip(axes, genes, of_gene):
        ax.set_xticks([0.5, 3.5], [group, "others"])
        ax.set_title(f"{gene}\n({note})" if note else gene)
    axes[0].set_ylabel("expected counts per 10,000" if counts else "expected value")
    axes[-1].legend(frameon=False, fontsize=8)
    finish(axes, show, save)
    return axes


def _boxes(
    schema: Schema, gene: str, group_n: np.ndarray, sides: tuple[np.ndarray, ...]
) -> tuple[list[np.ndarray], list[str | None], str]:
    """Return the cells of each box, its hatch if it is predicted, and what to say of it."""
    absent = lacking(schema, gene)
    has_b = np.array([name not in absent for name in schema.groups])
    drawn, hatches, predicted = [], [], np.zeros(len(has_b), bool)
    for cells in sides:
        measured = cells[has_b[group_n[cells]]]
        guessed = bool(len(cells)) and not len(measured)
        drawn.append(cells if guessed else measured)
        hatches.append("///" if guessed else None)
        predicted[group_n[cells] if guessed else []] = True
    return drawn, hatches, prediction_note([schema.groups[b] for b in np.flatnonzero(predicted)])
