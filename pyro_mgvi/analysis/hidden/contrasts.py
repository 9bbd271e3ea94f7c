"""Predictions of a refit for cells that it has not seen, a tenth of the genes hidden from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from pyro_mgvi.analysis.efficient_scores import mean_and_slope
from pyro_mgvi.analysis.expression import has_genes
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.likelihoods.measured import known_sizes
from pyro_mgvi.model import Posterior
from pyro_mgvi.model.decoding import Decoding
from pyro_mgvi.support.progress import progress_bar
from pyro_mgvi.training.program import Program

GENE_FOLDS = 10  # each predicted from the counts of the others
TABLE = 1 << 26  # cells x genes of each of three tables, at most: 0.8 GB


class Contrast(NamedTuple):
    """What :func:`~pyro_mgvi.analysis.efficient_scores.efficient_scores` takes, of some genes.

    All but the nuisance are zero where a cell has not got a gene.
    """

    delta_ng: np.ndarray
    residual_ng: np.ndarray
    weight_ng: np.ndarray
    nuisance_nk: np.ndarray


@torch.no_grad()
def unseen_contrasts(
    mgvi: Program,
    data: GroupedCounts,
    own_n: np.ndarray,
    without: Decoding,
    seed: int,
    progress: str | None = None,
) -> Iterator[tuple[np.ndarray, Contrast]]:
    """Yield genes, and predictions and residuals of cells that ``mgvi`` has not seen.

    A tenth of the genes, predicted from the others, or fewer at a time: no more is in memory.

    Parameters
    ----------
    mgvi, data
        A refit, and cells that it has not seen.
    own_n
        Which of them are of the group.
    without
        What the prediction is compared with.
    seed
        Of the split of the genes.
    progress
        What a progress bar should be called; none without.
    """
    n, n_genes = data.shape
    everything, model = Decoding.everything(mgvi.families), mgvi.model
    nuisance_nk = np.concatenate(
        [nuisance(x, observed_size(x)).cpu().numpy() for _, x in mgvi.posteriors(data)]
    ).astype(float)
    with progress_bar(n_genes, progress, "gene") as bar:
        for hidden, genes in hidden_genes(n_genes, n, seed):
            tables = (np.empty((n, len(genes)), np.float32) for _ in range(3))
            delta_ng, residual_ng, weight_ng = tables
            for cells, batch in mgvi.batches(data):
                seen_g = batch.counts.new_ones(n_genes)
                seen_g[hidden] = 0.0
                posterior = mgvi.posterior(batch, seen_g)
                batch, log_size = posterior.batch, observed_size(posterior)
                has_ng = has_genes(model, batch)
                with_all, with_less = (
                    model.distribution(
                        decoding.parts(posterior, posterior.means()), log_size, batch.group
                    )
                    for decoding in (everything, without)
                )
                mean, slope = mean_and_slope(with_less, has_ng)
                own_n1 = torch.from_numpy(own_n[cells, None]).to(mgvi.device)
                delta = (with_all.mean / mean).log() * own_n1
                if has_ng is not None:
                    delta = delta.where(has_ng, 0.0)
                delta_ng[cells] = delta.cpu().numpy()[:, genes]
                residual_ng[cells] = ((batch.counts - mean) * slope).cpu().numpy()[:, genes]
                weight_ng[cells] = (mean * slope).cpu().numpy()[:, genes]
            yield genes, Contrast(delta_ng, residual_ng, weight_ng, nuisance_nk)
            bar.update(len(genes))


def hidden_genes(n_genes: int, n_cells: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions of the genes to hide from the encoder, and of those of them to look at.

    All at once, or where cells are many some after the others, so that tables of the cells by
    these genes are bounded; what is hidden, and so every result, stays the same.

    Examples
    --------
    >>> [len(genes) for _, genes in hidden_genes(100, n_cells=1000, seed=0)]
    [10, 10, 10, 10, 10, 10, 10, 10, 10, 10]
    >>> [len(genes) for _, genes in hidden_genes(20, n_cells=TABLE, seed=0)][:4]
    [1, 1, 1, 1]
    """
    for part in gene_parts(n_genes, seed):
        for genes in np.array_split(part, max(1, -(-n_cells * len(part) // TABLE))):
            if len(genes):
                yield part, genes


def said(fold: int, folds: int) -> str:
    """Return what the progress bar of a fold is called.

    Examples
    --------
    >>> said(0, 2)
    'testing genes, fold 1 of 2'
    """
    return f"testing genes, fold {fold + 1} of {folds}"


def gene_parts(n_genes: int, seed: int) -> list[np.ndarray]:
    """Return positions of the genes in parts, each to be hidden from the encoder at once."""
    return np.array_split(np.random.default_rng(seed).permutation(n_genes), GENE_FOLDS)


def observed_size(posterior: Posterior) -> torch.Tensor:
    """Return the log of the observed total of each cell, (n,), or (n, modalities).

    Raises
    ------
    SettingsError
        If the likelihood is not one of counts.
    """
    log_size: torch.Tensor | None = posterior.model.observed_log_library(posterior.batch.counts)
    if log_size is None:
        raise SettingsError("scores of genes need a likelihood of counts, such as ZINB or NB")
    return log_size


def nuisance(posterior: Posterior, log_size: torch.Tensor) -> torch.Tensor:
    """Return what scores are freed from, (n, k): 1, the log size, shared latents, their squares."""
    z_nk = posterior.shared_means()
    size_nk = known_sizes(log_size)
    return torch.cat([torch.ones_like(size_nk[:, :1]), size_nk, z_nk, z_nk**2], -1)


def nuisance_width(program: Program) -> int:
    """Return how many columns :func:`nuisance` has."""
    n_sizes = 1 if program.model.modalities is None else len(program.model.modalities)
    return 1 + n_sizes + 2 * sum(x.n_copies * x.dim for x in program.families.shared)
