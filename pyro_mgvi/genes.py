"""Which genes carry a group's own variation: the Bayes factor of the paper's equation 12."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from pyro_mgvi.calibration import CrossFit, cross_fit, q_values
from pyro_mgvi.contrast import Contrast, log_library
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.likelihoods import NB

DEPTH = 1e4  # expression is reported in counts per so many


def rank_genes(
    mgvi,
    adata,
    group: str,
    cells=None,
    offset: str | None = None,
    latents: Sequence[str] | None = None,
    calibration: CrossFit | bool = True,
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
        Name of the group.
    cells
        Boolean mask over all cells: which to use, such as one cell type; all by default.
        Let it hold cells of other groups, too: a mean shift is tested against them.
    offset
        What the second term does with the decoder's offset of the group. ``"averaged"`` over
        the groups: the ranking counts a shift of the group's mean *and* its variation within
        the group. ``"own"``: the latter alone, as where two programs divide one group's cells.
        By default ``"averaged"``, or ``"own"`` if only some ``latents`` are left out.
    latents
        Group-specific latents to set to zero in the second term; all by default.
    calibration
        Where ``z_score`` and ``q_value`` come from: True fits the model twice more, on halves
        of the cells of ``adata`` (as long as one or two trainings); refits that are there
        already (a :class:`~pyro_mgvi.calibration.CrossFit`) are used; False gives neither. See
        :meth:`CrossFit.z_scores <pyro_mgvi.calibration.CrossFit.z_scores>` for its assumptions.

    Returns
    -------
    One row per gene, highest Bayes factor first, with the columns ``gene``; ``bayes_factor``
    and ``per_cell`` (nats); ``fraction_in_favour`` of the cells; ``mean_all`` and
    ``mean_shared``, expected counts per 10,000 with both terms; ``log_fold_change``, the log2 of
    their ratio; ``z_score``, how far the effect that the refits predict shows on cells they have
    not seen, about standard normal without one; and its ``q_value``; both NaN where there are
    too few cells. The Bayes factor also counts what the model fits to noise; ``z_score``
    does not (benchmarks/RESULTS_genes.md).

    Raises
    ------
    DataError
        If the group is unknown, or no cell of it is chosen.
    SettingsError
        If ``offset`` or ``latents`` is invalid, or the likelihood is not ZINB or NB.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> mgvi.fit(adata, max_epochs=2, progress=False)
    >>> table = rank_genes(mgvi, adata, "group1", calibration=False)
    >>> len(table), bool(table["bayes_factor"].is_monotonic_decreasing)
    (80, True)
    """
    if not isinstance(mgvi.model.likelihood, NB):
        raise SettingsError(
            f"genes cannot be ranked with {type(mgvi.model.likelihood).__name__}: "
            "train with likelihood=ZINB or NB"
        )
    contrast = Contrast.of(mgvi.model, latents, offset)
    data = mgvi.read(adata)
    chosen, own = select(data, group, cells)
    sums = _sums(mgvi, data.subset(own), contrast)
    if calibration is True:
        calibration = cross_fit(mgvi, data)
    z_g = np.full(len(mgvi.schema.genes), np.nan)
    if calibration is not False:
        z_g = calibration.z_scores(data, group, contrast, chosen)
    table = pd.DataFrame(
        {
            "gene": mgvi.schema.genes,
            "bayes_factor": sums["bf"],
            "per_cell": sums["bf"] / len(own),
            "fraction_in_favour": sums["favour"] / len(own),
            "mean_all": DEPTH * sums["all"] / len(own),
            "mean_shared": DEPTH * sums["shared"] / len(own),
            "log_fold_change": np.log2(sums["all"] / sums["shared"]),
            "z_score": z_g,
            "q_value": q_values(z_g),
        }
    )
    return table.sort_values("bayes_factor", ascending=False, kind="stable", ignore_index=True)


@torch.no_grad()
def _sums(mgvi, data, contrast: Contrast) -> dict[str, np.ndarray]:
    """Return each gene's sums over cells: log ratios, cells in favour and both expressions."""
    sums = {name: np.zeros(data.x.shape[1]) for name in ("bf", "favour", "all", "shared")}
    for _, batch in mgvi._batches(data):
        posteriors = mgvi.guide.posteriors(batch.counts, batch.covariates)
        size = log_library(mgvi.model, posteriors, batch.counts).double()
        # In double precision: single loses the difference beside the log-gammas of large counts.
        sides = [
            [tuple(output.double() for output in part) for part in parts]
            for parts in contrast.decode(mgvi.model, posteriors, batch)
        ]
        counts = batch.counts.double()
        with_all, without = (
            mgvi.model.likelihood(parts, size).gene_log_prob(counts) for parts in sides
        )
        gain_ng = with_all - without
        share_all, share_without = (mgvi.model.likelihood.expression(parts) for parts in sides)
        sums["bf"] += gain_ng.sum(0).numpy()
        sums["favour"] += (gain_ng > 0).sum(0).numpy()
        sums["all"] += share_all.sum(0).numpy()
        sums["shared"] += share_without.sum(0).numpy()
    return sums


def select(data, group: str, cells=None) -> tuple[np.ndarray, np.ndarray]:
    """Return positions of the chosen cells, and of those among them that are of the group.

    Raises
    ------
    DataError
        If the group is unknown, the mask does not fit the data, or no cell of the group is in it.
    """
    groups = data.schema.groups
    if group not in groups:
        raise DataError(f"group {group!r} is unknown to the model; it knows: {', '.join(groups)}")
    mask = np.ones(len(data), bool) if cells is None else np.asarray(cells)
    if mask.dtype != bool or mask.shape != (len(data),):
        raise DataError(
            f"cells must be a boolean mask over the {len(data)} cells, not {mask.dtype} values "
            f"of shape {mask.shape}"
        )
    chosen = np.flatnonzero(mask)
    own = chosen[data.group_n[chosen] == groups.index(group)]
    if len(own):
        return chosen, own
    if not len(chosen):
        raise DataError("the selection holds no cell: choose another")
    found = sorted({groups[code] for code in data.group_n[chosen]})
    raise DataError(
        f"the selection holds no cell of group {group!r}, only {len(chosen)} foreign cell(s) of "
        f"{', '.join(found)}: the latents of {group!r} are zero there, so these cells cannot say "
        f"which genes vary in {group!r}; select cells of {group!r}, too"
    )
