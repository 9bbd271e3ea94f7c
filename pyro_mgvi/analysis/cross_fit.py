"""Error rates for gene rankings: predictions tested on cells and genes they have not seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from anndata import AnnData

from pyro_mgvi.analysis.efficient_scores import (
    LEAST_CELLS,
    cells_needed,
    efficient_scores,
    q_values,
    recentred,
)
from pyro_mgvi.analysis.folds import dealt_out, shuffled_groups
from pyro_mgvi.analysis.hidden.contrasts import nuisance_width, said, unseen_contrasts
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.cells.marks import differing, marks, reordered
from pyro_mgvi.data.masks.notes import measured_in
from pyro_mgvi.data.names import named_groups
from pyro_mgvi.errors import DataError
from pyro_mgvi.model.decoding import Decoding
from pyro_mgvi.support.values import whole_number
from pyro_mgvi.training import TrainingPlan, train
from pyro_mgvi.training.plan import chosen_plan
from pyro_mgvi.training.program import Program, check_model

__all__ = ["CrossFit", "cross_fit", "q_values", "shuffled_fit", "shuffled_groups"]

AnyProgram = TypeVar("AnyProgram", bound=Program)

FOLDS = 2


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
    marks_nk
        What tells the cells apart (:func:`~pyro_mgvi.data.cells.marks.marks`); without, their
        number must do.
    """

    refits: tuple[Program, ...]
    fold_n: np.ndarray
    seed: int
    marks_nk: np.ndarray | None = None

    def check(self, data: GroupedCounts, mgvi: Program | None = None) -> None:
        """Refuse data, or a model, that the refits are not of.

        Raises
        ------
        DataError
            If there are more or fewer cells, others, or the same in another order or with other
            labels; or other genes, groups or latents.
        """
        if len(data) != len(self.fold_n):
            raise DataError(
                f"the refits are of {len(self.fold_n)} cells, the data have {len(data)}: "
                "pass the cells that were cross-fitted"
            )
        ours, theirs = data.schema, self.refits[0].schema
        others = [name for name in ("genes", "groups") if vars(ours)[name] != vars(theirs)[name]]
        if mgvi is not None and _sizes(mgvi) != _sizes(self.refits[0]):
            others.append("latents")
        if others:
            raise DataError(
                f"the refits are of another model, with other {' and '.join(others)}: "
                "cross_fit(mgvi, adata) makes those of this one"
            )
        if self.marks_nk is None:
            return
        marks_nk = marks(data)
        if differ := differing(self.marks_nk, marks_nk):
            same = "counts" in differ and reordered(self.marks_nk, marks_nk)
            what = "the same cells in another order" if same else f"other {', '.join(differ)}"
            raise DataError(
                f"the refits are of as many cells, but the data have {what}: pass the cells that "
                "were cross-fitted, as they were"
            )

    def z_scores(
        self,
        data: GroupedCounts,
        group: str,
        without: Decoding,
        cells: np.ndarray,
        progress: bool = False,
    ) -> np.ndarray:
        r"""Return each gene's normal score, or NaN where too few cells have it.

        In-sample Bayes factors are no evidence by themselves: a flexible model explains noise, too
        (benchmarks/notes/RESULTS_genes.md). So for each fold, the refit that has not seen its cells
        predicts the contrast :math:`\delta_{ng}`, the log ratio of gene g's mean with all latents
        to that without the latents left out. For this it encodes each cell from *other genes*, nine
        tenths of them and their total: a gene's own noise cannot predict itself. The statistic is
        the score of a gene's counts along the prediction, one-dimensional and signed,

        .. math:: U_g = \sum_n \tilde\delta_{ng} \tilde r_{ng}, \quad
                  Z_g = U_g / \sqrt{\textstyle\sum_n (\tilde\delta_{ng} \tilde r_{ng})^2}

        with the quasi-score residual r of the mean without the latents. The tildes are residuals of
        regressions on the log library, the shared latents and their squares, so that shared
        variation which leaked into the prediction does not count. An averaged offset is tested
        against the other groups' cells, for which the prediction is 0. Folds are added as normal
        scores. A cell without a count of a modality has not got its genes, and has no say in them.
        Z is then centred and scaled by its bulk (Efron 2004), where this makes it smaller.

        Assumptions: cells are independent given the shared latents (with several donors per
        group, q-values speak of these cells, not of new donors: for those, see
        :func:`~pyro_mgvi.analysis.new_samples.new_sample_scores`); what is shared acts on the
        residuals through the shared latents and their squares; most genes are not affected.

        Parameters
        ----------
        data
            The counts that were cross-fitted.
        group
            Whose variation to test.
        without
            What the prediction is compared with (:meth:`Decoding.leaving_out`).
        cells
            Positions of the cells to use.
        progress
            Show a progress bar for each fold, if it takes seconds.

        Raises
        ------
        DataError
            If ``data`` are not those of the refits.
        """
        self.check(data)
        named = named_groups(self.refits[0].families, group)
        scores = []
        for fold, refit in enumerate(self.refits):
            tested = cells[self.fold_n[cells] == fold]
            own = named.own(data.group_n[tested])
            if not without.averaged:
                tested, own = tested[own], own[own]
            few = own.sum() < LEAST_CELLS or len(tested) < cells_needed(nuisance_width(refit))
            if few or (without.averaged and (~own).sum() < LEAST_CELLS):
                return np.full(data.shape[1], np.nan)
            unseen = data.subset(tested)
            of_fold_g = np.empty(data.shape[1])
            bar = said(fold, len(self.refits)) if progress else None
            for part, found in unseen_contrasts(refit, unseen, own, without, self.seed, bar):
                own_g = (found.weight_ng[own] > 0).sum(0)  # how many of the group have the gene
                z_part = efficient_scores(*found)
                of_fold_g[part] = np.where(own_g < LEAST_CELLS, np.nan, z_part)
            scores.append(of_fold_g)
        z_g = np.sum(scores, axis=0) / np.sqrt(len(scores))
        groups = tuple(data.schema.groups[code] for code in named.codes)
        known_g = measured_in(data.schema, groups) & ~np.isnan(z_g)
        z_g[~known_g] = np.nan
        if known_g.any():
            z_g[known_g] = recentred(z_g[known_g])
        return z_g


def cross_fit(
    mgvi: AnyProgram,
    adata: AnnData | GroupedCounts,
    plan: TrainingPlan | None = None,
    max_epochs: int | None = None,
    progress: bool = True,
    folds: int = FOLDS,
    split: int = 0,
) -> CrossFit:
    """Refit a model of the same settings on all cells but those of one fold, for each fold.

    By default on each half of the cells; of a model that knows samples (``sample_key``), on each
    half of the samples, held out whole, unless a group has fewer of them than folds. Minibatches
    are smaller by the same share, so that a refit takes as many steps as the model did.

    Parameters
    ----------
    mgvi
        The model whose settings to use; it stays as it is.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`).
    plan
        How to train; by default as the model was.
    max_epochs
        Instead of that of the plan.
    progress
        Show progress bars.
    folds
        How many refits: with more, each has seen more of the cells, and finds again what halves
        are too small for (:func:`~pyro_mgvi.programs`). The error rates of
        :func:`~pyro_mgvi.rank_genes` were measured with two.
    split
        Which of the ways to split the cells, and which seeds of the refits: 0, 1, ... give several
        opinions, over which :func:`~pyro_mgvi.rank_genes` averages.

    Raises
    ------
    DataError
        If a group or batch is too small to be split, or a batch is in samples of one fold only.
    SettingsError
        If ``folds`` is no whole number of at least 2, or ``split`` none of at least 0.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> refits = cross_fit(MGVI.from_anndata(adata, group_key="group"), adata, max_epochs=1)
    >>> len(refits.refits), np.bincount(refits.fold_n)
    (2, array([60, 60]))
    """
    check_model(mgvi)
    folds = whole_number("folds", folds, least=2)
    seed = mgvi.seed + folds * whole_number("split", split, least=0)
    data = mgvi.read(adata)
    fold_n = dealt_out(data, folds, seed)
    used = chosen_plan(plan, max_epochs, mgvi.plan)
    batch_size = max(2, used.batch_size * (folds - 1) // folds)
    used = replace(used, batch_size=batch_size, seed=None)  # a refit's own
    refits = []
    for fold in range(folds):
        training = data.subset(np.flatnonzero(fold_n != fold))
        refit = mgvi.fresh(training, seed=seed + fold)
        refit.history = train(refit, training, used, progress=progress)
        refit.plan = used
        refits.append(refit)
    return CrossFit(tuple(refits), fold_n, seed, marks(data))


def _sizes(mgvi: Program) -> list[tuple[object, ...]]:
    return [(latent.name, latent.subsets, latent.dim) for latent in mgvi.families]


def shuffled_fit(
    mgvi: Program,
    adata: AnnData | GroupedCounts,
    plan: TrainingPlan | None = None,
    max_epochs: int | None = None,
    progress: bool = True,
) -> CrossFit:
    """Refit on halves of the cells with groups shuffled: the null of :func:`~pyro_mgvi.diagnose`.

    Parameters are those of :func:`cross_fit`.
    """
    shuffled, null = shuffled_groups(mgvi.read(adata), mgvi.seed), mgvi
    if mgvi.schema.absent:  # of the genes that all groups have, see shuffled_groups
        null = mgvi.fresh(shuffled, mgvi.seed)
        null.plan = mgvi.plan
    return cross_fit(null, shuffled, plan, max_epochs, progress)
