"""Do q-values hold for new donors? Healthy donors split at random, and two data sets with effects.

    python -m benchmarks.donors null ONEK1K.h5ad --donors 6 8 --splits 5 --out DIR
    python -m benchmarks.donors effects PIG.h5ad --sample sample --group CFTRKO --out DIR
    python -m benchmarks.donors effects KANG.h5ad --sample donor --group stim --out DIR

``null`` draws donors (``obs["donor"]``) and halves them at random: every gene that is called is a
false call. With ``--planted 40``, the counts of as many genes (of 0.2 counts per cell or more) are
thinned to half in the second half's donors, and true calls are counted, too. ``effects`` takes the
groups of ``obs["group"]``. Each is done without ``sample_key``, with it, and with sample effects
in the model, beside a Wilcoxon test of cells and a moderated t test of each donor's sums. Rows are
written to DIR/donors.csv as they come:
what is there is not run again.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.stats import false_discovery_control, mannwhitneyu, norm
from scipy.stats import t as student

from pyro_mgvi import MGVI, DataWarning, cross_fit
from pyro_mgvi.analysis.metrics import log_shares
from pyro_mgvi.analysis.sample_tests import squeezed

KEYS = ["data", "donors", "planted", "split"]
LEAST_MEAN = 0.2  # counts per cell of a gene that is planted: rarer ones nobody finds
LEAST_CELLS = 3  # with a gene, for it to be tested at all


def expressed(adata: ad.AnnData) -> ad.AnnData:
    """Return the data with the genes that some cells have."""
    kept = np.asarray((adata.X > 0).sum(0)).ravel() >= LEAST_CELLS
    return adata[:, kept].copy()


def wilcoxon(adata: ad.AnnData, group: str) -> np.ndarray:
    """Return p-values of a rank sum test of cells."""
    y, own = log_shares(adata.X), (adata.obs["group"] == group).to_numpy()
    return mannwhitneyu(y[own], y[~own]).pvalue


def pseudobulk(adata: ad.AnnData, group: str, sample: str) -> np.ndarray:
    """Return p-values of a moderated t test of the log shares of each donor's sums (limma).

    Paired where donors are crossed with groups.
    """
    obs = adata.obs[[sample, "group"]].astype(str)
    units = obs.drop_duplicates().reset_index(drop=True)
    sums = np.array(
        [
            np.asarray(adata.X[(obs == unit).all(axis=1).to_numpy()].sum(0)).ravel()
            for _, unit in units.iterrows()
        ]
    )
    y_ug = np.log2((sums + 0.5) / (sums.sum(1, keepdims=True) + 1) * 1e6)
    own = (units["group"] == group).to_numpy(float)
    paired = units[sample].duplicated().any()
    blocks = pd.get_dummies(units[sample]).to_numpy(float) if paired else np.ones((len(own), 1))
    x_uk = np.column_stack([blocks, own])
    df = len(x_uk) - np.linalg.matrix_rank(x_uk)
    if df < 1:
        return np.full(adata.n_vars, np.nan)
    found, *_ = np.linalg.lstsq(x_uk, y_ug, rcond=None)
    variance_g, prior = squeezed(((y_ug - x_uk @ found) ** 2).sum(0) / df, df)
    unscaled = np.linalg.inv(x_uk.T @ x_uk)[-1, -1]
    return 2 * student.sf(np.abs(found[-1]) / np.sqrt(variance_g * unscaled), min(df + prior, 1e9))


def tables(
    adata: ad.AnnData,
    group: str,
    sample: str,
    epochs: int | None,
    seed: int,
    only: list[str] | None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what was done, and p-values of all genes."""
    yield "Wilcoxon, cells", wilcoxon(adata, group)
    yield "moderated t, sums of donors", pseudobulk(adata, group, sample)
    models = {
        "rank_genes": {},
        "rank_genes, no effects": {"sample_key": sample, "sample_effects": False},
        "rank_genes, sample_key": {"sample_key": sample},
    }
    for name, settings in models.items():
        if only and name not in only:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # of too few samples: its row says so
            mgvi = MGVI.from_anndata(adata, "group", seed=seed, **settings)
            mgvi.fit(adata, max_epochs=epochs, progress=False)
            refits = cross_fit(mgvi, adata, progress=False)
            for offset in ("averaged", "own"):
                found = mgvi.rank_genes(adata, group, offset=offset, calibration=refits)
                z_g = found["z_score"].loc[adata.var_names].to_numpy()
                yield f"{name}, {offset}", np.minimum(1, 2 * norm.sf(z_g))


def run(
    adata: ad.AnnData,
    group: str,
    sample: str,
    key: tuple[object, ...],
    arguments: argparse.Namespace,
) -> None:
    """Add the rows of one comparison to the table, if they are not there."""
    path = arguments.out / "donors.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=KEYS)
    if (table[KEYS].astype(str) == list(map(str, key))).all(axis=1).any():
        return
    start, rows = time.monotonic(), []
    adata = expressed(adata)
    planted_g = adata.var.get("planted", pd.Series(False, adata.var_names)).to_numpy(bool)
    for name, p_g in tables(adata, group, sample, arguments.epochs, int(key[-1]), arguments.only):
        tested = not np.isnan(p_g).any()
        q_g = false_discovery_control(p_g) if tested else np.full(len(p_g), np.nan)
        rows.append(
            dict(zip(KEYS, key))
            | {
                "cells": adata.n_obs,
                "genes": adata.n_vars,
                "method": name,
                "p < 0.05": (p_g < 0.05).mean() if tested else np.nan,
                "q < 0.05": (q_g < 0.05).sum() if tested else np.nan,
                "true": (q_g < 0.05)[planted_g].sum() if tested else np.nan,
                "epochs": arguments.epochs,
                "seconds": round(time.monotonic() - start),
            }
        )
    parts = [table, pd.DataFrame(rows)] if len(table) else [pd.DataFrame(rows)]
    pd.concat(parts, ignore_index=True).to_csv(path, index=False)
    print(pd.DataFrame(rows).to_string(index=False), flush=True)


def null(arguments: argparse.Namespace) -> None:
    """Split donors at random."""
    adata = ad.read_h5ad(arguments.data)
    donors = np.unique(adata.obs["donor"].astype(str))
    for split in range(arguments.splits):
        for n in arguments.donors:
            drawn = np.random.default_rng([n, split]).permutation(donors)[:n]
            some = adata[adata.obs["donor"].isin(drawn)].copy()
            first = some.obs["donor"].isin(drawn[: n // 2])
            some.obs["group"] = np.where(first, "first", "second")
            if arguments.planted:
                plant(some, arguments.planted, split)
            key = (arguments.data.stem, n, arguments.planted, split)
            run(some, "first", "donor", key, arguments)


def plant(adata: ad.AnnData, n_genes: int, seed: int) -> None:
    """Thin the counts of some genes to half in the second group, and mark them."""
    rng = np.random.default_rng(seed)
    common = np.flatnonzero(np.asarray(adata.X.mean(0)).ravel() >= LEAST_MEAN)
    genes = rng.choice(common, n_genes, replace=False)
    x = adata.X.toarray()
    cells = np.flatnonzero(adata.obs["group"] == "second")
    at = np.ix_(cells, genes)
    x[at] = rng.binomial(x[at].astype(int), 0.5)
    adata.X = csr_matrix(x)
    adata.var["planted"] = np.isin(np.arange(adata.n_vars), genes)


def effects(arguments: argparse.Namespace) -> None:
    """Compare the groups that there are."""
    adata = ad.read_h5ad(arguments.data)
    n = adata.obs[arguments.sample].nunique()
    for split in range(arguments.splits):
        key = (arguments.data.stem, n, 0, split)
        run(adata, arguments.group, arguments.sample, key, arguments)


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = parser.add_subparsers(required=True)
    for part in (null, effects):
        add = parts.add_parser(part.__name__, help=part.__doc__)
        add.add_argument("data", type=Path)
        add.add_argument("--splits", type=int, default=1, help="of donors; or seeds")
        add.add_argument("--epochs", type=int, help="at most; the default of fit otherwise")
        add.add_argument("--only", nargs="+", help="models to fit, by name; all by default")
        add.add_argument("--out", type=Path, required=True)
        add.set_defaults(run=part)
    parts.choices["null"].add_argument("--donors", type=int, nargs="+", default=[6, 8, 12, 40])
    parts.choices["null"].add_argument(
        "--planted", type=int, default=0, help="genes with an effect"
    )
    parts.choices["effects"].add_argument("--sample", required=True, help="column of obs")
    parts.choices["effects"].add_argument("--group", required=True, help="to test")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    arguments.run(arguments)


if __name__ == "__main__":
    main()
