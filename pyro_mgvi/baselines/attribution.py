"""Integrated gradients of a latent: gene scores to compare a ranking with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from pyro_mgvi.core.interfaces import EncoderInput
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.cells.selection import Cells, cells_of_group
from pyro_mgvi.data.names import named_groups
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.kernels.sparse import to_dense
from pyro_mgvi.support.optional import require
from pyro_mgvi.training.program import Program

STEPS = 50  # of the Gauss-Legendre rule along the path
CELLS = 32  # explained at a time
EVALUATIONS = 1024  # inputs held at a time: a gene's gradients for that many cells and steps


def integrated_gradients(
    mgvi: Program, adata: AnnData | GroupedCounts, group: str, cells: Cells = None
) -> pd.DataFrame:
    r"""Score genes by how much a group's own latents are attributed to them.

    Label-free integrated gradients: of :math:`F_x(u) = \langle h(x), h(u) \rangle` at
    :math:`u = x`, where h is the posterior mean of all group-specific latents that the group
    owns and h(x) is held fixed, along the straight path from zero in the encoders' input
    space, which is a cell of mean log expression.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`), (n, genes).
    group
        Name of the group.
    cells
        Which to use: a boolean mask, a Series or cell names; all by default. Only those of the
        group count.

    Returns
    -------
    One row per gene, highest score first: ``score``, the mean over cells of the
    absolute attribution (in squared units of the latents).

    Raises
    ------
    DataError
        If the group is unknown, or no cell of it is chosen.
    SettingsError
        If no latent is the group's own, or the extra ``benchmark`` is not installed.

    Notes
    -----
    Crabbe & van der Schaar (2022), "Label-Free Explainability for Unsupervised Models"; the
    path integral is captum's.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> list(integrated_gradients(mgvi, adata, "group1"))
    ['score']
    """
    data = mgvi.read_for_results(adata)
    named = named_groups(mgvi.families, group)
    _, own = cells_of_group(adata, data, named, cells)
    total_g = np.zeros(len(mgvi.schema.genes))
    for attribution_ng, _ in _attributions(mgvi, data.subset(own), group):
        total_g += attribution_ng.abs().sum(0).cpu().numpy()
    return ranked(mgvi.schema.genes, total_g / len(own))


def _attributions(
    mgvi: Program, data: GroupedCounts, group: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield attributions (n, genes) and encoder inputs of minibatches of a group's cells."""
    captum = require("captum.attr", "benchmark")
    codes = named_groups(mgvi.families, group).codes
    groups = {mgvi.schema.groups[code] for code in codes}
    copies = [copy for copy in mgvi.families.copies if not copy.shared]
    owned = [copy for copy in copies if groups <= set(copy.groups)]
    if not owned:
        raise SettingsError(f"no latent of the model belongs to {group!r} but not to all groups")

    def h(x: torch.Tensor, covariates: torch.Tensor) -> torch.Tensor:
        moments = mgvi.guide.encode(EncoderInput(x, covariates))
        return torch.cat([moments[copy.latent][0][copy.index] for copy in owned], -1)

    def similarity(x: torch.Tensor, fixed: torch.Tensor, covariates: torch.Tensor) -> torch.Tensor:
        return (h(x, covariates) * fixed).sum(-1)

    method = captum.IntegratedGradients(similarity)
    for _, batch in mgvi.batches(data, CELLS):
        x = to_dense(mgvi.guide.input(batch.counts, group=batch.group))
        with torch.no_grad():
            fixed = h(x, batch.covariates)
        attribution_ng = method.attribute(
            x,
            additional_forward_args=(fixed, batch.covariates),
            n_steps=STEPS,
            internal_batch_size=EVALUATIONS,
        )
        yield attribution_ng.detach(), x


def ranked(genes: Iterable[str], score_g: np.ndarray) -> pd.DataFrame:
    """Return scores by gene, highest first."""
    table = pd.DataFrame({"score": score_g}, index=pd.Index(list(genes), name="gene"))
    return table.sort_values("score", ascending=False, kind="stable")
