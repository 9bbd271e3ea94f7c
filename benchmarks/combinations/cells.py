"""A hundred cells or so, and the forms in which somebody may have them."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from benchmarks.combinations.factors import ABSENT, FACTORS, FIRST, MASKS, SECOND, THIRD, of_counts
from benchmarks.combinations.pairs import Configuration

GENES = 36
# So many of one group that each half of its cells has q-values; the last group comes later.
SIZES = {FIRST: 34, SECOND: 70, THIRD: 32}
NEW = {"new": 14}
EMPTY = (40, 120)  # cells without a count


def labels(sizes: dict[str, int]) -> pd.DataFrame:
    """Return groups, donors and the like of cells, in no order."""
    rng = np.random.default_rng(len(sizes))
    group_n = rng.permutation(np.repeat(list(sizes), list(sizes.values())))
    n = np.arange(len(group_n))
    return pd.DataFrame(
        {
            "region": group_n,
            "donor": np.where(n % 2, "d1", "d2"),
            "animal": [f"animal {i % 4}" for i in n],
            "age": rng.normal(50.0, 9.0, len(n)),
            "sex": pd.Categorical(np.where(n % 3, "f", "m")),
            "type": np.where(n % 5 < 2, "A", "B"),
        },
        index=[f"{'-'.join(sizes)[:3]}{i}" for i in n],
    )


def simulated(obs: pd.DataFrame, mean: float) -> np.ndarray:
    """Return counts of two types, and of a program of its own in each group."""
    rng = np.random.default_rng(1)
    rate_ng = np.tile(mean * rng.lognormal(0.0, 0.4, GENES), (len(obs), 1))
    rate_ng[:, :8] *= np.where(obs["type"] == "A", 2.5, 0.5)[:, None]
    for code, group in enumerate((FIRST, SECOND, THIRD, "new")):
        on_n = (obs["region"] == group) & (rng.random(len(obs)) < 0.5)
        rate_ng[np.ix_(on_n, 10 + 6 * code + np.arange(6))] *= 6
    counts_ng = rng.poisson(rng.gamma(8.0, rate_ng / 8.0)).astype(np.float32)
    counts_ng[np.arange(len(obs)), rng.integers(GENES, size=len(obs))] += 1  # no cell is empty
    return counts_ng


def log_shares(counts_ng: np.ndarray) -> np.ndarray:
    """Return normalised counts, as for a Gaussian likelihood: zeros stay zeros."""
    total_n1 = np.maximum(counts_ng.sum(1, keepdims=True), 1)
    return np.log1p(10 * counts_ng / total_n1).astype(np.float32)


def masked(chosen: Configuration) -> bool:
    """Return whether groups lack genes."""
    return bool(FACTORS["genes"][chosen["genes"]])


def measured(group_n: np.ndarray) -> np.ndarray:
    """Return which genes a cell of each group has, where groups lack some."""
    has = {group: ~np.isin(np.arange(GENES), list(genes)) for group, genes in ABSENT.items()}
    return np.array([has[group] for group in group_n])


def whole_or_not(values: np.ndarray) -> bool:
    """Return whether values are counts."""
    return bool((values >= 0).all() and (values == np.floor(values)).all())


def cells(chosen: Configuration, folder: Path, sizes: dict[str, int] = SIZES) -> ad.AnnData:
    """Return the cells of a configuration, in its form.

    Parameters
    ----------
    chosen
        The configuration.
    folder
        Where a file may be written.
    sizes
        Number of cells of each group.
    """
    obs = labels(sizes)
    counts_ng = simulated(obs, FACTORS["counts"][chosen["counts"]])
    if chosen["empty cells"] != "none" and len(obs) > max(EMPTY):
        counts_ng[list(EMPTY)] = 0
    if masked(chosen):
        counts_ng = counts_ng * measured(obs["region"].to_numpy(str))
    meant, other = counts_ng, log_shares(counts_ng)
    if not of_counts(chosen):
        meant, other = other, meant
    path = folder / f"cells_{len(obs)}_{len(list(folder.iterdir()))}.h5ad"
    return in_form(meant, other, obs, chosen["matrix"], chosen["place"], path)


def in_form(
    meant: np.ndarray, other: np.ndarray, obs: pd.DataFrame, matrix: str, place: str, path: Path
) -> ad.AnnData:
    """Return values as a matrix of some kind, at some place of an AnnData.

    ``other`` values are at the places that are not asked for.
    """
    x = meant.copy() if matrix == "dense" else sparse.csr_matrix(meant)
    has = {MASKS[group]: measured(np.array([group]))[0] for group in ABSENT}
    var = pd.DataFrame(has, index=[f"gene{i}" for i in range(GENES)])
    if place == "X":
        adata = ad.AnnData(x, obs.copy(), var)
    elif place == "layer":
        adata = ad.AnnData(other.copy(), obs.copy(), var, layers={"counts": x})
    else:
        adata = ad.AnnData(other[:, :-3].copy(), obs.copy(), var.iloc[:-3])
        adata.raw = ad.AnnData(x, obs.copy(), var)
    if matrix != "backed":
        return adata
    adata.write_h5ad(path)
    return ad.read_h5ad(path, backed="r")
