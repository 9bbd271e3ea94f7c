"""Error rates for gene rankings: predictions tested on cells and genes they have not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import false_discovery_control, norm
from threadpoolctl import threadpool_limits

from pyro_mgvi.contrast import Contrast
from pyro_mgvi.errors import DataError
from pyro_mgvi.training import TrainingPlan

FOLDS = 2
GENE_FOLDS = 10  # each predicted from the counts of the others
LEAST_CELLS = 30  # of the group in each fold; fewer give no normal statistic
CELLS_PER_NUISANCE = 3  # a regression on the shared latents needs some cells per column


@dataclass(frozen=True)
class CrossFit:
    """Refits of one model, each with the cells it has not seen; made by :func:`cross_fit`.

    Attributes
    ----------
    refits
        Models, trained on the cells of all folds but one.
    fold_n
        Fold of each cell of the data.
    seed
        Of the split of the genes.
    """

    refits: tuple
    fold_n: np.ndarray
    seed: int

    def z_scores(self, data, group: str, contrast: Contrast, cells: np.ndarray) -> np.ndarray:
        r"""Return each gene's normal score, or NaN for all where there are too few cells.

        In-sample Bayes factors are no evidence by themselves: a flexible model explains noise, too
        (benchmarks/RESULTS_genes.md). So for each fold, the refit that has not seen its cells
        predicts the contrast :math:`\delta_{ng}`, the log ratio of gene g's mean with all latents
        to that without the latents left out. For this it encodes each cell from *other genes*, nine
        tenths of them: a gene's own noise cannot predict itself. The statistic is the score of a
        gene's counts along the prediction, one-dimensional and signed,

        .. math:: U_g = \sum_n \tilde\delta_{ng} \tilde r_{ng}, \quad
                  Z_g = U_g / \sqrt{\textstyle\sum_n (\tilde\delta_{ng} \tilde r_{ng})^2}

        with the quasi-score residual r of the mean without the latents. The tildes are residuals of
        regressions on the log library, the shared latents and their squares, so that shared
        variation which leaked into the prediction does not count. An averaged offset is tested
        against the other groups' cells, for which the prediction is 0. Folds are added as normal
        scores. Z is then centred and scaled by its bulk (Efron 2004), where this makes it smaller.

        Assumptions: cells are independent given the shared latents (with several donors per
        group, q-values speak of these cells, not of new donors); what is shared acts on the
        residuals through the shared latents and their squares; most genes are not affected.

        Parameters
        ----------
        data
            The counts that were cross-fitted.
        group, contrast
            What to test.
        cells
            Positions of the cells to use.

        Raises
        ------
        DataError
            If ``data`` are not those of the refits.
        """
        if len(data) != len(self.fold_n):
            raise DataError(
                f"the refits are of {len(self.fold_n)} cells, the data have {len(data)}: "
                "pass the cells that were cross-fitted"
            )
        code = data.schema.groups.index(group)
        scores = []
        for fold, refit in enumerate(self.refits):
            tested = cells[self.fold_n[cells] == fold]
            own = data.group_n[tested] == code
            if not contrast.averaged:
                tested, own = tested[own], own[own]
            n_columns = 2 + 2 * _shared_width(refit.model)
            few = own.sum() < LEAST_CELLS or len(tested) < CELLS_PER_NUISANCE * n_columns
            if few or (contrast.averaged and (~own).sum() < LEAST_CELLS):
                return np.full(data.x.shape[1], np.nan)
            scores.append(_scores(refit, data.subset(tested), own, contrast, self.seed))
        return recentred(np.sum(scores, axis=0) / np.sqrt(len(scores)))


def q_values(z_g: np.ndarray) -> np.ndarray:
    """Return q-values (Benjamini & Hochberg) of normal scores of two folds; NaN stays NaN.

    The folds' signs are dependent (the direction learned in one is that of the data of the
    other), hence the doubled one-sided p-value.
    """
    if np.isnan(z_g).any():
        return np.full(len(z_g), np.nan)
    return false_discovery_control(np.minimum(1.0, 2 * norm.sf(z_g)))


def cross_fit(mgvi, adata, progress: bool = False, **plan) -> CrossFit:
    """Refit a model of the same settings on each half of the cells.

    Minibatches are halved, so that a refit takes as many steps as the model did.

    Parameters
    ----------
    mgvi
        The model whose settings to use; it stays as it is.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`).
    progress, **plan
        As for :meth:`MGVI.fit <pyro_mgvi.MGVI.fit>`.

    Raises
    ------
    DataError
        If a group or batch is too small to be split.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> refits = cross_fit(MGVI.from_anndata(adata, group_key="group"), adata, max_epochs=1)
    >>> len(refits.refits), np.bincount(refits.fold_n)
    (2, array([60, 60]))
    """
    data = mgvi.read(adata)
    rng = np.random.default_rng(mgvi.seed)
    fold_n = np.empty(len(data), int)
    for codes_n, names in ((data.group_n, data.schema.groups), (data.batch_n, data.schema.batches)):
        small = [
            x for x, size in zip(names, np.bincount(codes_n, minlength=len(names))) if size < 4
        ]
        if small:
            raise DataError(
                f"{', '.join(small)}: fewer than 4 cells, too few to refit on halves; leave them "
                "out, or ask for no q-value (calibration=False)"
            )
    order = rng.permutation(len(data))
    order = order[np.lexsort((data.group_n[order], data.batch_n[order]))]
    fold_n[order] = np.arange(len(data)) % FOLDS  # groups within batches are dealt out in turn
    size = plan.get("batch_size", TrainingPlan.batch_size)
    refits = []
    for fold in range(FOLDS):
        training = data.subset(np.flatnonzero(fold_n != fold))
        refit = mgvi.untrained(training, seed=mgvi.seed + fold)
        refit.fit(training, progress=progress, **(plan | {"batch_size": max(2, size // FOLDS)}))
        refits.append(refit)
    return CrossFit(tuple(refits), fold_n, mgvi.seed)


def recentred(z_g: np.ndarray) -> np.ndarray:
    """Centre and scale scores by their bulk, never in favour of a discovery (Efron 2004).

    The scale is that of the lower half, which effects in the predicted direction do not reach.
    """
    centre = max(0.0, np.median(z_g))
    below = np.median(z_g) - z_g[z_g <= np.median(z_g)]
    return (z_g - centre) / max(1.0, np.median(below) / norm.ppf(0.75))


@torch.no_grad()
def _scores(mgvi, data, own_n: np.ndarray, contrast: Contrast, seed: int) -> np.ndarray:
    """Return the normal score of each gene on cells that ``mgvi`` was not trained on."""
    n, n_genes = data.x.shape
    delta_ng, residual_ng, weight_ng = (np.empty((n, n_genes), np.float32) for _ in range(3))
    nuisance_nk = np.empty((n, 2 + 2 * _shared_width(mgvi.model)))
    parts_g = np.array_split(np.random.default_rng(seed).permutation(n_genes), GENE_FOLDS)
    for cells, batch in mgvi._batches(data):
        log_size = batch.counts.sum(-1).log()
        full = mgvi.guide.posteriors(batch.counts, batch.covariates)
        z_nk = torch.cat(
            [full[x.name][0].movedim(-2, 0).reshape(len(cells), -1) for x in _shared(mgvi.model)]
            or [batch.counts[:, :0]],
            -1,
        )
        ones = torch.ones(len(cells), 1)
        nuisance_nk[cells] = torch.cat([ones, log_size[:, None], z_nk, z_nk**2], -1).numpy()
        for part in parts_g:
            seen_g = torch.ones(n_genes)
            seen_g[part] = 0.0
            posteriors = mgvi.guide.posteriors(batch.counts, batch.covariates, seen_g)
            with_all, without = (
                mgvi.model.likelihood(parts, log_size)
                for parts in contrast.decode(mgvi.model, posteriors, batch)
            )
            mean, slope = without.mean, without.mean / without.variance
            at = np.ix_(cells, part)
            delta = (with_all.mean / mean).log() * torch.from_numpy(own_n[cells, None])
            delta_ng[at] = delta.numpy()[:, part]
            residual_ng[at] = ((batch.counts - mean) * slope).numpy()[:, part]
            weight_ng[at] = (mean * slope).numpy()[:, part]
    return efficient_scores(delta_ng, residual_ng, weight_ng, nuisance_nk)


def efficient_scores(delta_ng, residual_ng, weight_ng, nuisance_nk) -> np.ndarray:
    """Return the self-normalised score along ``delta`` of each gene, free of the nuisance.

    Parameters
    ----------
    delta_ng
        Predicted change of each log mean.
    residual_ng, weight_ng
        Quasi-score of each log mean, (x - m) m / v, and its information, m^2 / v.
    nuisance_nk
        What both are regressed on, with those weights.

    Returns
    -------
    One score per gene, standard normal if nothing changes; 0 without information.
    """
    with threadpool_limits(1):  # thousands of small products: threads only wait for each other
        return _efficient_scores(delta_ng, residual_ng, weight_ng, nuisance_nk)


def _efficient_scores(delta_ng, residual_ng, weight_ng, nuisance_nk) -> np.ndarray:
    z_g = np.zeros(delta_ng.shape[1])
    for gene in range(len(z_g)):
        weight = np.maximum(weight_ng[:, gene].astype(float), 1e-12)
        root = np.sqrt(weight)
        # Rescaled by the root of the weights, both regressions are plain least squares.
        basis = np.linalg.qr(root[:, None] * nuisance_nk)[0]
        both = np.column_stack([root * delta_ng[:, gene], residual_ng[:, gene] / root])
        delta, residual = (both - basis @ (basis.T @ both)).T
        product = delta * residual
        norm_ = np.sqrt((product**2).sum())
        z_g[gene] = product.sum() / norm_ if norm_ > 0 else 0.0
    return z_g


def _shared(model) -> list:
    return [latent for latent in model.latents if latent.covers(model.groups)]


def _shared_width(model) -> int:
    return sum(latent.n_subsets * latent.dim for latent in _shared(model))
