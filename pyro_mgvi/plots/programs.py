"""A picture of one dimension: its cells in order, its genes, and what the cells are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from pyro_mgvi.analysis.gene_effects.dimensions import first_genes
from pyro_mgvi.analysis.gene_effects.effects import dims_in_use, effects
from pyro_mgvi.analysis.gene_effects.table import owned
from pyro_mgvi.analysis.metrics import log_shares
from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.checks import column, some
from pyro_mgvi.data.modalities import labelled
from pyro_mgvi.data.names import gene_positions
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.plots.colours import MISSING, SEQUENTIAL, Levels, colours_in, is_number
from pyro_mgvi.plots.figures import check, finish, legend_of, new_figure, short
from pyro_mgvi.training.program import Program

CELLS = 2000  # drawn; of more, a sample
WINDOW = 40  # a gene is smoothed over one in so many of the cells
LIMIT = 2.0  # standard deviations, where colours end
LONGEST = 24  # letters of a name


def program(
    mgvi: Program,
    adata: AnnData,
    key: str,
    dim: int = 1,
    label_key: str | None = None,
    top: int = 15,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the cells that own a latent in the order of one dimension, with its genes.

    Each row is a gene, those that rise along the dimension above those that fall, the most telling
    ones outermost (``information`` of :func:`~pyro_mgvi.programs`): its log counts
    at one depth, as observed and smoothed over a fortieth of the cells, standardised. What the
    model only believes shows no trend; other latents move along with the cells, and may hide one.
    The strip above is the label of each cell. The dimension is taken times its ``orientation``
    (:func:`~pyro_mgvi.programs`).

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data; of a model of several modalities, the MuData.
    key
        Key of the latent, such as ``"t_Ileum"``.
    dim
        Number of the dimension, from 1.
    label_key
        Column of ``obs`` for the strip.
    top
        Genes in each direction, at most; only those that tell enough to be named.
    ax
        Axes to draw on; new ones by default.
    show
        By default a notebook shows the figure, and a script that uses pyplot at its
        ``pyplot.show()``. True shows it at once, False never.
    save
        File to write the figure to, whose ending says the format.

    Raises
    ------
    SettingsError
        If the latent or its dimension is unknown or not in use, or the figure cannot be shown or
        saved.
    DataError
        If no cell owns the latent, its dimension changes no gene, or the column of labels is
        missing.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group", latents=["z:2", "t:1"])
    >>> program(mgvi, adata, "t_group1", label_key="celltype").get_title()
    't_group1, dimension 1'
    """
    check(show, save)
    labels = labelled(adata, [label_key])
    if label_key is not None:
        column(labels, label_key, "label_key")
    copies = {copy.key: copy for copy in mgvi.families.copies}
    if key not in copies:
        raise SettingsError(f"unknown latent {key!r}; the model has {list(copies)}")
    copy = copies[key]
    used = [int(d) + 1 for d in dims_in_use(mgvi, copy)]
    if dim not in used:
        raise SettingsError(
            f"dimension {dim!r} of {key} is not in use; in use are: {some(used, 20) or 'none'}"
        )
    data = mgvi.read_for_results(adata)
    own = owned(mgvi, data, copy)
    chosen = np.sort(np.random.default_rng(0).permutation(own)[:CELLS])
    found, i = effects(mgvi, data.subset(chosen), copy), used.index(dim)
    order = np.argsort(found.orientation_d[i] * found.mean_nd[:, i], kind="stable")
    up, down = first_genes(found, i, mgvi.schema.genes, top)
    if not up and not down:
        raise DataError(f"dimension {dim} of {key} changes no gene: there is nothing to draw")
    genes, position = gene_positions(mgvi.schema, [*up, *reversed(down)])
    x_gn = _smooth(_observed(mgvi, data.subset(chosen[order]))[:, position].T)
    if ax is None:
        ax = new_figure(6.5, 1.6 + 0.2 * len(genes), show).subplots()
    image = ax.imshow(x_gn, aspect="auto", cmap=SEQUENTIAL, vmin=-LIMIT, vmax=LIMIT)
    ax.set_yticks(range(len(genes)), [short(gene, LONGEST) for gene in genes], fontsize=8)
    ax.set_xticks([])
    ax.set_xlabel(f"{len(chosen):,} cells, in the order of the dimension")
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.02, 0, 0.02, 1)))
    what = "log counts" if mgvi.data_kind is DataKind.COUNTS else "values"
    bar.set_ticks([-LIMIT, 0, LIMIT])
    bar.set_label(f"{what}, standardised", fontsize=8)
    if label_key is not None:
        cells = data.cells[chosen[order]]
        _strip(ax, labels, label_key, cells)
    ax.set_title(f"{key}, dimension {dim}", pad=20 if label_key is not None else None)
    finish([ax], show, save)
    return ax


def _observed(mgvi: Program, data: GroupedCounts) -> np.ndarray:
    """Return log counts at one depth, or the values, cells x genes; NaN where a cell has not it."""
    schema = mgvi.schema
    if mgvi.data_kind is not DataKind.COUNTS:
        x_ng = np.concatenate([batch.counts.cpu().numpy() for _, batch in mgvi.batches(data)])
    elif schema.several is None:
        x_ng = log_shares(data.x)
    else:  # each modality is at a depth of its own
        x_ng = np.full(data.shape, np.nan)
        for columns in schema.several.columns.values():
            part = data.x[:, columns]
            has_n = np.asarray(part.sum(1)).ravel() > 0
            x_ng[has_n, columns] = log_shares(part[has_n])
    if schema.measured_bg is not None:
        x_ng = np.where(schema.measured_bg[data.group_n], x_ng, np.nan)
    return x_ng


def _smooth(x_gn: np.ndarray) -> np.ndarray:
    """Return the rows, smoothed over a window of cells and standardised; missing ones are left out.

    Examples
    --------
    >>> _smooth(np.array([[1.0, np.nan, 3.0]])).tolist()
    [[-1.0, nan, 1.0]]
    """
    kernel = np.ones(max(1, x_gn.shape[1] // WINDOW))
    sum_gn, known_gn = (
        np.array([np.convolve(row, kernel, mode="same") for row in part])
        for part in (np.nan_to_num(x_gn), np.isfinite(x_gn).astype(float))
    )
    smooth_gn = sum_gn / np.maximum(known_gn, 1)
    has_gn = known_gn > 0
    n_g1 = np.maximum(has_gn.sum(1, keepdims=True), 1)
    smooth_gn -= smooth_gn.sum(1, keepdims=True, where=has_gn) / n_g1
    deviation_g1 = np.sqrt((smooth_gn**2).sum(1, keepdims=True, where=has_gn) / n_g1)
    return np.where(has_gn, smooth_gn / np.maximum(deviation_g1, 1e-12), np.nan)


def _strip(ax: Axes, adata: AnnData, label_key: str, cells: np.ndarray) -> None:
    """Draw the labels of the cells above the genes, with a legend or as numbers."""
    strip = ax.inset_axes((0, 1.02, 1, 0.06))
    strip.set(xticks=[], yticks=[])
    labels = adata.obs[label_key].reset_index(drop=True)
    if is_number(labels):
        value_n = labels.iloc[cells].to_numpy(float, na_value=np.nan)
        strip.imshow(value_n[None], aspect="auto", cmap=SEQUENTIAL)
        strip.set_ylabel(label_key, rotation=0, ha="right", va="center", fontsize=8)
        return
    levels = Levels.of(labels, colours_in(adata, label_key)).among(cells)
    colours = np.array([to_rgb(colour) for colour in (*levels.colours, MISSING)])
    strip.imshow(colours[levels.code_n][None], aspect="auto", interpolation="nearest")
    names, looks = [short(name, LONGEST) for name in levels.names], list(levels.colours)
    if (levels.code_n < 0).any():
        names, looks = [*names, "missing"], [*looks, MISSING]
    handles = [Patch(color=colour) for colour in looks]
    # Beyond the name of the colour bar.
    place = {"loc": "upper left", "bbox_to_anchor": (1.24, 1), "frameon": False, "fontsize": 8}
    legend_of(ax, handles, names, **place)
