"""Initial values where groups have not got all genes: each gene's moments over those that have."""

from __future__ import annotations

from functools import partial

import numpy as np

from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data.modalities.moments import initial_values_of_modalities
from pyro_mgvi.data.moments import (
    GATE_SHARE,
    PSEUDOCOUNT,
    CountsOfGroups,
    blocks,
    initial_values_of_counts,
    initial_values_of_values,
    library_of_batches,
    tensor,
)

ROUNDS = 100  # of the alternating fit of shares and sizes
ENOUGH = 0.1  # of each group's counts: so many make up a library that all groups' cells have


def initial_values(
    data: CountsOfGroups, data_kind: DataKind, of_one: bool = False
) -> InitialValues:
    """Return initial values of counts or of transformed values, with or without absent genes.

    Those ``of_one`` of several modalities are for its total of all features that a cell has.
    """
    several = data.schema.several
    if several is not None:
        of_each = partial(initial_values, data_kind=data_kind, of_one=True)
        return initial_values_of_modalities(data, several, of_each)
    measured_bg, counts = data.schema.measured_bg, data_kind is DataKind.COUNTS
    if measured_bg is None:
        return initial_values_of_counts(data) if counts else initial_values_of_values(data)
    if counts:
        return initial_values_of_measured(data, measured_bg, every_gene=of_one)
    return initial_values_of_measured_values(data, measured_bg)


def reference_genes(totals_bg: np.ndarray, measured_bg: np.ndarray) -> np.ndarray:
    """Return which genes' counts make up a cell's library, boolean (genes,).

    Shares of counts add up to one. Where a group's own genes are a large part of some type's
    counts (insulin, which has no one-to-one ortholog), its other genes would have to fall by as
    much, in this group and not in others. So the library is of the genes that all groups have, if
    these are enough; else of those that at least two groups have. Groups without a cell here say
    nothing.

    Parameters
    ----------
    totals_bg
        Counts by group and gene, zeros where a gene is not measured.
    measured_bg
        Which group has which gene.

    Examples
    --------
    >>> measured_bg = np.array([[True, True, False], [True, False, True]])
    >>> reference_genes(np.array([[2.0, 8.0, 0.0], [1.0, 0.0, 1.0]]), measured_bg)
    array([ True, False, False])
    """
    everyones_g: np.ndarray = np.all(measured_bg, axis=0)
    here_b = totals_bg.sum(1) > 0
    share_b = totals_bg[here_b][:, everyones_g].sum(1) / totals_bg[here_b].sum(1)
    several_g: np.ndarray = (measured_bg.sum(0) > 1) & measured_bg[here_b].any(0)
    return everyones_g if (share_b >= ENOUGH).all() else several_g


def shares_of_measured(
    totals_bg: np.ndarray, measured_bg: np.ndarray, reference_g: np.ndarray | None = None
) -> np.ndarray:
    r"""Return each gene's counts in a cell in which all genes are measured, by its library.

    The fit by alternating maximum likelihood of :math:`X_{bg} \sim \mathrm{Poisson}(s_b r_g)` over
    the entries that are measured, with one size for each group.

    Parameters
    ----------
    totals_bg
        Counts by group and gene, zeros where a gene is not measured.
    measured_bg
        Which group has which gene.
    reference_g
        Genes that make up the library; all by default.

    Returns
    -------
    Positive shares that add up to 1 over the library's genes, (genes,).

    Examples
    --------
    >>> measured_bg = np.array([[True, True, False], [True, False, True]])
    >>> totals_bg = 1e6 * np.array([[0.2, 0.3, 0.0], [0.4, 0.0, 0.1]])
    >>> shares_of_measured(totals_bg, measured_bg).round(3)
    array([0.364, 0.545, 0.091])
    """
    n_genes, total_g = totals_bg.shape[1], totals_bg.sum(0)
    among_g = np.ones(n_genes) if reference_g is None else reference_g.astype(float)
    share_g = np.full(n_genes, 1.0 / n_genes)
    for _ in range(ROUNDS):
        size_b = totals_bg @ among_g / (measured_bg @ (among_g * share_g))
        exposure_g = size_b @ measured_bg
        exposure_g[exposure_g == 0] = size_b.sum()  # of groups without a cell: as if seen nowhere
        share_g = (total_g + 0.5) / np.maximum(exposure_g, 1.0)
        share_g = share_g / (among_g @ share_g)
    return share_g


def initial_values_of_measured(
    data: CountsOfGroups, measured_bg: np.ndarray, every_gene: bool = False
) -> InitialValues:
    """Do as :func:`~pyro_mgvi.data.moments.initial_values_of_counts`, over what is measured.

    A cell's library is of the genes that all groups have (:func:`reference_genes`); if it is of
    others, it stands for the share of them that its group has. So two species' cells are at one
    depth by their common genes. With ``every_gene`` it is of all genes that a cell has. An offset
    is that of a group's gene which another group has, too; others are 0.
    """
    n, n_genes = data.shape
    n_groups = len(data.schema.groups)
    totals_bg, seen_g, library_n = np.zeros((n_groups, n_genes)), np.zeros(n_genes), np.zeros(n)
    for cells, x in blocks(data):
        seen_g += np.asarray((x > 0).sum(0)).ravel()
        for group in range(n_groups):
            totals_bg[group] += np.asarray(x[data.group_n[cells] == group].sum(0)).ravel()
    reference_g = np.ones(n_genes, bool) if every_gene else reference_genes(totals_bg, measured_bg)
    for cells, x in blocks(data):
        library_n[cells] = np.maximum(np.asarray(x[:, reference_g].sum(1)).ravel(), 1.0)
    share_g = shares_of_measured(totals_bg, measured_bg, reference_g)
    part_b = measured_bg @ (reference_g * share_g)  # of a library that a group's genes have
    whole_n = library_n / part_b[data.group_n]
    whole_b = np.bincount(data.group_n, whole_n, n_groups)
    offset_bg = np.log((totals_bg + PSEUDOCOUNT) / (whole_b[:, None] * share_g + PSEUDOCOUNT))
    size_b = np.bincount(data.group_n, minlength=n_groups)
    cells_g = np.maximum(size_b @ measured_bg, 1)
    squared_g = np.bincount(data.group_n, whole_n**2, n_groups) @ measured_bg
    depth = float(np.median(whole_n))
    squares_g, input_g = np.zeros(n_genes), np.zeros(n_genes)
    for cells, x in blocks(data):
        whole = whole_n[cells][:, None]
        squares_g += np.asarray(x.multiply(x).sum(0)).ravel()
        squares_g -= 2 * share_g * np.asarray(x.multiply(whole).sum(0)).ravel()
        input_g += np.asarray(x.multiply(depth / whole).log1p().sum(0)).ravel()
    squares_g += share_g**2 * squared_g - share_g * (whole_b @ measured_bg)
    theta_g = share_g**2 * squared_g / np.maximum(squares_g, 1e-3)
    gate_g = np.clip(GATE_SHARE * (cells_g - seen_g) / cells_g, 1e-4, 0.5)
    log_library = np.log(library_n)
    library_b2 = library_of_batches(log_library, data.batch_n, len(data.schema.batches))
    return InitialValues(
        log_rate_g=tensor(np.log(share_g)),
        offset_bg=tensor(np.where(comparable(measured_bg), offset_bg, 0.0)),
        log_theta_g=tensor(np.log(np.clip(theta_g, 0.05, 100.0))),
        gate_logits_g=tensor(np.log(gate_g / (1 - gate_g))),
        log_library_b2=tensor(library_b2),
        input_g=tensor(input_g / cells_g),
        depth=tensor(depth * part_b),
        n_covariates=data.schema.n_covariates,
        n_group_b=tensor(size_b),
        measured_bg=tensor(measured_bg).bool(),
        reference_g=tensor(reference_g).bool(),
    )


def comparable(measured_bg: np.ndarray) -> np.ndarray:
    """Return which entries are measured, of genes that at least two groups have."""
    several: np.ndarray = measured_bg & (measured_bg.sum(0) > 1)
    return several


def initial_values_of_measured_values(
    data: CountsOfGroups, measured_bg: np.ndarray
) -> InitialValues:
    """Do as :func:`~pyro_mgvi.data.moments.initial_values_of_values`, over what is measured."""
    n_groups, n_genes = measured_bg.shape
    total_bg, square_g = np.zeros((n_groups, n_genes)), np.zeros(n_genes)
    for cells, x in blocks(data):
        square_g += np.asarray(x.multiply(x).sum(0)).ravel()
        for group in range(n_groups):
            total_bg[group] += np.asarray(x[data.group_n[cells] == group].sum(0)).ravel()
    size_b1 = np.bincount(data.group_n, minlength=n_groups)[:, None]
    cells_g = np.maximum((size_b1 * measured_bg).sum(0), 1)
    mean_g, mean_bg = total_bg.sum(0) / cells_g, total_bg / np.maximum(size_b1, 1)
    variance_g = (square_g - (size_b1 * mean_bg**2 * measured_bg).sum(0)) / cells_g
    blank = InitialValues.blank(
        n_genes,
        n_groups,
        len(data.schema.batches),
        data.schema.n_covariates,
        tensor(measured_bg).bool(),
    )
    return blank._replace(
        log_rate_g=tensor(mean_g),
        offset_bg=tensor(np.where(comparable(measured_bg), mean_bg - mean_g, 0.0)),
        log_theta_g=tensor(-np.log(np.maximum(variance_g, 1e-4))),
        input_g=tensor(mean_g),
        n_group_b=tensor(size_b1[:, 0]),
    )
