"""Simulated cells with two modalities, and the truth of what each of them alone shows."""

from __future__ import annotations

import warnings
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.special import logsumexp

from pyro_mgvi.support.optional import require
from pyro_mgvi.support.values import whole_number

DEPTHS = {"rna": 2000.0, "prot": 800.0}  # counts of the median cell
#: States of each program, and the share of each modality's features that follow it.
PROGRAMS = {
    "shared": (4, {"rna": 0.2, "prot": 0.3}),
    "rna_only": (3, {"rna": 0.15}),
    "prot_only": (3, {"prot": 0.3}),
    "private": (3, {"rna": 0.15, "prot": 0.2}),
}
GROUPS = ("group1", "group2")  # the second has the private program
CHANGE = 0.8  # standard deviation of a log fold change
DISPERSION = 10.0  # inverse, of the counts


def two_modalities(
    seed: int = 0, n_cells: int = 1000, n_genes: int = 300, n_proteins: int = 40
) -> Any:
    """Simulate a MuData of RNA and proteins with a shared, two own and a private program.

    Programs are independent of each other, each with states of equal probability and features of
    its own. ``obs`` has the state of each: ``shared`` shows in both modalities and all cells,
    ``rna_only`` and ``prot_only`` in one modality, ``private`` in both modalities of the cells of
    ``group2``. Counts are negative binomial, at a depth of each modality and cell.

    Parameters
    ----------
    seed
        Of everything random.
    n_cells, n_genes, n_proteins
        Size; the cells are split evenly over two groups.

    Returns
    -------
    MuData with the modalities ``rna`` and ``prot``; ``uns["ceiling"]`` has the accuracy of each
    program's most likely state under the true parameters, which nothing can pass.

    Raises
    ------
    SettingsError
        If a number is too small, or mudata cannot be imported.

    Examples
    --------
    >>> mdata = two_modalities(n_cells=40, n_genes=50, n_proteins=20)
    >>> {name: part.shape for name, part in mdata.mod.items()}
    {'rna': (40, 50), 'prot': (40, 20)}
    """
    mudata = require("mudata", "mudata")
    n_cells = whole_number("n_cells", n_cells, least=20)
    sizes = {
        "rna": whole_number("n_genes", n_genes, least=20),
        "prot": whole_number("n_proteins", n_proteins, least=20),
    }
    rng = np.random.default_rng(whole_number("seed", seed, least=0))
    group_n = np.arange(n_cells) % len(GROUPS)
    states = {name: rng.integers(n, size=n_cells) for name, (n, _) in PROGRAMS.items()}
    states["private"][group_n == 0] = -1
    combinations = np.array([*product(*(range(n) for n, _ in PROGRAMS.values()))])
    parts, log_p = {}, np.zeros((n_cells, len(combinations)))
    for modality, size in sizes.items():
        base_g = rng.normal(0, 1, size) + np.log(DEPTHS[modality] / size)
        effects = _effects(rng, modality, size)
        depth_n = rng.lognormal(0, 0.25, n_cells)
        mean_ng = np.exp(base_g + sum(effects[name][states[name]] for name in PROGRAMS))
        mean_ng *= depth_n[:, None]
        rate_ng = rng.gamma(DISPERSION, 1 / DISPERSION, mean_ng.shape) * mean_ng
        x_ng = rng.poisson(rate_ng)
        log_p = log_p + _log_likelihoods(x_ng, base_g, effects, depth_n, combinations)
        var = pd.DataFrame({f"is_{name}": effects[name].any(0) for name in PROGRAMS})
        var.index = [f"{modality}{g}" for g in range(size)]
        parts[modality] = AnnData(sparse.csr_matrix(x_ng, dtype=np.float32), var=var)
    names = [f"cell{n}" for n in range(n_cells)]
    for part in parts.values():
        part.obs_names = names
    with warnings.catch_warnings():  # of what a later mudata will do, and nothing here needs
        warnings.simplefilter("ignore", FutureWarning)
        mdata = mudata.MuData(parts)
    mdata.obs["group"] = pd.Categorical(np.array(GROUPS)[group_n])
    for name, state_n in states.items():
        text_n = np.where(state_n < 0, "none", state_n.astype(str))
        mdata.obs[name] = pd.Categorical(text_n)
    mdata.uns["ceiling"] = _ceilings(log_p, combinations, states)
    return mdata


def _effects(rng: np.random.Generator, modality: str, size: int) -> dict[str, np.ndarray]:
    """Return log fold changes of each program's states; the last row is of cells without it."""
    free, effects = rng.permutation(size), {}
    for name, (n_states, shares) in PROGRAMS.items():
        n = round(shares.get(modality, 0.0) * size)
        mine, free = free[:n], free[n:]
        effects[name] = np.zeros((n_states + 1, size))
        effects[name][:n_states, mine] = rng.normal(0, CHANGE, (n_states, n))
    return effects


def _log_likelihoods(
    x_ng: np.ndarray,
    base_g: np.ndarray,
    effects: dict[str, np.ndarray],
    depth_n: np.ndarray,
    combinations: np.ndarray,
) -> np.ndarray:
    """Return the log-likelihood of each cell in each combination of states, up to a constant."""
    found = np.empty((len(x_ng), len(combinations)))
    for i, states in enumerate(combinations):
        log_g = base_g + sum(effects[name][state] for name, state in zip(PROGRAMS, states))
        mean_ng = depth_n[:, None] * np.exp(log_g)
        odds_ng = np.log(mean_ng / (mean_ng + DISPERSION))
        found[:, i] = (x_ng * odds_ng - DISPERSION * np.log1p(mean_ng / DISPERSION)).sum(1)
    return found


def _ceilings(
    log_p: np.ndarray, combinations: np.ndarray, states: dict[str, np.ndarray]
) -> dict[str, float]:
    """Return how often the most likely state of each program is the true one."""
    found = {}
    for k, (name, true_n) in enumerate(states.items()):
        of_state = [
            logsumexp(log_p[:, combinations[:, k] == state], 1)
            for state in range(combinations[:, k].max() + 1)
        ]
        has_n = true_n >= 0
        guess_n = np.argmax(np.column_stack(of_state), 1)
        found[name] = float((guess_n == true_n)[has_n].mean())
    return found
