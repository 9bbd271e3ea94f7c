"""Which genes carry a group's own variation: the Bayes factor of the paper's equation 12."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from pyro_mgvi.analysis.cross_fit import CrossFit, cross_fit, q_values
from pyro_mgvi.analysis.expression import has_genes
from pyro_mgvi.analysis.new_samples import NEW, SAME, scores_of_splits
from pyro_mgvi.analysis.samples.compared import NEEDED, common_genes
from pyro_mgvi.core.interfaces import DataKind, gene_log_prob
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.cells.selection import Cells, cells_of_group
from pyro_mgvi.data.checks import some
from pyro_mgvi.data.masks.notes import measured_in, notes_of
from pyro_mgvi.data.names import Labels, NamedGroups, labels_of, named_groups
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.model.decoding import Decoding
from pyro_mgvi.support.values import flag
from pyro_mgvi.training.program import Program, check_model

DEPTH = 1e4  # expression is reported in counts per so many


def rank_genes(
    mgvi: Program,
    adata: AnnData | GroupedCounts,
    group: str,
    cells: Cells = None,
    offset: str | None = None,
    latents: Sequence[str] | str | None = None,
    calibration: CrossFit | Sequence[CrossFit] | bool = True,
    progress: bool = True,
    by: Labels | str | None = None,
) -> pd.DataFrame:
    r"""Rank genes by how much better a group's own variation explains their counts.

    .. math:: BF_g = \sum_n \log p(X_{ng} | z_n, t_n, l_n) - \log p(X_{ng} | z_n, t = 0, l_n)

    over the chosen cells of the group (paper, equation 12), in nats, with latents and library
    at their posterior means and foreign copies at zero in both terms.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`).
    group
        Name of the group. Where several columns make up the groups, also that of a level of one
        (``"stim"``): the cells are those of all groups with that level, the second term is without
        the latents of that column's levels, and offsets are averaged over that column alone. A
        name of a latent's copy (``subsets("condition", {"stim": [...]})``) means its owners.
    cells
        Which to use, such as one cell type: a boolean mask over all cells, a boolean Series
        (aligned by cell name) or a list of cell names; all by default. Let it hold cells of other
        groups, too: a mean shift is tested against them.
    offset
        What the second term does with the decoder's offset of the group. ``"averaged"`` over
        the groups: the ranking counts a shift of the group's mean *and* its variation within
        the group. ``"own"``: the latter alone, as where two programs divide one group's cells.
        By default ``"averaged"``, or ``"own"`` if only some ``latents`` are left out.
    latents
        Group-specific latents (``"t"``) or copies (``"t_Ileum"``) to set to zero in the second
        term; all by default.
    calibration
        Where ``z_score`` and ``q_value`` come from: True fits the model twice more, on halves
        of the cells of ``adata`` (as long as one or two trainings); refits that are there
        already (a :class:`CrossFit`) are used; False gives neither. See :meth:`CrossFit.z_scores`
        for its assumptions. Several, of different splits of the cells
        (``[cross_fit(mgvi, adata, split=i) for i in range(5)]``), are averaged, so that what is
        called hangs less on one split.
    progress
        Show progress bars: of the refits, and of what takes seconds.
    by
        Rank within each label, such as each cell type, by one calibration: a column of ``obs``, or
        a label of each cell. Cells without one are left out.

    Returns
    -------
    One row per gene, highest Bayes factor first, with the columns ``bayes_factor`` and
    ``per_cell`` (nats); ``fraction_in_favour`` of the cells; ``mean_all`` and
    ``mean_shared``, expected counts per 10,000 with both terms; ``log_fold_change``, the log2 of
    their ratio; ``z_score``, how far the effect that the refits predict shows on cells they have
    not seen, about standard normal without one; and its ``q_value``; both NaN where too few cells
    (or samples) have the gene. Of several splits, ``z_score`` is the mean of those that have one,
    whose variance without an effect is at most 1, and ``z_sd`` the standard deviation between them,
    NaN if it is one. ``attrs["q_value_of"]`` says of
    what they speak: new cells of these samples, or new samples, if the model knows samples
    (``sample_key``). These are then held out whole and tested against each other
    (:func:`~pyro_mgvi.analysis.new_samples.new_sample_scores`): with an averaged offset, a shift of
    the group's mean alone; with its own offset, the variation within it. The Bayes factor also
    counts what the model fits to noise; ``z_score`` does not (benchmarks/notes/RESULTS_genes.md).
    Genes that the group has not got (feature masks) have no row, and ``attrs`` says so.

    With ``by``, one such block per label, largest label of the group first, indexed by label and
    gene; q-values are those of all blocks at once. Labels without a cell of the group have no
    block (``attrs["left_out"]``).

    Raises
    ------
    DataError
        If the group is unknown, no cell of it is chosen, or refits are of other cells, of these in
        another order, or of another model.
    SettingsError
        If ``offset``, ``latents`` or ``calibration`` is invalid, or the likelihood is none of
        counts that tells genes apart.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> _ = mgvi.fit(adata, max_epochs=2, progress=False)
    >>> table = rank_genes(mgvi, adata, "group1", calibration=False)
    >>> len(table), bool(table["bayes_factor"].is_monotonic_decreasing)
    (80, True)
    """
    check_model(mgvi)
    given = _given(calibration)
    if mgvi.data_kind is not DataKind.COUNTS:
        raise SettingsError(
            f"genes cannot be ranked with {type(mgvi.model.likelihood).__name__}: "
            "train with a likelihood of counts, such as ZINB or NB"
        )
    named = named_groups(mgvi.families, group)
    if latents is None and named.latents is not None:
        latents, offset = named.latents, offset or "averaged"
    without = Decoding.leaving_out(mgvi.families, latents, offset, named.columns)
    data = mgvi.read_for_results(adata)
    chosen, own = cells_of_group(adata, data, named, cells)
    label_n = None if by is None else labels_within(adata, by, data, own)
    refits = (cross_fit(mgvi, data, progress=progress),) if given is None else given
    for split in given or ():
        split.check(data, mgvi)
    if label_n is None:
        return _ranking(mgvi, data, named, without, chosen, own, refits, progress)
    labels = pd.Series(label_n[own]).value_counts().index  # the largest first; None is no label
    tables = {}
    for label in labels:
        mine, mine_own = (cells[label_n[cells] == label] for cells in (chosen, own))
        of_label = mine, mine_own, refits, progress
        tables[str(label)] = _ranking(mgvi, data, named, without, *of_label)
    table = pd.concat(tables, names=["label", "gene"])
    table["q_value"] = q_values(table["z_score"].to_numpy())
    table.attrs = tables[str(labels[0])].attrs
    table.attrs["left_out"] = sorted({*label_n[chosen]} - {*labels, None})
    return table


def labels_within(
    adata: AnnData | GroupedCounts,
    by: Labels | str,
    data: GroupedCounts,
    own: np.ndarray,
    name: str = "by",
) -> np.ndarray:
    """Return the label of each cell of ``data``, if they are classes of a group's cells.

    Parameters
    ----------
    adata
        What ``data`` were read from.
    by
        As for :func:`rank_genes`.
    data
        The cells that the model uses.
    own
        Positions of those of the group.
    name
        What to call ``by`` in an error.

    Raises
    ------
    DataError
        If none of the group's cells has a label, or most of those that have one are alone with it,
        as with numbers or names of cells.
    """
    label_n = labels_of(adata, by, data, name)
    sizes = pd.Series(label_n[own]).value_counts()
    if not len(sizes):
        raise DataError(f"no cell of the group has a label: say another column ({name})")
    if (sizes == 1).sum() > max(2, sizes.sum() / 2):
        raise DataError(
            f"{name} tells {len(sizes):,} labels apart among {sizes.sum():,} cells of the group, "
            f"such as {some(sizes.index, 3)}: these are no classes of cells; make some first "
            "(pandas.cut for numbers)"
        )
    return label_n


def _given(calibration: CrossFit | Sequence[CrossFit] | bool) -> tuple[CrossFit, ...] | None:
    """Return the refits that there are, or None if they are to be made.

    Raises
    ------
    SettingsError
        If it is something else.
    """
    if isinstance(calibration, CrossFit):
        return (calibration,)
    if isinstance(calibration, Sequence) and not isinstance(calibration, str):
        if not calibration or not all(isinstance(each, CrossFit) for each in calibration):
            raise SettingsError(
                "calibration holds something that is no CrossFit, or nothing: several splits are "
                "[cross_fit(mgvi, adata, split=i) for i in range(5)]"
            )
        return tuple(calibration)
    return None if flag("calibration", calibration) else ()


def _ranking(
    mgvi: Program,
    data: GroupedCounts,
    named: NamedGroups,
    without: Decoding,
    chosen: np.ndarray,
    own: np.ndarray,
    refits: tuple[CrossFit, ...],
    progress: bool,
) -> pd.DataFrame:
    """Return the table of some cells, and of those among them that are of the group."""
    sums = _sums(mgvi, data.subset(own), without, progress)
    with np.errstate(invalid="ignore"):  # no cell has a feature that the table leaves out
        mean = {name: sum_g / sums["cells"] for name, sum_g in sums.items()}
        log_fold_change = np.log2(sums["all"] / sums["shared"])
    z_sg = pd.DataFrame(scores_of_splits(refits, data, named.name, without, chosen, progress))
    z_g = z_sg.mean().to_numpy()  # of the splits that have a score
    across_samples = mgvi.schema.sample_key is not None
    if across_samples and without.averaged:  # two-sided: positive where both changes are alike
        z_g = z_g * np.sign(log_fold_change)
    table = pd.DataFrame(
        {
            "bayes_factor": sums["bf"],
            "per_cell": mean["bf"],
            "fraction_in_favour": mean["favour"],
            "mean_all": DEPTH * mean["all"],
            "mean_shared": DEPTH * mean["shared"],
            "log_fold_change": log_fold_change,
            "z_score": z_g,
            "q_value": q_values(z_g),
            **({"z_sd": z_sg.std().to_numpy()} if len(refits) > 1 else {}),
        },
        index=pd.Index(mgvi.schema.genes, name="gene"),
    )
    groups = tuple(mgvi.schema.groups[code] for code in named.codes)
    table = table[measured_in(mgvi.schema, groups)]
    table.attrs["q_value_of"] = NEW if across_samples else SAME
    table.attrs |= notes_of(mgvi.schema, groups)
    n_without = int(table["z_score"].isna().sum())
    none_common = across_samples and not common_genes(data, chosen).any()
    if 0 < n_without < len(table) or none_common:
        needed = "too few cells of the group have them"
        if across_samples:
            needed = f"samples are compared in genes that all groups of theirs have, and {NEEDED}"
        table.attrs["genes_without_q"] = f"{n_without:,} genes have no q-value: {needed}"
    return table.sort_values("bayes_factor", ascending=False, kind="stable")


@torch.no_grad()
def _sums(
    mgvi: Program, data: GroupedCounts, without: Decoding, progress: bool
) -> dict[str, np.ndarray]:
    """Return each gene's sums over the cells that have it: their number, and what they say."""
    sums = {name: np.zeros(data.shape[1]) for name in ("bf", "favour", "all", "shared", "cells")}
    model, everything = mgvi.model, Decoding.everything(mgvi.families)
    for _, posterior in mgvi.posteriors(data, progress="Bayes factors" if progress else None):
        log_library = posterior.log_library()
        size = None if log_library is None else log_library.double()
        group_n = posterior.batch.group
        # In double precision: single loses the difference beside the log-gammas of large counts.
        sides = [
            [
                tuple(output.double() for output in part)
                for part in decoding.parts(posterior, posterior.means())
            ]
            for decoding in (everything, without)
        ]
        counts = posterior.batch.counts.double()
        with_all, with_less = (
            gene_log_prob(model.distribution(parts, size, group_n), counts) for parts in sides
        )
        gain_ng = with_all - with_less
        share_all, share_without = (model.expression(parts, group_n) for parts in sides)
        has_ng = has_genes(model, posterior.batch)
        found = gain_ng, gain_ng > 0, share_all, share_without, torch.ones_like(gain_ng)
        for name, value_ng in zip(sums, found):
            own_ng = value_ng if has_ng is None else value_ng * has_ng
            sums[name] += own_ng.sum(0).cpu().numpy()
    return sums
