"""Offsets of groups that do not depend on which kinds of cells a group is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pyro_mgvi.core.interfaces import DataKind, HasGroupOffsets
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.moments import PSEUDOCOUNT
from pyro_mgvi.training.plan import SearchSettings
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search.clusters import clusters, some_of_each

ROUNDS = 100  # of the alternating fit


@torch.no_grad()
def recentre_offsets(
    program: Program, data: GroupedCounts, settings: SearchSettings, seed: int = 0
) -> bool:
    """Set the decoder's offsets to differences between groups within clusters of shared latents.

    Offsets start at the groups' means. Where a type lives in one group only, that group's offset
    then holds part of the type, and the shared latents of its other cells are shifted by as much.
    Once the latents tell types apart, differences within clusters are free of that.

    Parameters
    ----------
    program
        A partly trained program.
    data
        Counts of several groups; a sample of each is used.
    settings
        Number of cells of each group, and of clusters.
    seed
        Of the sample and the clusters.

    Returns
    -------
    Whether there was something to do: not without offsets, shared latents, counts, or groups to
    compare.
    """
    decoder, shared = program.model.decoder, program.families.shared
    groups = np.unique(data.group_n)
    if not isinstance(decoder, HasGroupOffsets) or program.data_kind is not DataKind.COUNTS:
        return False
    offset = decoder.group_offsets()
    if offset is None or not shared or len(groups) < 2:
        return False
    part = data.subset(some_of_each(data.group_n, groups, settings.max_cells, seed))
    latents_nk = torch.cat([x.shared_means().cpu() for _, x in program.posteriors(part)])
    cluster_n = clusters(latents_nk.numpy(), settings.clusters, seed)
    totals = np.zeros((len(groups), settings.clusters, data.shape[1]))
    for b, group in enumerate(groups):
        for cluster in range(settings.clusters):
            cells = np.flatnonzero((part.group_n == group) & (cluster_n == cluster))
            totals[b, cluster] = np.asarray(part.counts(cells).sum(0)).ravel()
    measured_bg = data.schema.measured_bg
    has_bg = None if measured_bg is None else measured_bg[groups]
    blocks = [block_bt[groups].numpy() for block_bt in program.families.term_blocks]
    blocks = [block_bt[:, block_bt.any(0)].astype(float) for block_bt in blocks]
    centred = torch.from_numpy(two_way_offsets(totals, blocks, has_bg)).to(offset)
    level_g = offset[groups].mean(0)
    if has_bg is not None:
        weight_bg = torch.from_numpy(has_bg).to(offset)
        level_g = (weight_bg * offset[groups]).sum(0) / weight_bg.sum(0).clamp(min=1)
    changed = offset.detach().clone()
    changed[groups] = level_g + centred
    decoder.set_group_offsets(changed)
    return True


def two_way_offsets(
    totals_bcg: np.ndarray,
    blocks: Sequence[np.ndarray] | None = None,
    measured_bg: np.ndarray | None = None,
) -> np.ndarray:
    r"""Return each group's log effect on each gene, beside one effect per cluster and gene.

    The fit by alternating maximum likelihood of

    .. math:: X_{bcg} \sim \mathrm{Poisson}(s_{bc} \exp(a_{cg} + o_{bg}))

    with one size s per group and cluster. A cluster of one group only says nothing about o. Where
    several columns make up the groups, o is the sum of their levels' effects.

    Parameters
    ----------
    totals_bcg
        Counts by group, cluster and gene; zeros where a group has no cell.
    blocks
        Which terms add up to the effect of each group, groups x terms, one block after the other
        (:attr:`Latents.term_blocks <pyro_mgvi.Latents.term_blocks>`); each group's own by default.
    measured_bg
        Which group has which gene, if not all: the fit is of these entries, and the others' effects
        are 0.

    Returns
    -------
    o, (groups, genes), with mean zero over the groups that have a gene, shrunk towards zero by two
    counts.

    Examples
    --------
    >>> shares_cg = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    >>> sizes_bc = np.array([[9e5, 1e5], [2e5, 0.0]])
    >>> two_way_offsets(sizes_bc[:, :, None] * shares_cg).round(3) + 0.0
    array([[0., 0., 0.],
           [0., 0., 0.]])
    """
    totals_bc1 = size_bc1 = totals_bcg.sum(2, keepdims=True)
    totals_bg = totals_bcg.sum(1)
    has_bg = np.ones(totals_bg.shape) if measured_bg is None else measured_bg.astype(float)
    blocks = [np.eye(len(totals_bcg))] if blocks is None else blocks
    parts = [np.zeros_like(totals_bg) for _ in blocks]  # of the offset: what each block adds
    for _ in range(ROUNDS):
        for i, block_bt in enumerate(blocks):
            rest_bg = sum(parts, -parts[i])
            scale_bg = has_bg * np.exp(rest_bg + parts[i])
            expected_cg = (size_bc1 * scale_bg[:, None]).sum(0)
            share_cg = totals_bcg.sum(0) / np.maximum(expected_cg, 1e-9)
            expected_bg = has_bg * ((size_bc1 * share_cg).sum(1) * np.exp(rest_bg))
            seen_tg, expected_tg = block_bt.T @ totals_bg, block_bt.T @ expected_bg
            term_tg = np.log((seen_tg + PSEUDOCOUNT) / (expected_tg + PSEUDOCOUNT))
            parts[i] = has_bg * (block_bt @ term_tg)
            parts[i] -= has_bg * (parts[i].sum(0) / np.maximum(has_bg.sum(0), 1))
            scale_bg = has_bg * np.exp(rest_bg + parts[i])
            sums_bc1 = (share_cg * scale_bg[:, None]).sum(2, keepdims=True)
            size_bc1 = totals_bc1 / np.maximum(sums_bc1, 1e-9)
    offset_bg: np.ndarray = sum(parts[1:], parts[0])
    return offset_bg
