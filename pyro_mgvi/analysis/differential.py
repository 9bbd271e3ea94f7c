"""Differences in expression: between sets of cells, and by what belongs to a cell's group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from pyro_mgvi.analysis.expression import expected, measured_only
from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.cells.selection import Cells, cell_positions
from pyro_mgvi.data.names import cell_index, named_groups
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.model import Posterior
from pyro_mgvi.model.decoding import Decoding
from pyro_mgvi.support.values import number, whole_number
from pyro_mgvi.training.program import Program, check_model


@torch.no_grad()
def differential_expression(
    mgvi: Program,
    adata: AnnData | GroupedCounts,
    first: Cells,
    second: Cells,
    latents: Sequence[str] | str | None = None,
    n_draws: int = 5000,
    threshold: float = 0.25,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare the expression of two sets of cells, with all or with some latents.

    With ``latents=["z"]`` the cells differ by what is shared alone, with ``latents=["t"]`` by
    what belongs to their groups (z at zero, offsets their own). Pairs of a cell of each set are
    drawn, and for each cell a value of its latents from the posterior; what is reported is the
    distribution of their log fold change (Lopez et al. 2018; Boyeau et al. 2019). It describes
    cells; it is no test: for error rates over genes, see :func:`~pyro_mgvi.rank_genes`.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI` of counts.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`).
    first, second
        Each the name of a group, or of a level of a column where several make up the groups; or a
        boolean mask over all cells, a boolean Series (aligned by cell name) or a list of cell
        names.
    latents
        As for :func:`expression_draws`.
    n_draws
        Pairs of cells to draw, with a draw of the latents of each.
    threshold
        Absolute log2 fold change from which a gene counts as different between two cells.
    seed
        Of pairs and draws.

    Returns
    -------
    One row per gene, most probable difference first, with the columns ``mean_first`` and
    ``mean_second``, expected counts per 10,000; ``log_fold_change``, the mean of the log2 of
    first by second over pairs, of shares among the genes that both groups have, and
    ``log_fold_change_std``; and ``probability`` of an absolute log
    fold change above the threshold.

    Raises
    ------
    DataError
        If a group is unknown, a mask does not fit the data or a set holds no cell.
    SettingsError
        If a latent is unknown, a number out of range, or the likelihood is not one of counts.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> _ = mgvi.fit(adata, max_epochs=2, progress=False)
    >>> is_type_1 = (adata.obs["celltype"] == "T1").to_numpy()
    >>> table = differential_expression(mgvi, adata, is_type_1, ~is_type_1, latents="z", n_draws=50)
    >>> table.shape
    (80, 5)
    """
    check_model(mgvi)
    if mgvi.data_kind is not DataKind.COUNTS:
        raise SettingsError("fold changes need a likelihood of counts: ZINB, NB or Poisson")
    n_draws = whole_number("n_draws", n_draws, least=2)
    threshold, seed = number("threshold", threshold, least=0.0), whole_number("seed", seed, least=0)
    decoding, data = Decoding.keeping(mgvi.families, latents), mgvi.read_for_results(adata)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    sides = [
        data.subset(rng.choice(_cells(mgvi, adata, data, which, name), n_draws))
        for which, name in ((first, "first"), (second, "second"))
    ]
    names = ("first", "second", "lfc", "squares", "beyond")
    sums = {name: np.zeros(data.shape[1]) for name in names}
    known = {name: np.zeros(data.shape[1]) for name in names}
    for (_, one), (_, two) in zip(*map(mgvi.posteriors, sides), strict=True):
        shares, compared = _both(mgvi, decoding, (one, two), generator)
        lfc = (compared[0] / compared[1]).log2()
        beyond = (lfc.abs() > threshold).double().where(~lfc.isnan(), torch.nan)
        parts = (shares[0], shares[1], lfc, lfc**2, beyond)
        # Of cells whose group has the gene, and of pairs where both have it; all without masks.
        for name, part in zip(names, parts):
            is_known = ~part.isnan()
            sums[name] += part.where(is_known, 0.0).sum(0).numpy()
            known[name] += is_known.sum(0).numpy()
    with np.errstate(invalid="ignore"):
        mean = {k: total / known[k] for k, total in sums.items()}
    table = pd.DataFrame(
        {
            "mean_first": 1e4 * mean["first"],
            "mean_second": 1e4 * mean["second"],
            "log_fold_change": mean["lfc"],
            "log_fold_change_std": np.sqrt(np.maximum(mean["squares"] - mean["lfc"] ** 2, 0)),
            "probability": mean["beyond"],
        },
        index=pd.Index(mgvi.schema.genes, name="gene"),
    )
    order = np.lexsort((-table["log_fold_change"].abs(), -table["probability"]))
    return table.iloc[order]


def _both(
    mgvi: Program,
    decoding: Decoding,
    sides: tuple[Posterior, Posterior],
    generator: torch.Generator,
) -> tuple[list[Tensor], list[Tensor]]:
    """Return shares among the genes that each cell has, and among those that its pair has, too.

    A group with fewer genes has larger shares of them: fold changes are of genes that both have.
    """
    model, groups = mgvi.model, [side.batch.group for side in sides]
    parts = [decoding.parts(side, side.draw(generator)) for side in sides]
    shares = [
        measured_only(mgvi, side, model.expression(part, side.batch.group)).cpu().double()
        for part, side in zip(parts, sides)
    ]
    first_ng, second_ng = map(model.measured, groups)
    if first_ng is None or second_ng is None:
        return shares, shares
    common_ng = first_ng & second_ng
    among = [model.expression(part, group, common_ng) for part, group in zip(parts, groups)]
    return shares, [share_ng.where(common_ng, torch.nan).cpu().double() for share_ng in among]


def _cells(
    mgvi: Program, adata: AnnData | GroupedCounts, data: GroupedCounts, which: Cells, name: str
) -> np.ndarray:
    """Return positions of the cells of a group, or under a mask."""
    if pd.api.types.is_list_like(which):
        cells = cell_positions(adata, data, which, name)
    else:
        cells = np.flatnonzero(named_groups(mgvi.families, which).own(data.group_n))
    if not len(cells):
        raise DataError(f"{name} holds no cell: choose others")
    return cells


@torch.no_grad()
def effect_sizes(
    mgvi: Program,
    adata: AnnData | GroupedCounts,
    offset: str | None = None,
    latents: Sequence[str] | str | None = None,
    progress: bool = True,
) -> pd.Series:
    r"""Return how much its group changes each cell's expression: the mean change of a transcript.

    .. math:: e_n = \sum_g \rho_{ng} \, |\log_2 (\rho_{ng} / \rho'_{ng})|

    with the expected shares of a cell's transcripts with everything and without what belongs to
    its group, over the genes that the group has; of several modalities, the mean of theirs. Shares
    that sum to less than 1 are divided by their sum: those of :class:`~pyro_mgvi.ProteinNB` are of
    the foreground, weighted by how sure it is. It is 0 where the group changes nothing, and 1 where
    transcripts are on average twice, or half, as frequent. It says how large a change is, not
    whether it holds for other cells: for that, see ``rank_genes(..., by=...)``.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`).
    offset, latents
        What is left out, as for :func:`~pyro_mgvi.rank_genes`: by default all group-specific
        latents, and the group's offset is averaged over the groups.
    progress
        Show a progress bar, if it takes seconds.

    Returns
    -------
    One value per cell, in units of log2.

    Raises
    ------
    SettingsError
        If ``offset`` or ``latents`` is invalid, or the likelihood is none of counts.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> _ = mgvi.fit(adata, max_epochs=2, progress=False)
    >>> by_type = effect_sizes(mgvi, adata).groupby(adata.obs["celltype"], observed=True).mean()
    >>> len(by_type), bool((by_type > 0).all())
    (5, True)
    """
    check_model(mgvi)
    if mgvi.data_kind is not DataKind.COUNTS:
        raise SettingsError(
            f"{type(mgvi.model.likelihood).__name__} has no shares of transcripts: train with a "
            "likelihood of counts, such as ZINB or NB"
        )
    without = Decoding.leaving_out(mgvi.families, latents, offset)
    everything = Decoding.everything(mgvi.families)
    data = mgvi.read_for_results(adata)
    size_n = np.empty(len(data))
    for cells, posterior in mgvi.posteriors(data, progress="effect sizes" if progress else None):
        values = posterior.means()
        with_all, with_less = (
            expected(mgvi, decoding, posterior, values) for decoding in (everything, without)
        )
        change_ng = with_all * (with_all / with_less).log2().abs()
        measured_ng = mgvi.model.measured(posterior.batch.group)
        if measured_ng is not None:  # of genes that the group has not got there are predictions
            change_ng, with_all = (x.where(measured_ng, 0.0) for x in (change_ng, with_all))
        size_nm = _totals(mgvi, change_ng) / _totals(mgvi, with_all)  # 0 / 0 where there is none
        size_n[cells] = size_nm.nanmean(-1).cpu().numpy()
    return pd.Series(size_n, index=cell_index(data), name="effect_size")


def _totals(mgvi: Program, value_ng: torch.Tensor) -> torch.Tensor:
    """Return the sums over the genes of each modality, (n, modalities)."""
    modalities = mgvi.model.modalities
    return value_ng.sum(-1, keepdim=True) if modalities is None else modalities.totals(value_ng)
