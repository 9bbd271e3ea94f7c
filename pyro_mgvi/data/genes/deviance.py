"""By how much more than chance genes vary within each group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from pyro_mgvi.data.genes.chance import common_dispersion, gene_moments
from pyro_mgvi.data.grouped_counts import GroupedCounts

VALUES, CELLS = 1 << 22, 4096  # that are looked at together, at most
COINCIDENCE = 4 * np.log(2.0)  # what two counts in one cell, in place of two, add to a deviance


class Sums(NamedTuple):
    """Sums over cells: of some strata (strata x genes), and of the groups (groups x genes)."""

    total_sg: np.ndarray
    log_sg: np.ndarray
    square_bg: np.ndarray
    product_bg: np.ndarray
    library_n: np.ndarray


def excess_deviance(data: GroupedCounts) -> np.ndarray:
    r"""Return by how many standard deviations each gene's deviance is above chance.

    The Poisson deviance :math:`2 \sum_n x_n \log (x_n / l_n p)` of counts within a group, where
    :math:`l_n` is the library of a cell and :math:`p` the gene's share of the group's counts
    (Townes et al. 2019, "Feature selection and dimension reduction for single-cell RNA-seq based on
    a multinomial model"), less what it is by chance given the gene's total, the libraries and a
    dispersion that all genes of the group have. Raw deviances would be an order of expression.

    Parameters
    ----------
    data
        Counts. Of several batches, shares are those of the group's cells in a batch, so that what
        batches do counts for nothing. Two numbers for each stratum and gene are held, and some
        cells' counts at a time.

    Returns
    -------
    Scores, (groups, genes); NaN where a group has no count of a gene.
    """
    names, stratum_n = np.unique(
        np.stack([data.group_n, data.batch_n]), axis=1, return_inverse=True
    )
    stratum_n, group_s = stratum_n.ravel(), names[0]
    sums = _sums(data, stratum_n, len(group_s))
    n_groups, n_genes = len(data.schema.groups), data.shape[1]
    score_bg = np.full((n_groups, n_genes), np.nan)
    for group in range(n_groups):
        excess_g, variance_g = np.zeros(n_genes), np.zeros(n_genes)
        strata = np.flatnonzero(group_s == group)
        total_g = sums.total_sg[strata].sum(0)
        rest = sums.square_bg[group], sums.product_bg[group]
        dispersion = common_dispersion(total_g, *rest, sums.library_n[data.group_n == group])
        for stratum in strata:
            count_g, library_n = sums.total_sg[stratum], sums.library_n[stratum_n == stratum]
            seen = np.flatnonzero(count_g)
            mean_g, chance_g = gene_moments(count_g[seen], library_n, dispersion)
            at_share_g = count_g[seen] * np.log(count_g[seen] / library_n.sum())
            deviance_g = 2 * (sums.log_sg[stratum, seen] - at_share_g)
            excess_g[seen] += deviance_g - mean_g
            variance_g[seen] += chance_g
        seen = total_g > 0
        score_bg[group, seen] = (excess_g / np.sqrt(variance_g + COINCIDENCE**2))[seen]
    return score_bg


def _sums(data: GroupedCounts, stratum_n: np.ndarray, n_strata: int) -> Sums:
    """Return all sums, in one pass over the cells."""
    of_strata, of_groups = (n_strata, data.shape[1]), (len(data.schema.groups), data.shape[1])
    strata, groups = (np.zeros((2, *shape)) for shape in (of_strata, of_groups))
    sums = Sums(strata[0], strata[1], groups[0], groups[1], np.zeros(len(data)))
    for cells, x in _blocks(data):
        size_n = np.asarray(x.sum(1)).ravel()
        sums.library_n[cells] = size_n
        size = np.repeat(size_n, np.diff(x.indptr))
        for code_n, targets in (
            (stratum_n, {0: x.data, 1: x.data * np.log(x.data / size)}),
            (data.group_n, {2: x.data**2, 3: x.data * size}),
        ):
            present, code = np.unique(code_n[cells], return_inverse=True)
            member = sparse.csr_matrix((np.ones(len(code)), (code, np.arange(len(code)))))
            for at, values in targets.items():
                part = sparse.csr_matrix((values, x.indices, x.indptr), shape=x.shape)
                sums[at][present] += (member @ part).toarray()
    return sums


def _blocks(data: GroupedCounts) -> Iterator[tuple[np.ndarray, sparse.csr_matrix]]:
    """Yield where some cells are, and their counts in double precision."""
    few = max(1, VALUES // data.shape[1])
    step = data.buffer or (CELLS if data.mostly_zero else few)
    for start in range(0, len(data), step):
        cells = np.arange(start, min(start + step, len(data)))
        yield cells, sparse.csr_matrix(data.counts(cells), dtype=np.float64)
