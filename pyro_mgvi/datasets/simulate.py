"""Splat simulator (Zappia et al. 2017) and the paper's grouped recipe (appendix D), in NumPy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from pyro_mgvi.errors import SettingsError
from pyro_mgvi.support.values import number, whole_number

Seed = int | np.random.Generator | None


@dataclass(frozen=True)
class SplatParams:
    """Parameters of Splatter's group simulation; ``lib_loc`` is Splatter's ``lib.loc``, etc.

    Attributes
    ----------
    mean_shape, mean_rate
        Gamma distribution of the genes' base means.
    out_prob, out_fac_loc, out_fac_scale
        Probability of an outlier gene, and log-normal factor by which it exceeds the median.
    lib_loc, lib_scale
        Log-normal distribution of the library size, in counts.
    de_prob, de_down_prob, de_fac_loc, de_fac_scale
        Probability that a gene is differentially expressed in a type, that it goes down, and
        log-normal factor of the difference.
    bcv_common, bcv_df
        Biological coefficient of variation common to all genes, and chi-square degrees of
        freedom of its spread.
    dropout_mid, dropout_shape
        Logistic drop-out by log mean: midpoint and slope; None for no drop-out (the default).

    Raises
    ------
    SettingsError
        If a probability is not within [0, 1], or a scale is negative or zero.
    """

    mean_shape: float = 0.6
    mean_rate: float = 0.3
    out_prob: float = 0.05
    out_fac_loc: float = 4.0
    out_fac_scale: float = 0.5
    lib_loc: float = 11.0
    lib_scale: float = 0.2
    de_prob: float = 0.1
    de_down_prob: float = 0.5
    de_fac_loc: float = 0.1
    de_fac_scale: float = 0.4
    bcv_common: float = 0.1
    bcv_df: float = 60.0
    dropout_mid: float | None = None
    dropout_shape: float = -1.0

    def __post_init__(self) -> None:
        for name in ("out_prob", "de_prob", "de_down_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name} is a probability, not {getattr(self, name)}")
        for name in ("mean_shape", "mean_rate", "lib_scale", "bcv_df"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("out_fac_scale", "de_fac_scale", "bcv_common"):
            number(name, getattr(self, name), least=0.0)


def splat(
    type_n: np.ndarray, n_genes: int, params: SplatParams, seed: Seed
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Simulate counts of cells whose type is given.

    Parameters
    ----------
    type_n
        Integer type of each cell, from 0.
    n_genes
        Number of genes.
    params
        Splatter's parameters.
    seed
        Seed or :class:`numpy.random.Generator`.

    Returns
    -------
    Counts as CSR (cells x genes, int32), and the DE factors (types x genes).

    Examples
    --------
    >>> counts, factors = splat(np.array([0, 0, 1]), 5, SplatParams(lib_loc=6), seed=0)
    >>> counts.shape, factors.shape
    ((3, 5), (2, 5))
    """
    rng = np.random.default_rng(seed)
    type_n = np.asarray(type_n)
    base = rng.gamma(params.mean_shape, 1 / params.mean_rate, n_genes)
    outlier = rng.random(n_genes) < params.out_prob
    factor = rng.lognormal(params.out_fac_loc, params.out_fac_scale, n_genes)
    mean_g = np.where(outlier, np.median(base) * factor, base)
    n_types = int(type_n.max()) + 1
    de_tg = _de_factors(n_types, n_genes, params, rng)
    library_n = rng.lognormal(params.lib_loc, params.lib_scale, len(type_n))
    spread_g = np.sqrt(params.bcv_df / rng.chisquare(params.bcv_df, n_genes))
    share_tg = de_tg * mean_g
    share_tg /= share_tg.sum(1, keepdims=True)
    blocks = []
    for start in range(0, len(type_n), 1024):  # bounds the memory: never cells x genes at once
        cells = slice(start, start + 1024)
        mean = share_tg[type_n[cells]] * library_n[cells, None]
        bcv = (params.bcv_common + 1 / np.sqrt(mean)) * spread_g
        mean = rng.gamma(1 / bcv**2, mean * bcv**2)
        counts = rng.poisson(mean)
        if params.dropout_mid is not None:
            with np.errstate(divide="ignore"):
                log_odds = -params.dropout_shape * (np.log(mean) - params.dropout_mid)
            counts[rng.random(counts.shape) < 1 / (1 + np.exp(log_odds))] = 0
        blocks.append(sparse.csr_matrix(counts.astype(np.int32)))
    return sparse.vstack(blocks, format="csr"), de_tg


def _de_factors(
    n_types: int, n_genes: int, params: SplatParams, rng: np.random.Generator
) -> np.ndarray:
    shape = (n_types, n_genes)
    factor = rng.lognormal(params.de_fac_loc, params.de_fac_scale, shape)
    down = rng.random(shape) < params.de_down_prob
    # As in Splatter, where a factor below 1 is taken as its inverse before the direction is set.
    factor = np.where(factor < 1, 1 / factor, factor)
    factor = np.where(down, 1 / factor, factor)
    return np.where(rng.random(shape) < params.de_prob, factor, 1.0)


def grouped(
    seed: Seed,
    shared: SplatParams,
    program: SplatParams,
    n_cells: int = 3000,
    n_shared_genes: int = 2000,
    n_program_genes: int = 200,
    n_types: int = 5,
    n_programs: int = 2,
    groups: Sequence[str] | int = 2,
    group_weights: Sequence[float] | None = None,
    pairs: Sequence[tuple[str, str]] = (),
) -> ad.AnnData:
    """Simulate groups of cells with shared types and group-specific programs (appendix D).

    Blocks of genes are simulated independently and put side by side: one for the types, one
    for the programs (each group has ``n_programs`` of its own), and one for each pair of
    groups that shares two programs.

    Parameters
    ----------
    seed
        Seed of everything.
    shared, program
        Splat parameters of the type genes and of the program genes.
    n_cells, n_shared_genes, n_program_genes, n_types, n_programs
        Sizes; ``n_program_genes`` for the programs and again for each pair.
    groups
        Names of the groups, or how many.
    group_weights
        Probability of each group; equal by default.
    pairs
        Pairs of groups that share two programs between them.

    Returns
    -------
    AnnData of counts (CSR, int32), with the truth in ``obs`` (``celltype``, ``group``,
    ``program``, ``pair_<a>+<b>``) and ``var`` (``kind``, ``is_program``, ``DEFac<type>``).

    Raises
    ------
    SettingsError
        If sizes, weights or pairs do not fit the groups.

    Examples
    --------
    >>> shared, program = SplatParams(lib_loc=10.0), SplatParams(lib_loc=7.0, de_prob=0.4)
    >>> adata = grouped(0, shared, program, 60, 40, 10, groups=["a", "b", "c"], pairs=[("a", "b")])
    >>> adata.shape, list(adata.obs["pair_a+b"].cat.categories)
    ((60, 60), ['A', 'B', 'none'])
    """
    rng = np.random.default_rng(seed)
    n_cells, n_types = whole_number("n_cells", n_cells, 1), whole_number("n_types", n_types, 1)
    if isinstance(groups, str) or not isinstance(groups, Iterable):
        groups = [f"group{i + 1}" for i in range(whole_number("groups", groups, least=1))]
    if len(set(groups)) < len(groups):
        raise SettingsError(f"groups have names of their own, not {list(groups)}")
    weights = np.ones(len(groups)) if group_weights is None else np.asarray(group_weights, float)
    if min(len(groups), n_types, n_programs, n_cells) < 1 or n_shared_genes < 1:
        raise SettingsError("groups, types, programs, cells and genes must be at least 1")
    if weights.shape != (len(groups),) or (weights <= 0).any():
        raise SettingsError(f"group_weights needs a positive weight for each of {list(groups)}")
    unknown = sorted({name for pair in pairs for name in pair} - set(groups))
    if unknown:
        raise SettingsError(f"pairs name unknown group(s) {unknown}")
    group_n = rng.choice(len(groups), n_cells, p=weights / weights.sum())
    type_n = rng.integers(n_types, size=n_cells)
    program_n = group_n * n_programs + rng.integers(n_programs, size=n_cells)
    group_names = np.asarray(groups)[group_n]
    obs = {
        "group": group_names,
        "celltype": [f"T{i + 1}" for i in type_n],
        "program": [f"P{i + 1}" for i in program_n],
    }
    blocks = [("shared", "T", type_n, n_shared_genes, shared)]
    blocks.append(("program", "P", program_n, n_program_genes, program))
    for pair in pairs:
        name = f"pair_{'+'.join(pair)}"
        owns = np.isin(group_names, pair)
        copy_n = np.where(owns, 1 + rng.integers(2, size=n_cells), 0)  # 0: neither program
        obs[name] = np.array(["none", "A", "B"])[copy_n]
        blocks.append((name, f"{name}_", copy_n, n_program_genes, program))
    counts, var = [], []
    for kind, prefix, block_n, n_genes, params in blocks:
        if not n_genes:
            continue
        x, factors_tg = splat(block_n, n_genes, params, rng)
        counts.append(x)
        first = 0 if kind.startswith("pair") else 1
        columns = {f"DEFac{prefix}{t + first}": row for t, row in enumerate(factors_tg)}
        var.append(pd.DataFrame({"kind": kind, **columns}))
    genes = pd.concat(var, ignore_index=True).fillna(
        {c: 1.0 for v in var for c in v if c != "kind"}
    )
    genes.index = [
        f"{kind}_{i + 1}" for kind, i in zip(genes.kind, genes.groupby("kind").cumcount())
    ]
    genes["is_program"] = genes.kind == "program"
    cells = pd.DataFrame(obs, index=[f"cell_{i + 1}" for i in range(n_cells)]).astype("category")
    return ad.AnnData(sparse.hstack(counts, format="csr"), obs=cells, var=genes)


def paper_recipe(
    seed: Seed = 0,
    n_cells: int = 10_000,
    n_shared_genes: int = 5000,
    n_program_genes: int = 200,
    n_types: int = 5,
    n_programs: int = 2,
    groups: Sequence[str] | int = 2,
    group_weights: Sequence[float] | None = None,
    pairs: Sequence[tuple[str, str]] = (),
) -> ad.AnnData:
    """Simulate as the paper's appendix D: programs at the limit of what can be detected.

    Parameters
    ----------
    seed, n_cells, n_shared_genes, n_program_genes, n_types, n_programs
        Seed and sizes, as for :func:`grouped`.
    groups, group_weights, pairs
        Groups, their probabilities and pairs of them, as for :func:`grouped`.

    Examples
    --------
    >>> paper_recipe(n_cells=50, n_shared_genes=40, n_program_genes=10).shape
    (50, 50)
    """
    sizes = (n_cells, n_shared_genes, n_program_genes, n_types, n_programs)
    return grouped(
        seed, SplatParams(), SplatParams(lib_loc=6.0), *sizes, groups, group_weights, pairs
    )


def clear_recipe(
    seed: Seed = 0,
    n_cells: int = 3000,
    n_shared_genes: int = 2000,
    n_program_genes: int = 200,
    n_types: int = 5,
    n_programs: int = 2,
    groups: Sequence[str] | int = 2,
    group_weights: Sequence[float] | None = None,
    pairs: Sequence[tuple[str, str]] = (),
) -> ad.AnnData:
    """Simulate the same with visible programs: more of their genes differ, and by more.

    Parameters
    ----------
    seed, n_cells, n_shared_genes, n_program_genes, n_types, n_programs
        Seed and sizes, as for :func:`grouped`.
    groups, group_weights, pairs
        Groups, their probabilities and pairs of them, as for :func:`grouped`.

    Examples
    --------
    >>> adata = clear_recipe(n_cells=50, n_shared_genes=40, n_program_genes=10, groups=3)
    >>> sorted(adata.obs["group"].unique())
    ['group1', 'group2', 'group3']
    """
    program = SplatParams(lib_loc=7.0, de_prob=0.4, de_fac_loc=0.2)
    sizes = (n_cells, n_shared_genes, n_program_genes, n_types, n_programs)
    return grouped(seed, SplatParams(lib_loc=10.0), program, *sizes, groups, group_weights, pairs)
