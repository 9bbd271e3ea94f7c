"""Expected expression with a chosen set of latents: at the posterior means, and over draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from pyro_mgvi.data import GroupedCounts, Minibatch
from pyro_mgvi.data.names import cell_index, gene_positions
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.model import Model, Posterior
from pyro_mgvi.model.decoding import Decoding
from pyro_mgvi.support.values import flag, whole_number
from pyro_mgvi.training.program import Program, check_model


def expected(
    program: Program, decoding: Decoding, posterior: Posterior, values: dict[str, Tensor]
) -> Tensor:
    """Return expected expression of some cells for values of their latents, (n, genes)."""
    parts = decoding.parts(posterior, values)
    return program.model.expression(parts, posterior.batch.group)


def measured_only(program: Program, posterior: Posterior, share_ng: Tensor) -> Tensor:
    """Return expression with NaN where a cell's group has not got the gene."""
    measured_ng = program.model.measured(posterior.batch.group)
    return share_ng if measured_ng is None else share_ng.where(measured_ng, torch.nan)


def has_genes(model: Model, batch: Minibatch) -> Tensor | None:
    """Return which cell has which gene, boolean; None if all have all.

    Its group has it, and of several modalities, the cell has a count of its kind.
    """
    measured_ng = model.measured(batch.group)
    if model.modalities is None:
        return measured_ng
    has_ng = model.modalities.spread(model.totals(batch.counts) > 0)
    return has_ng if measured_ng is None else has_ng & measured_ng


def marked(program: Program, table: pd.DataFrame, predict_absent: bool) -> pd.DataFrame:
    """Return a table of expression whose ``attrs`` say what was not measured, by group."""
    if program.schema.absent:
        listed = {
            group: [gene for gene in table.columns if gene in set(genes)]
            for group, genes in program.schema.absent.items()
        }
        table.attrs["predicted" if predict_absent else "absent"] = listed
    return table


@torch.no_grad()
def normalized_expression(
    program: Program,
    adata: AnnData | GroupedCounts,
    latents: Sequence[str] | str | None = None,
    genes: Sequence[str] | str | None = None,
    batch: str | None = None,
    predict_absent: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Return expected expression at the posterior means, as shares of a cell's counts.

    With a likelihood of transformed data: expected values, on their scale.

    Parameters
    ----------
    program
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`).
    latents
        Names of families (``"t"``) or copies (``"t_Ileum"``) to decode with, the others at
        zero; all by default, with each cell's own offset. Of names without a group-specific latent
        the groups' offsets are averaged ("shared only"). Where several columns make up the groups,
        those columns are averaged over of which no latent is kept. Effects of samples, if the model
        has them, are in only if all latents are (None): with names of latents, every cell is of an
        average sample.
    genes
        Genes to return; all by default. Shares sum to 1 over all genes (of its modality), not over
        these. Those of :class:`~pyro_mgvi.ProteinNB` sum to less: they are of the foreground,
        weighted by how sure it is.
    batch
        Decode every cell as if it came from this batch; its own by default. The latents
        are those of the cell as it was observed.
    predict_absent
        Predict genes that a cell's group has not got (feature masks): what they would be, in the
        unit of the genes that it has. They are NaN otherwise.
    progress
        Show a progress bar, if it takes seconds.

    Returns
    -------
    Cells x genes. Where groups have not got all genes, ``attrs["predicted"]`` (or
    ``attrs["absent"]``, of what is NaN) lists the genes by group.

    Raises
    ------
    SettingsError, DataError
        If a latent, a gene or the batch is unknown.
    """
    check_model(program)
    schema = program.schema
    if batch is not None and (schema.batch_key is None or str(batch) not in schema.batches):
        known = list(schema.batches) if schema.batch_key else "no batch_key"
        raise SettingsError(f"unknown batch {batch!r}; the model has {known}")
    decoding = Decoding.keeping(program.families, latents)
    predict_absent = flag("predict_absent", predict_absent)
    names, position = gene_positions(schema, genes)
    data = program.read_for_results(adata)
    out = np.empty((len(data), len(names)), np.float32)
    shown = "expression" if progress else None
    for cells, posterior in program.posteriors(data, keep_sparse=True, progress=shown):
        if batch is not None:  # the batch's one-hot columns come first
            covariates = posterior.batch.covariates.clone()
            covariates[:, : len(schema.batches)] = 0.0
            covariates[:, schema.batches.index(str(batch))] = 1.0
            moved = posterior.batch._replace(covariates=covariates)
            posterior = replace(posterior, batch=moved)
        share_ng = expected(program, decoding, posterior, posterior.means())
        if not predict_absent:
            share_ng = measured_only(program, posterior, share_ng)
        out[cells] = share_ng[:, position].cpu().numpy()
    table = pd.DataFrame(out, index=cell_index(data), columns=names)
    return marked(program, table, predict_absent)


@torch.no_grad()
def expression_draws(
    mgvi: Program,
    adata: AnnData | GroupedCounts,
    latents: Sequence[str] | str | None = None,
    genes: Sequence[str] | str | None = None,
    n_draws: int = 25,
    seed: int = 0,
    predict_absent: bool = False,
    progress: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return mean and standard deviation of each cell's expression over posterior draws.

    Summarised as the draws come: no more than one minibatch of them is ever held.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`).
    latents
        Names of families (``"t"``) or copies (``"t_Ileum"``) to decode with, the others at zero;
        all by default, with each cell's own offset. Of names without a group-specific one the
        groups' offsets are averaged ("shared only").
    genes
        Genes to return; all by default.
    n_draws
        Draws of each cell's latents from its posterior, at least 2.
    seed
        Of the draws.
    predict_absent
        As for :func:`normalized_expression`.
    progress
        Show a progress bar, if it takes seconds.

    Returns
    -------
    Two tables, cells x genes, in shares of a cell's counts.

    Raises
    ------
    SettingsError, DataError
        If ``n_draws`` is below 2, or a latent or a gene is unknown.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> _ = mgvi.fit(adata, max_epochs=2, progress=False)
    >>> mean, std = expression_draws(mgvi, adata, latents="z", n_draws=5)
    >>> mean.shape, bool((std > 0).all().all())
    ((120, 80), True)
    """
    check_model(mgvi)
    predict_absent = flag("predict_absent", predict_absent)
    n_draws = whole_number("n_draws", n_draws, least=2)
    seed = whole_number("seed", seed, least=0)
    decoding = Decoding.keeping(mgvi.families, latents)
    names, position = gene_positions(mgvi.schema, genes)
    data, generator = mgvi.read_for_results(adata), torch.Generator().manual_seed(seed)
    mean, std = (np.empty((len(data), len(names)), np.float32) for _ in range(2))
    shown = "expression" if progress else None
    for cells, posterior in mgvi.posteriors(data, progress=shown):
        total = torch.zeros(len(cells), len(names), dtype=torch.float64)
        squares = torch.zeros_like(total)
        for _ in range(n_draws):
            draw = expected(mgvi, decoding, posterior, posterior.draw(generator))
            if not predict_absent:
                draw = measured_only(mgvi, posterior, draw)
            draw = draw[:, position].cpu().double()
            total, squares = total + draw, squares + draw**2
        mean[cells] = (total / n_draws).numpy()
        variance = (squares - total**2 / n_draws) / (n_draws - 1)
        std[cells] = variance.clamp(min=0).sqrt().numpy()
    index = cell_index(data)
    tables = (pd.DataFrame(x, index=index, columns=names) for x in (mean, std))
    of_mean, of_std = (marked(mgvi, table, predict_absent) for table in tables)
    return of_mean, of_std
