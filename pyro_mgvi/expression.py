"""Expression with a chosen set of latents: posterior draws, and differences between cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_mgvi import checks
from pyro_mgvi.errors import DataError, SettingsError


@dataclass(frozen=True)
class Chosen:
    """Which latents to decode with; the others are zero.

    Without a group-specific latent among them, the groups' offsets and responses are averaged:
    then nothing of a cell's group is left ("shared only").
    """

    names: tuple[str, ...]
    averaged: bool

    @classmethod
    def of(cls, model, latents: Sequence[str] | str | None) -> Chosen:
        """Check the names; None stands for all latents.

        Raises
        ------
        SettingsError
            If a latent is unknown.
        """
        families = {latent.name: latent for latent in model.latents}
        names = tuple(families) if latents is None else latents
        names = (names,) if isinstance(names, str) else tuple(names)
        unknown = [name for name in names if name not in families]
        if unknown:
            raise SettingsError(f"unknown latent(s) {unknown}; the model has {list(families)}")
        return cls(names, all(families[name].covers(model.groups) for name in names))

    def decode(self, model, values: dict[str, Tensor], batch) -> Tensor:
        """Return expected expression, (n, genes)."""
        values = {k: v * (1.0 if k in self.names else 0.0) for k, v in values.items()}
        weight_ng = None
        if self.averaged:
            n_groups = len(model.groups)
            weight_ng = torch.full((len(batch.group), n_groups), 1.0 / n_groups)
        parts = model.decode(values, batch.group, batch.covariates, weight_ng)
        return model.likelihood.expression(parts)


@torch.no_grad()
def expression_draws(
    mgvi,
    adata,
    latents: Sequence[str] | str | None = None,
    genes: Sequence[str] | None = None,
    n_draws: int = 25,
    seed: int = 0,
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
        Names of the latents to decode with, the others at zero; all by default. Without a
        group-specific one the groups' offsets are averaged ("shared only").
    genes
        Genes to return; all by default.
    n_draws
        Draws of each cell's latents from its posterior, at least 2.
    seed
        Of the draws.

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
    >>> from pyro_mgvi.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> mgvi.fit(adata, max_epochs=2, progress=False)
    >>> mean, std = expression_draws(mgvi, adata, latents="z", n_draws=5)
    >>> mean.shape, bool((std > 0).all().all())
    ((120, 80), True)
    """
    if n_draws < 2:
        raise SettingsError(f"n_draws must be at least 2, not {n_draws}")
    chosen = Chosen.of(mgvi.model, latents)
    genes = list(mgvi.schema.genes) if genes is None else list(genes)
    position = gene_positions(mgvi, genes)
    data, generator = mgvi.read(adata), torch.Generator().manual_seed(seed)
    mean, std = (np.empty((len(data), len(genes)), np.float32) for _ in range(2))
    for cells, batch in mgvi._batches(data):
        total, squares = 0.0, 0.0
        for _ in range(n_draws):
            draw = chosen.decode(mgvi.model, _draw(mgvi, batch, generator), batch)
            draw = draw[:, position].double()
            total, squares = total + draw, squares + draw**2
        mean[cells] = (total / n_draws).numpy()
        variance = (squares - total**2 / n_draws) / (n_draws - 1)
        std[cells] = variance.clamp(min=0).sqrt().numpy()
    index = adata.obs_names if hasattr(adata, "obs_names") else None
    return tuple(pd.DataFrame(table, index=index, columns=genes) for table in (mean, std))


@torch.no_grad()
def differential_expression(
    mgvi,
    adata,
    first,
    second,
    latents: Sequence[str] | str | None = None,
    n_pairs: int = 5000,
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
        Each the name of a group, or a boolean mask over all cells.
    latents
        As for :func:`expression_draws`.
    n_pairs
        Pairs of cells to draw.
    threshold
        Absolute log2 fold change from which a gene counts as different between two cells.
    seed
        Of pairs and draws.

    Returns
    -------
    One row per gene, most probable difference first, with the columns ``gene``; ``mean_first``
    and ``mean_second``, expected counts per 10,000; ``log_fold_change``, the mean of the log2 of
    first by second over pairs, and ``log_fold_change_std``; and ``probability`` of an absolute log
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
    >>> from pyro_mgvi.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> mgvi.fit(adata, max_epochs=2, progress=False)
    >>> is_type_1 = (adata.obs["celltype"] == "T1").to_numpy()
    >>> table = differential_expression(mgvi, adata, is_type_1, ~is_type_1, latents="z", n_pairs=50)
    >>> table.shape
    (80, 6)
    """
    if not getattr(mgvi.model.likelihood, "counts_only", True):
        raise SettingsError("fold changes need a likelihood of counts: ZINB, NB or Poisson")
    if n_pairs < 2 or threshold < 0:
        raise SettingsError(f"need n_pairs >= 2, threshold >= 0; not {n_pairs}, {threshold}")
    chosen, data = Chosen.of(mgvi.model, latents), mgvi.read(adata)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    sides = [
        data.subset(rng.choice(_cells(data, which, name), n_pairs))
        for which, name in ((first, "first"), (second, "second"))
    ]
    sums = {name: 0.0 for name in ("first", "second", "lfc", "squares", "beyond")}
    for (_, one), (_, two) in zip(*map(mgvi._batches, sides), strict=True):
        shares = [
            chosen.decode(mgvi.model, _draw(mgvi, batch, generator), batch).double()
            for batch in (one, two)
        ]
        lfc = (shares[0] / shares[1]).log2()
        parts = (shares[0], shares[1], lfc, lfc**2, (lfc.abs() > threshold).double())
        sums = {k: total + part.sum(0).numpy() for (k, total), part in zip(sums.items(), parts)}
    mean = {k: total / n_pairs for k, total in sums.items()}
    table = pd.DataFrame(
        {
            "gene": mgvi.schema.genes,
            "mean_first": 1e4 * mean["first"],
            "mean_second": 1e4 * mean["second"],
            "log_fold_change": mean["lfc"],
            "log_fold_change_std": np.sqrt(np.maximum(mean["squares"] - mean["lfc"] ** 2, 0)),
            "probability": mean["beyond"],
        }
    )
    order = np.lexsort((-table["log_fold_change"].abs(), -table["probability"]))
    return table.iloc[order].reset_index(drop=True)


def gene_positions(mgvi, genes: Sequence[str]) -> np.ndarray:
    """Return where genes are in the model, or name those that it does not know."""
    position = pd.Index(mgvi.schema.genes).get_indexer(genes)
    if (position < 0).any():
        raise DataError(f"genes not in the model: {checks.some(np.array(genes)[position < 0])}")
    return position


def _draw(mgvi, batch, generator) -> dict[str, Tensor]:
    posteriors = mgvi.guide.posteriors(batch.counts, batch.covariates)
    return {
        latent.name: torch.normal(*posteriors[latent.name], generator=generator)
        for latent in mgvi.model.latents
    }


def _cells(data, which, name: str) -> np.ndarray:
    """Return positions of the cells of a group, or under a mask."""
    if isinstance(which, str):
        groups = data.schema.groups
        if which not in groups:
            known = ", ".join(groups)
            raise DataError(f"group {which!r} is unknown to the model; it knows: {known}")
        mask = data.group_n == groups.index(which)
    else:
        mask = np.asarray(which)
        if mask.dtype != bool or mask.shape != (len(data),):
            raise DataError(
                f"{name} must be the name of a group or a boolean mask over the {len(data)} cells, "
                f"not {mask.dtype} values of shape {mask.shape}"
            )
    if not mask.any():
        raise DataError(f"{name} holds no cell: choose others")
    return np.flatnonzero(mask)
