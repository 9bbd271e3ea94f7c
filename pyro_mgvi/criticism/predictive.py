"""Posterior predictive checks of what matters for counts: spread, zeros and library sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from torch import Tensor

from pyro_mgvi.analysis.expression import has_genes
from pyro_mgvi.core import DataKind
from pyro_mgvi.criticism.draws import dense_posteriors, draw, seeded
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.names import cell_index
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.support.values import whole_number
from pyro_mgvi.training.program import Program, check_model

LEVEL = 0.9  # of the predictive intervals


@dataclass(frozen=True)
class PredictiveChecks:
    """Observed statistics of counts beside those of replicates drawn from the model.

    Attributes
    ----------
    genes
        One row per gene; for each of ``mean``, ``variance`` and ``zeros`` (fraction of cells
        without a count) the columns ``<statistic>_observed``; ``_predicted``, the mean over
        replicates; ``_lower`` and ``_upper``, their central 90 % interval; and ``_p``, the
        two-sided posterior predictive p-value.
    cells
        The same per cell, for ``library`` (counts) and ``zeros`` (fraction of genes), and the
        cell's ``group``.
    n_draws
        Number of replicates.
    """

    genes: pd.DataFrame
    cells: pd.DataFrame
    n_draws: int

    def summary(self) -> pd.DataFrame:
        """Return one row per statistic: how well it is predicted over all genes or cells.

        Columns: means of ``observed`` and ``predicted``; ``error``, the mean absolute difference;
        ``correlation`` (Spearman's) of observed and predicted; ``inside``, the share of genes or
        cells inside the 90 % interval; ``below`` and ``above``, the shares outside.
        """
        rows = {}
        for unit, table in (("gene", self.genes), ("cell", self.cells)):
            for column in table.columns[table.columns.str.endswith("_observed")]:
                name = column.removesuffix("_observed")
                observed, predicted, lower, upper = (
                    table[f"{name}_{part}"] for part in ("observed", "predicted", "lower", "upper")
                )
                below, above = (observed < lower).mean(), (observed > upper).mean()
                rows[f"{unit} {name}"] = {
                    "observed": observed.mean(),
                    "predicted": predicted.mean(),
                    "error": (observed - predicted).abs().mean(),
                    "correlation": observed.corr(predicted, method="spearman"),
                    "inside": 1 - below - above,
                    "below": below,
                    "above": above,
                }
        return pd.DataFrame.from_dict(rows, orient="index")


def predictive_checks(
    mgvi: Program,
    adata: AnnData | GroupedCounts,
    n_draws: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> PredictiveChecks:
    """Draw replicates of all cells and compare their counts with what was observed.

    Replicates are summarised a minibatch at a time: never are cells x genes x draws held.
    Each replicate of a cell is drawn given its own posterior, which has seen the cell; on
    training cells, intervals cover too much rather than too little. A miss is a finding; a
    pass is none on its own. To check one group or type alone, give its cells only.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI` of counts.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`), (n, genes).
    n_draws
        Number of replicates, at least 20 (for a 90 % interval).
    seed
        Seed of the draws.
    progress
        Show a progress bar.

    Raises
    ------
    SettingsError
        If the model is of transformed data, or ``n_draws`` is too small.

    Notes
    -----
    After Gelman, Meng and Stern (1996), "Posterior predictive assessment of model fitness via
    realized discrepancies".

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=60, n_shared_genes=30, n_program_genes=10)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> checks = predictive_checks(mgvi, adata, n_draws=20, progress=False)
    >>> list(checks.summary().index)
    ['gene mean', 'gene variance', 'gene zeros', 'cell library', 'cell zeros']
    """
    check_model(mgvi)
    n_draws, seed = whole_number("n_draws", n_draws, least=20), whole_number("seed", seed, least=0)
    if mgvi.data_kind is not DataKind.COUNTS:
        raise SettingsError(
            f"zeros and library sizes are statistics of counts, and "
            f"{type(mgvi.model.likelihood).__name__} models transformed data; for these use "
            "pyro_mgvi.criticism.to_arviz and arviz's predictive plots"
        )
    data = mgvi.read_for_results(adata)
    n_genes = data.shape[1]
    n_g = np.zeros(n_genes)  # cells that have the gene
    # sums over cells of the count, its square and its being zero: observed, and per replicate
    observed_3g, replicate_d3g = np.zeros((3, n_genes)), np.zeros((n_draws, 3, n_genes))
    per_cell = []
    with seeded(seed):
        for _, posterior in dense_posteriors(mgvi, data, progress, "predictive checks"):
            counts = mgvi.model.likelihood.observed(posterior.batch.counts)
            measured_ng = has_genes(mgvi.model, posterior.batch)
            n_g += len(counts) if measured_ng is None else measured_ng.sum(0).cpu().numpy()
            observed_3g += _gene_sums(counts, measured_ng)
            replicate_d2n = np.empty((n_draws, 2, len(counts)))
            for i in range(n_draws):
                replicate = draw(posterior).counts.sample()
                replicate_d3g[i] += _gene_sums(replicate, measured_ng)
                replicate_d2n[i] = _cell_statistics(replicate, measured_ng)
            found_2n = _cell_statistics(counts, measured_ng)
            per_cell.append(_table(("library", "zeros"), found_2n, replicate_d2n))
    n_g = np.maximum(n_g, 1)
    genes = _table(
        ("mean", "variance", "zeros"), _moments(observed_3g, n_g), _moments(replicate_d3g, n_g)
    )
    cells = pd.concat(per_cell)
    group = pd.Categorical.from_codes(data.group_n, pd.Index(mgvi.schema.groups))
    cells.insert(0, "group", group)  # type: ignore[arg-type] # the stubs leave out Categorical
    genes.index = pd.Index(mgvi.schema.genes, name="gene")
    cells.index = cell_index(data)
    return PredictiveChecks(genes, cells, n_draws)


def _gene_sums(counts_ng: Tensor, measured_ng: Tensor | None) -> np.ndarray:
    counts = counts_ng.cpu().double()
    zeros = (counts == 0).double()
    if measured_ng is not None:
        zeros = zeros.where(measured_ng.cpu(), 0.0)
    return np.stack([x.sum(0).numpy() for x in (counts, counts**2, zeros)])


def _moments(sums_3g: np.ndarray, n_g: np.ndarray) -> np.ndarray:
    """Return mean, variance and fraction of zeros, (..., 3, genes), from sums over n cells."""
    mean, square, zeros = np.moveaxis(sums_3g / n_g, -2, 0)
    return np.stack([mean, square - mean**2, zeros], axis=-2)


def _cell_statistics(counts_ng: Tensor, measured_ng: Tensor | None) -> np.ndarray:
    counts = counts_ng.cpu().double()
    zeros = (counts == 0).double()
    if measured_ng is None:
        return np.stack([counts.sum(1).numpy(), zeros.mean(1).numpy()])
    has = measured_ng.cpu().double()
    share = (zeros * has).sum(1) / has.sum(1).clamp(min=1)
    return np.stack([counts.sum(1).numpy(), share.numpy()])


def _table(names: Sequence[str], observed_s: np.ndarray, replicate_ds: np.ndarray) -> pd.DataFrame:
    """Return each statistic beside its distribution over replicates; one row per unit."""
    tail = (1 - LEVEL) / 2
    lower, upper = np.quantile(replicate_ds, [tail, 1 - tail], axis=0)
    at_least = (replicate_ds >= observed_s).mean(0)
    at_most = (replicate_ds <= observed_s).mean(0)
    parts = {
        "observed": observed_s,
        "predicted": replicate_ds.mean(0),
        "lower": lower,
        "upper": upper,
        "p": np.minimum(1.0, 2 * np.minimum(at_least, at_most)),
    }
    return pd.DataFrame(
        {
            f"{name}_{part}": value[s]
            for s, name in enumerate(names)
            for part, value in parts.items()
        }
    )
