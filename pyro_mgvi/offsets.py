"""Offsets of groups that do not depend on which kinds of cells a group is made of."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.relevance import EVALUATION_SIZE
from pyro_mgvi.start import PSEUDOCOUNT

CLUSTERS = 10  # of the shared latents
CELLS = 4000  # of each group, at most
ROUNDS = 100  # of the alternating fit


@torch.no_grad()
def recentre_offsets(model, guide, data: GroupedCounts, seed: int = 0) -> bool:
    """Set the decoder's offsets to differences between groups within clusters of shared latents.

    Offsets start at the groups' means. Where a type lives in one group only, that group's offset
    then holds part of the type, and the shared latents of its other cells are shifted by as much.
    Once the latents tell types apart, differences within clusters are free of that.

    Parameters
    ----------
    model, guide
        Partly trained :class:`~pyro_mgvi.model.Model` and :class:`~pyro_mgvi.guide.Guide`, in
        evaluation mode.
    data
        Counts of several groups; at most 4000 cells of each are used.
    seed
        Of the sample and the clusters.

    Returns
    -------
    Whether there was something to do: not without offsets, shared latents, counts, or groups to
    compare.
    """
    offset = getattr(model.decoder, "offset", None)
    shared = [latent.name for latent in model.latents if latent.covers(model.groups)]
    groups = np.unique(data.group_n)
    if offset is None or not shared or not guide.counts_only or len(groups) < 2:
        return False
    rng = np.random.default_rng(seed)
    sample = (rng.permutation(np.flatnonzero(data.group_n == b))[:CELLS] for b in groups)
    part = data.subset(np.sort(np.concatenate([*sample])))
    latents_nk = []
    for batch in part.minibatches(EVALUATION_SIZE, shuffle=False):
        batch = batch.to(guide.depth.device)
        posteriors = guide.posteriors(batch.counts, batch.covariates)
        latents_nk.append(torch.cat([posteriors[name][0] for name in shared], -1).cpu())
    clusters = KMeans(min(CLUSTERS, len(part)), n_init=3, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer clusters are as good
        cluster_n = clusters.fit_predict(torch.cat(latents_nk).numpy())
    totals = np.zeros((len(groups), CLUSTERS, data.x.shape[1]))
    for b, group in enumerate(groups):
        for cluster in range(CLUSTERS):
            cells = np.flatnonzero((part.group_n == group) & (cluster_n == cluster))
            totals[b, cluster] = np.asarray(part.x[cells].sum(0)).ravel()
    centred = torch.from_numpy(two_way_offsets(totals)).to(offset)
    offset[groups] = offset[groups].mean(0) + centred
    return True


def two_way_offsets(totals_bcg: np.ndarray) -> np.ndarray:
    r"""Return each group's log effect on each gene, beside one effect per cluster and gene.

    The fit by alternating maximum likelihood of

    .. math:: X_{bcg} \sim \mathrm{Poisson}(s_{bc} \exp(a_{cg} + o_{bg}))

    with one size s per group and cluster. A cluster of one group only says nothing about o.

    Parameters
    ----------
    totals_bcg
        Counts by group, cluster and gene; zeros where a group has no cell.

    Returns
    -------
    o, (groups, genes), with mean zero over groups, shrunk towards zero by two counts.

    Examples
    --------
    >>> shares_cg = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    >>> sizes_bc = np.array([[9e5, 1e5], [2e5, 0.0]])
    >>> two_way_offsets(sizes_bc[:, :, None] * shares_cg).round(3) + 0.0
    array([[0., 0., 0.],
           [0., 0., 0.]])
    """
    totals_bc1 = size_bc1 = totals_bcg.sum(2, keepdims=True)
    offset_bg = np.zeros((len(totals_bcg), totals_bcg.shape[2]))
    for _ in range(ROUNDS):
        expected_cg = (size_bc1 * np.exp(offset_bg)[:, None]).sum(0)
        share_cg = totals_bcg.sum(0) / np.maximum(expected_cg, 1e-9)
        expected_bg = (size_bc1 * share_cg).sum(1)
        offset_bg = np.log((totals_bcg.sum(1) + PSEUDOCOUNT) / (expected_bg + PSEUDOCOUNT))
        offset_bg -= offset_bg.mean(0)
        sums_bc1 = (share_cg * np.exp(offset_bg)[:, None]).sum(2, keepdims=True)
        size_bc1 = totals_bc1 / np.maximum(sums_bc1, 1e-9)
    return offset_bg
