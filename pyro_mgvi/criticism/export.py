"""Posterior and predictive draws as labelled arrays, for ArviZ 0.x and 1.x."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from anndata import AnnData

from pyro_mgvi.analysis.expression import has_genes
from pyro_mgvi.analysis.gene_effects.samples import sample_effects
from pyro_mgvi.analysis.latent_values import check_foreign, reported
from pyro_mgvi.core import DataKind, Latents
from pyro_mgvi.criticism.arviz_versions import arviz_and_version
from pyro_mgvi.criticism.draws import dense_posteriors, draw, seeded
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.checks import some
from pyro_mgvi.data.names import cell_index, gene_positions
from pyro_mgvi.errors import ChainDiagnosticsWarning, DataError, SettingsError
from pyro_mgvi.support.values import number, whole_number
from pyro_mgvi.training.program import Program, check_model

NOT_A_CHAIN = (
    "These are independent draws from an approximate posterior (the guide), not a Markov chain: "
    "r-hat, effective sample sizes and Monte Carlo errors say nothing about how good the "
    "approximation is. Use arviz.summary(..., kind='stats'), pyro_mgvi.criticism.held_out and "
    "predictive_checks instead."
)
#: Dimensions and variables of the result beside the latents.
NAMES = {
    "chain", "draw", "cell", "gene", "sample", "library", "counts", "group", "measured",
    "log_weight", "sample_effect",
}  # fmt: skip


def to_arviz(
    mgvi: Program,
    adata: AnnData | GroupedCounts,
    n_draws: int = 100,
    genes: Sequence[str] | str | None = None,
    foreign: str = "nan",
    max_bytes: float = 2**30,
    seed: int = 0,
    progress: bool = True,
) -> Any:
    """Return posterior and predictive draws as an ArviZ object.

    One draw of all latents of all cells is one draw of the one chain. The weights of the model
    are point estimates and do not vary.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`), (n, genes).
    n_draws
        Number of draws.
    genes
        Genes of ``posterior_predictive`` and ``observed_data``; all by default. The
        log-likelihood is always that of all genes.
    foreign
        What to report of a copy for cells that do not own it, as for
        :meth:`MGVI.latents <pyro_mgvi.MGVI.latents>`: ``"nan"``, ``"zero"`` or ``"encode"``.
    max_bytes
        Bound on the size of the result, in bytes. Beside it, a minibatch of cells is held.
    seed
        Seed of the draws.
    progress
        Show a progress bar.

    Returns
    -------
    An ``InferenceData`` (ArviZ 0.x) or ``DataTree`` (1.x) with the groups

    ``posterior``
        Each latent: (chain, draw, cell, ``<name>_dimension``), for a family of several copies
        (chain, draw, cell, ``<name>_subset``, ``<name>_dimension``); ``library`` (chain, draw,
        cell), in counts, unless it is observed or the data are transformed.
    ``posterior_predictive``, ``observed_data``
        ``counts``: (chain, draw, cell, gene) and (cell, gene). Predictive draws are of the
        same cells: each keeps its own posterior.
    ``log_likelihood``
        ``counts``: (chain, draw, cell), nats, given the cell's latents.
    ``sample_stats``
        ``log_weight``: (chain, draw, cell), nats, log joint of values and latents minus log
        density of the guide. Its mean over draws is the cell's ELBO (with Kullback-Leibler
        divergences of weight 1), the log of the mean of its exponential the bound of
        :func:`~pyro_mgvi.criticism.held_out`.
    ``constant_data``
        ``group``: the cells' groups; with feature masks, or where cells lack a modality,
        ``measured``: which cell has which gene. Counts of the others are zeros and mean nothing.
        Where samples have effects, these:
        ``sample_effect`` (sample, gene), at their posterior means, as all draws have them.

    Raises
    ------
    SettingsError
        If the result would be larger than ``max_bytes``, saying how many draws, cells or genes
        would fit; if ``n_draws`` or ``foreign`` is invalid, or a latent has a name that the result
        uses otherwise, such as ``"draw"``.
    DataError
        If a gene is unknown, or cell names repeat.

    Warns
    -----
    ChainDiagnosticsWarning
        Always: chain diagnostics do not apply. The same text is the attribute ``warning`` of
        ``posterior``.

    Notes
    -----
    ``arviz.loo`` of this object estimates each cell's marginal likelihood by the harmonic mean
    over draws, because leaving out a cell leaves nothing but the prior of its latents. Its
    Pareto k say so: expect most of them above 0.7. To compare models, use
    :func:`~pyro_mgvi.criticism.compare`.

    Examples
    --------
    >>> import warnings
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=40, n_shared_genes=30, n_program_genes=10)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", ChainDiagnosticsWarning)
    ...     data = to_arviz(mgvi, adata, n_draws=5, progress=False)
    >>> data["posterior"]["t"].dims
    ('chain', 'draw', 'cell', 't_subset', 't_dimension')
    >>> data["posterior"]["t"].sel(t_subset="group2", t_dimension="t_1").shape
    (1, 5, 40)
    """
    check_model(mgvi)
    n_draws, seed = whole_number("n_draws", n_draws, least=1), whole_number("seed", seed, least=0)
    max_bytes = number("max_bytes", max_bytes, least=0.0)
    check_foreign(foreign)
    data, families = mgvi.read_for_results(adata), mgvi.families
    ours = NAMES | {f"{x.name}_{what}" for x in families for what in ("dimension", "subset")}
    if taken := [latent.name for latent in families if latent.name in ours]:
        raise SettingsError(
            f"the name of latent {taken[0]!r} is that of a dimension or variable of the result: "
            f"build the model with another, such as shared(10, name='z_{taken[0]}')"
        )
    cells_ = cell_index(data)
    if not cells_.is_unique:
        twice = some(cells_[cells_.duplicated()].unique())
        raise DataError(f"duplicate cell names: {twice}; call adata.obs_names_make_unique() first")
    names, position = gene_positions(mgvi.schema, genes)
    check_size(families, n_draws, len(data), len(names), max_bytes)

    n, kind = len(data), np.int32 if mgvi.data_kind is DataKind.COUNTS else np.float32
    posterior = {x.name: np.empty((n_draws, n, x.n_copies, x.dim), np.float32) for x in families}
    if mgvi.guide.has_library:
        posterior["library"] = np.empty((n_draws, n), np.float32)
    predicted = np.empty((n_draws, n, len(names)), kind)
    log_likelihood, log_weight = np.empty((n_draws, n)), np.empty((n_draws, n))
    observed, measured = np.empty((n, len(names)), kind), np.ones((n, len(names)), bool)
    with seeded(seed):
        for cells, found in dense_posteriors(mgvi, data, progress, "draws"):
            counts = mgvi.model.likelihood.observed(found.batch.counts)
            observed[cells] = counts.cpu().numpy()[:, position]
            if (has_ng := has_genes(mgvi.model, found.batch)) is not None:
                measured[cells] = has_ng.cpu().numpy()[:, position]
            for i in range(n_draws):
                drawn = draw(found)
                for name, value_snd in drawn.latents.items():
                    shown = reported(value_snd, found.owned(name), foreign)
                    posterior[name][i, cells] = shown.transpose(0, 1).cpu().numpy()
                if drawn.log_library is not None and mgvi.guide.has_library:
                    posterior["library"][i, cells] = drawn.log_library.exp().cpu().numpy()
                predicted[i, cells] = drawn.counts.sample().cpu().numpy()[:, position]
                log_p = drawn.counts.log_prob(counts).double()
                log_likelihood[i, cells] = log_p.cpu().numpy()
                log_weight[i, cells] = (log_p + drawn.log_ratio).cpu().numpy()

    # The log-likelihood has no genes: ArviZ leaves out trailing dims there.
    dims = {"library": ["cell"], "log_weight": ["cell"], "group": ["cell"]}
    dims["counts"] = dims["measured"] = ["cell", "gene"]
    coords: dict[str, np.ndarray | list[str]] = {"cell": cells_.to_numpy(), "gene": names}
    for latent in families:
        subset, dimension = f"{latent.name}_subset", f"{latent.name}_dimension"
        coords[dimension] = [f"{latent.name}_{i + 1}" for i in range(latent.dim)]
        dims[latent.name] = ["cell", dimension]
        if latent.n_copies > 1:
            coords[subset] = list(latent.labels)
            dims[latent.name] = ["cell", subset, dimension]
        else:
            posterior[latent.name] = posterior[latent.name][:, :, 0]
    groups: dict[str, dict[str, np.ndarray]] = {
        "posterior": {name: value[None] for name, value in posterior.items()},
        "posterior_predictive": {"counts": predicted[None]},
        "log_likelihood": {"counts": log_likelihood[None]},
        "sample_stats": {"log_weight": log_weight[None]},
        "observed_data": {"counts": observed},
        "constant_data": {"group": np.asarray(mgvi.schema.groups)[data.group_n]},
    }
    if mgvi.schema.absent or not measured.all():  # zeros of genes that a cell has not mean nothing
        groups["constant_data"]["measured"] = measured
    if mgvi.schema.samples:
        effects = sample_effects(mgvi)[names]
        groups["constant_data"]["sample_effect"] = effects.to_numpy()
        dims["sample_effect"], coords["sample"] = ["sample", "gene"], list(effects.index)
    warnings.warn(NOT_A_CHAIN, ChainDiagnosticsWarning, stacklevel=2)
    return _pack(groups, coords, dims)


def _pack(
    groups: dict[str, dict[str, np.ndarray]],
    coords: dict[str, np.ndarray | list[str]],
    dims: dict[str, list[str]],
) -> Any:
    """Return an ArviZ object of either major version."""
    attrs = {"inference_library": "pyro_mgvi", "warning": NOT_A_CHAIN}
    arviz, version = arviz_and_version()
    if version == 0:
        data = arviz.from_dict(**groups, coords=coords, dims=dims)
    else:  # the call of 0.x would not fail here, nor this one there: both build nonsense
        data = arviz.from_dict(groups, coords=coords, dims=dims)
    data["posterior"].attrs.update(attrs)
    return data


def check_size(
    latents: Latents, n_draws: int, n_cells: int, n_genes: int, max_bytes: float
) -> None:
    """Refuse a result above ``max_bytes``.

    Raises
    ------
    SettingsError
        Saying how many draws, cells or genes would fit, each with the others as asked.
    """
    n_latents = latents.n_dims
    per_draw = 4 * (n_latents + 1 + n_genes) + 2 * 8  # bytes per cell and draw
    per_cell = 4 * n_genes  # observed
    size = n_cells * (n_draws * per_draw + per_cell)
    if size <= max_bytes:
        return
    bytes_of_a_cell = int(max_bytes) // n_cells
    fits = {
        "draws": (bytes_of_a_cell - per_cell) // per_draw,
        "cells": int(max_bytes) // (n_draws * per_draw + per_cell),
        "genes": (bytes_of_a_cell - n_draws * (per_draw - 4 * n_genes)) // (4 * (n_draws + 1)),
    }
    asked = {"draws": n_draws, "cells": n_cells, "genes": n_genes}
    ways = [f"{fit} {what}" for what, fit in fits.items() if 1 <= fit < asked[what]]
    raise SettingsError(
        f"{n_draws} draws of {n_cells} cells and {n_genes} genes take {size / 2**20:,.1f} MiB, "
        f"more than max_bytes = {max_bytes / 2**20:,.1f} MiB: "
        + (f"take at most {', or '.join(ways)}; or raise max_bytes" if ways else "raise max_bytes")
    )
