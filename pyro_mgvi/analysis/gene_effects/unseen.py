"""Whether genes follow a dimension in cells that no refit has seen, hidden from the encoder."""

from __future__ import annotations

import numpy as np
import torch

from pyro_mgvi.analysis.cross_fit import CrossFit
from pyro_mgvi.analysis.efficient_scores import (
    THIRD_QUARTILE,
    cells_needed,
    efficient_scores,
    mean_and_slope,
)
from pyro_mgvi.analysis.expression import has_genes
from pyro_mgvi.analysis.gene_effects.effects import Effects
from pyro_mgvi.analysis.hidden.contrasts import (
    hidden_genes,
    nuisance,
    nuisance_width,
    observed_size,
    said,
)
from pyro_mgvi.core.copies import Copy
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.model.decoding import Decoding
from pyro_mgvi.support.progress import progress_bar
from pyro_mgvi.training.program import Program

AGAIN = 0.25  # of a dimension's variance, for a refit to have found it again


def unseen_scores(
    refits: CrossFit,
    data: GroupedCounts,
    own: np.ndarray,
    found: Effects,
    progress: bool = False,
) -> np.ndarray:
    r"""Return a normal score of each gene along each dimension in use, (d, genes).

    In the cells that a model was trained on, a dimension follows the noise of its genes. So each
    fold's cells are placed along the dimension by the refit that has not seen them, nine tenths of
    the genes at a time, and a gene is only tested along a place that it was hidden from. A refit's
    dimensions are its own: the regression of the model's dimension on those of the refit's copy,
    over the cells that the refit has seen, says where each cell lies, and the refit has found the
    dimension again if it explains a quarter of its variance. The score is that of the gene's
    counts along these places :math:`s_n`,

    .. math:: Z_g = \sum_n \tilde s_n \tilde r_{ng} \Big/
              \sqrt{\textstyle\sum_n (\tilde s_n \tilde r_{ng})^2}

    with the quasi-score residual r of the refit's mean without the copy. Tildes are residuals of
    regressions on the log library, the shared latents, their squares, and the other dimensions of
    the copy. The scores of the folds whose refit has found the dimension again are added (the
    tested cells have no say in that), then centred and scaled by their bulk where that makes them
    smaller (Efron 2004), so that what touches most genes, such as the depth of a cell, does not
    count. As for :meth:`CrossFit.z_scores <pyro_mgvi.CrossFit.z_scores>`, cells are independent
    given the shared latents, and most genes are not affected.

    Parameters
    ----------
    refits
        Of the cells of ``data``.
    data
        The cells.
    own
        Positions of those that own the copy.
    found
        Of the model, on these.
    progress
        Show a progress bar for each fold, if it takes seconds.

    Returns
    -------
    NaN where too few cells have a gene, 0 where no refit has found the dimension.
    """
    total_dg, n_d = np.zeros(found.effect_dg.shape), np.zeros(len(found.dims))
    for fold, refit in enumerate(refits.refits):
        unseen_n = refits.fold_n[own] == fold
        n_columns = nuisance_width(refit) + len(found.dims) - 1
        if unseen_n.sum() < cells_needed(n_columns):
            return np.full(total_dg.shape, np.nan)
        seen_nk, mean_nd = _places(refit, data.subset(own[~unseen_n]), found.copy), found.mean_nd
        map_kd, *_ = np.linalg.lstsq(seen_nk, mean_nd[~unseen_n], rcond=None)
        again_d = (seen_nk @ map_kd).var(0) > AGAIN * mean_nd[~unseen_n].var(0)
        if again_d.any():
            unseen = data.subset(own[unseen_n])
            bar = f"{found.copy.key}, {said(fold, len(refits.refits))}" if progress else None
            z_dg = _fold_scores(refit, unseen, found.copy, map_kd * again_d, refits.seed, bar)
            total_dg, n_d = total_dg + z_dg, n_d + again_d
    return np.array([shrunk(z_g) for z_g in total_dg / np.sqrt(np.maximum(n_d, 1))[:, None]])


def shrunk(z_g: np.ndarray) -> np.ndarray:
    """Centre and scale scores by their bulk, never away from zero; NaN stays NaN.

    Examples
    --------
    >>> shrunk(np.array([-3.0, 0.5, 0.5, 0.5, 4.5])).tolist()  # the bulk is at 0.5
    [-3.0, 0.0, 0.0, 0.0, 4.0]
    """
    found_g, known_g = z_g.copy(), ~np.isnan(z_g)
    if known_g.any():
        z = z_g[known_g]
        centred = z - np.median(z)
        spread = float(np.median(np.abs(centred))) / THIRD_QUARTILE
        smaller = np.where(np.abs(centred) < np.abs(z), centred, z)
        found_g[known_g] = np.where(centred * z > 0, smaller, 0.0) / max(1.0, spread)
    return found_g


def _columns(mean_nk: torch.Tensor) -> torch.Tensor:
    """Return a copy's posterior means beside a column of ones."""
    return torch.cat([torch.ones_like(mean_nk[:, :1]), mean_nk], -1)


def _places(refit: Program, data: GroupedCounts, copy: Copy) -> np.ndarray:
    """Return where cells are along a refit's copy, with a column of ones."""
    found = [
        _columns(posterior.mean(copy.latent)[copy.index]).cpu().double().numpy()
        for _, posterior in refit.posteriors(data, keep_sparse=True)
    ]
    return np.concatenate(found)


@torch.no_grad()
def _fold_scores(
    refit: Program,
    data: GroupedCounts,
    copy: Copy,
    map_kd: np.ndarray,
    seed: int,
    progress: str | None = None,
) -> np.ndarray:
    """Return the scores (d, genes) on cells that own the copy and that ``refit`` has not seen."""
    (n, n_genes), n_dims, model = data.shape, map_kd.shape[1], refit.model
    kept = frozenset(other.key for other in refit.families.copies) - {copy.key}
    without, z_dg = Decoding(kept, averaged=False), np.zeros((n_dims, n_genes))
    with progress_bar(n_genes, progress, "gene") as bar:
        for hidden, genes in hidden_genes(n_genes, n, seed):
            seen_g = torch.ones(n_genes, device=refit.device, dtype=torch.float32)
            seen_g[hidden] = 0.0
            residual_ng, weight_ng = (np.empty((n, len(genes)), np.float32) for _ in range(2))
            nuisance_nk, place_nd = np.empty((n, nuisance_width(refit))), np.empty((n, n_dims))
            for cells, full in refit.posteriors(data):
                log_size = observed_size(full)
                nuisance_nk[cells] = nuisance(full, log_size).cpu().numpy()
                posterior = refit.posterior(full.batch, seen_g)
                hidden_nk = _columns(posterior.mean(copy.latent)[copy.index])
                place_nd[cells] = hidden_nk.cpu().double().numpy() @ map_kd
                parts = without.parts(posterior, posterior.means())
                counts = model.distribution(parts, log_size, full.batch.group)
                mean, slope = mean_and_slope(counts, has_genes(model, full.batch))
                residual = (full.batch.counts - mean) * slope
                residual_ng[cells] = residual.cpu().numpy()[:, genes]
                weight_ng[cells] = (mean * slope).cpu().numpy()[:, genes]
            for dim in range(n_dims):
                others = np.column_stack([nuisance_nk, np.delete(place_nd, dim, axis=1)])
                place_ng = np.broadcast_to(place_nd[:, dim, None], residual_ng.shape)
                of_part = place_ng, residual_ng, weight_ng, others
                z_dg[dim, genes] = efficient_scores(*of_part)
            bar.update(len(genes))
    return z_dg
