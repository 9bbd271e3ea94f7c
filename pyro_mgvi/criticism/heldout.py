"""Held-out log-likelihood of cells by importance weighting, and variants compared by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.special import logsumexp

from pyro_mgvi.criticism.arviz_versions import arviz_and_version
from pyro_mgvi.criticism.draws import dense_posteriors, draw, seeded
from pyro_mgvi.criticism.measure import measure_of
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.names import cell_index
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.support.values import whole_number
from pyro_mgvi.training.program import Program, check_model


@dataclass(frozen=True)
class HeldOut:
    """Log-likelihood of each cell with its latents integrated out, in nats.

    Attributes
    ----------
    log_marginal_n
        Estimate of log p(values of the cell), from below in expectation.
    elbo_n
        What a single draw gives on average: the ELBO with Kullback-Leibler divergences.
    doubling_n
        What the last doubling of the samples added: near zero where the estimate has converged.
    ess_n
        Effective number of draws, 1 to ``n_draws``: 1 if a single one has all the weight.
    n_draws
        Draws per cell.
    cells
        Names of the cells.
    measure
        What the numbers are densities of; only equal ones can be compared.
    """

    log_marginal_n: np.ndarray
    elbo_n: np.ndarray
    doubling_n: np.ndarray
    ess_n: np.ndarray
    n_draws: int
    cells: np.ndarray
    measure: dict[str, object]

    @property
    def monte_carlo_error(self) -> float:
        """Standard error of the sum over cells that finitely many samples cause, in nats."""
        return float(np.sqrt(np.sum(1 / self.ess_n - 1 / self.n_draws)))


def held_out(
    mgvi: Program,
    adata: AnnData | GroupedCounts,
    n_draws: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> HeldOut:
    r"""Estimate the log-likelihood of cells, latents integrated out, by importance weighting.

    .. math:: \log \frac{1}{K} \sum_k \frac{p(x, z_k, t_k, l_k)}{q(z_k, t_k, l_k | x)}

    with the guide as proposal: in expectation a lower bound that grows with the number of
    samples towards :math:`\log p(x)`, from the ELBO at K = 1 (Burda et al. 2016, "Importance
    weighted autoencoders"). Copies that a cell does not own do not enter.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`) of cells that the model was not
        trained on. The validation cells of :meth:`~pyro_mgvi.MGVI.fit` chose its weights: hold
        others out.
    n_draws
        Draws per cell, an even number.
    seed
        Seed of the draws.
    progress
        Show a progress bar.

    Raises
    ------
    SettingsError
        If ``n_draws`` is not a positive even number.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=60, n_shared_genes=30, n_program_genes=10)
    >>> mgvi = MGVI.from_anndata(adata[:40], group_key="group")
    >>> _ = mgvi.fit(adata[:40], max_epochs=2, progress=False)
    >>> score = held_out(mgvi, adata[40:], n_draws=20, progress=False)
    >>> score.log_marginal_n.shape, bool((score.log_marginal_n >= score.elbo_n).all())
    ((20,), True)
    """
    check_model(mgvi)
    n_draws, seed = whole_number("n_draws", n_draws, least=2), whole_number("seed", seed, least=0)
    if n_draws % 2:
        raise SettingsError(f"n_draws must be even (halves tell convergence), not {n_draws}")
    data = mgvi.read_for_results(adata)
    log_marginal_n, elbo_n, doubling_n, ess_n = np.empty((4, len(data)))
    with seeded(seed):
        for cells, posterior in dense_posteriors(mgvi, data, progress, "held-out likelihood"):
            log_weight_kn = np.empty((n_draws, len(cells)))
            for log_weight_n in log_weight_kn:
                drawn = draw(posterior)
                log_p = drawn.counts.log_prob(posterior.batch.counts)
                log_weight_n[:] = (log_p.double() + drawn.log_ratio).cpu().numpy()
            total = log_mean_exp(log_weight_kn)
            halves = log_mean_exp(log_weight_kn.reshape(2, n_draws // 2, -1), axis=1)
            log_marginal_n[cells] = total
            elbo_n[cells] = log_weight_kn.mean(0)
            doubling_n[cells] = total - halves.mean(0)
            log_ess_n = 2 * logsumexp(log_weight_kn, axis=0) - logsumexp(2 * log_weight_kn, axis=0)
            ess_n[cells] = np.clip(np.exp(log_ess_n), 1, n_draws)  # but for rounding errors
    names = cell_index(data).to_numpy()
    return HeldOut(log_marginal_n, elbo_n, doubling_n, ess_n, n_draws, names, measure_of(mgvi))


def compare(
    models: Mapping[str, Program | HeldOut],
    adata: AnnData | GroupedCounts | None = None,
    n_draws: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Compare models by the log-likelihood of the same held-out cells.

    Differences are paired: cells differ in their log-likelihood far more than models do.

    Parameters
    ----------
    models
        Trained models (or results of :func:`held_out`) by name.
    adata
        Cells that none of the models was trained on; needed if there are models.
    n_draws, seed, progress
        As for :func:`held_out`.

    Returns
    -------
    One row per model, best first, in nats: ``elpd`` (sum over cells) and its standard error
    ``se``; ``per_cell``; ``difference`` to the best one and its paired standard error
    ``difference_se``, over cells as independent units (cells of one donor are not: the real
    uncertainty is larger); ``monte_carlo_error`` of ``elpd``; ``doubling``, what the last
    doubling of the samples added per cell; ``ess``, the median effective number of samples.
    A difference that is not large beside ``doubling`` times the number of cells may be one of
    the guides, not of the models.

    Raises
    ------
    SettingsError
        If the models' likelihoods are not of the same thing: other genes, another layer, counts
        against transformed data, or an observed against a latent library; or not of the same cells.

    Examples
    --------
    >>> from pyro_mgvi import MGVI, NB, ZINB
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=60, n_shared_genes=30, n_program_genes=10)
    >>> models = {}
    >>> for likelihood in (NB, ZINB):
    ...     mgvi = MGVI.from_anndata(adata[:40], group_key="group", likelihood=likelihood)
    ...     _ = mgvi.fit(adata[:40], max_epochs=2, progress=False)
    ...     models[likelihood.__name__] = mgvi
    >>> table = compare(models, adata[40:], n_draws=20, progress=False)
    >>> sorted(table.index), float(table["difference"].iloc[0])
    (['NB', 'ZINB'], 0.0)
    """
    scores = _scores(models, adata, n_draws, seed, progress)
    best = max(scores.values(), key=lambda score: score.log_marginal_n.sum())
    rows = {}
    for name, score in scores.items():
        gap_n = score.log_marginal_n - best.log_marginal_n
        rows[name] = {
            "elpd": score.log_marginal_n.sum(),
            "se": _standard_error(score.log_marginal_n),
            "per_cell": score.log_marginal_n.mean(),
            "difference": gap_n.sum(),
            "difference_se": _standard_error(gap_n),
            "monte_carlo_error": score.monte_carlo_error,
            "doubling": score.doubling_n.mean(),
            "ess": np.median(score.ess_n),
        }
    return pd.DataFrame.from_dict(rows, orient="index").sort_values("elpd", ascending=False)


def elpds(
    models: Mapping[str, Program | HeldOut],
    adata: AnnData | GroupedCounts | None = None,
    n_draws: int = 200,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Return ``ELPDData`` of each model, for ``arviz.compare`` and its plot, by name.

    Pointwise values are relative to the best model of each cell. ArviZ's stacking takes their
    exponential, and that of a whole cell's log-likelihood (a thousand nats below zero) is zero
    in double precision; differences, their standard errors and weights do not depend on it.

    Parameters are those of :func:`compare`.

    Examples
    --------
    >>> import numpy as np
    >>> scores = {
    ...     name: HeldOut(x, x, 0 * x, 1 + 0 * x, 2, np.arange(3), {})
    ...     for name, x in {"a": np.array([-9.0, -8, -7]), "b": np.array([-9.5, -8, -8])}.items()
    ... }
    >>> round(elpds(scores)["b"]["se"], 3)
    0.707
    """
    arviz, version = arviz_and_version()
    import xarray

    scores = _scores(models, adata, n_draws, seed, progress)
    best_n = np.max([score.log_marginal_n for score in scores.values()], axis=0)
    results = {}
    for name, score in scores.items():
        gap_n = score.log_marginal_n - best_n
        shared = {
            "se": _standard_error(gap_n),
            "n_samples": score.n_draws,
            "n_data_points": len(gap_n),
            "warning": False,
            "scale": "log",
            "good_k": 0.7,
        }
        point = xarray.DataArray(gap_n, dims="cell", coords={"cell": score.cells})
        if version == 0:
            own = {"elpd_loo": gap_n.sum(), "p_loo": 0.0, "loo_i": point}
            results[name] = arviz.ELPDData(pd.Series({**own, **shared}, dtype=object))
        else:
            from arviz_stats.utils import ELPDDataLOO

            results[name] = ELPDDataLOO(elpd=gap_n.sum(), p=0.0, elpd_i=point, **shared)
    return results


def _scores(
    models: Mapping[str, Program | HeldOut],
    adata: AnnData | GroupedCounts | None,
    n_draws: int,
    seed: int,
    progress: bool,
) -> dict[str, HeldOut]:
    """Return the scores of all models, of the same cells and the same measure."""
    if not isinstance(models, Mapping) or not models:
        raise SettingsError('no model to compare: pass models by name, {"name": mgvi, ...}')
    missing = [name for name, model in models.items() if not isinstance(model, HeldOut)]
    if missing and adata is None:
        raise SettingsError(f"models {missing} need held-out cells: give adata")
    scores = {
        name: model
        if isinstance(model, HeldOut)
        else held_out(model, adata, n_draws, seed, progress)
        for name, model in models.items()
    }
    (first_name, first), *others = scores.items()
    for name, score in others:
        if not np.array_equal(score.cells, first.cells):
            raise SettingsError(f"{first_name!r} and {name!r} were scored on other cells")
        differs = [key for key in first.measure if first.measure[key] != score.measure[key]]
        if differs:
            raise SettingsError(
                f"{first_name!r} and {name!r} cannot be compared: their likelihoods differ in "
                f"{', '.join(differs)}, so they are not of the same thing"
            )
    return scores


def log_mean_exp(log_weight: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return the log of the mean of the exponentials along an axis."""
    log_mean: np.ndarray = logsumexp(log_weight, axis=axis) - np.log(log_weight.shape[axis])
    return log_mean


def _standard_error(value_n: np.ndarray) -> float:
    """Return the standard error of the sum of independent values."""
    return float(np.sqrt(len(value_n) * np.var(value_n)))
