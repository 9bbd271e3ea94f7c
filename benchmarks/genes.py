"""How far a gene ranking can be trusted: recovery, error rates, interferon, agreement of seeds.

    python -m benchmarks.genes recovery SPLATTER.h5ad --seeds 2 --out DIR
    python -m benchmarks.genes interferon KANG.h5ad --seeds 2 --out DIR
    python -m benchmarks.genes errors --datasets 10 --without 20 --out DIR

``recovery`` needs the truth of Splatter (``obs["program"]``, ``var["DEFacP1"]``, ...) and the
extra ``benchmark``; ``interferon`` a group "stim" and types in ``obs["label"]``; ``errors``
simulates its data. Models are kept in DIR, and rows are written to DIR/genes.csv as they come: what
is there is not run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import nbinom, spearmanr
from sklearn.feature_selection import f_classif
from sklearn.metrics import average_precision_score
from tqdm import tqdm

from benchmarks.interferon import STIMULATED
from pyro_mgvi import MGVI, CrossFit, cross_fit
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import log_shares
from pyro_mgvi.baselines import hotspot, integrated_gradients
from pyro_mgvi.datasets import SplatParams, clear_recipe, grouped

KEYS = ["part", "dataset", "group", "score", "seed", "metric"]
TOP = 200  # genes over which seeds are compared


class Rows:
    """Rows of a table, on disk as they come."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "genes.csv"
        self.table = pd.read_csv(self.path) if self.path.exists() else pd.DataFrame()

    def has(self, *keys) -> bool:
        """Say whether there is a row whose first keys are these."""
        if self.table.empty:
            return False
        same = [self.table[name].astype(str) == str(key) for name, key in zip(KEYS, keys)]
        return bool(np.logical_and.reduce(same).any())

    def add(self, *keys, **metrics) -> None:
        """Add a row for each metric."""
        rows = [dict(zip(KEYS, (*keys, name))) | {"value": v} for name, v in metrics.items()]
        table = pd.concat([self.table, pd.DataFrame(rows)], ignore_index=True)
        self.table = table.drop_duplicates(KEYS, keep="last")
        self.table.to_csv(self.path, index=False)


def fitted(
    adata: ad.AnnData, name: str, seed: int, folder: Path, refit: bool
) -> tuple[MGVI, CrossFit | bool]:
    """Return a trained model and its refits, from the folder where they are there already."""
    path = folder / f"{name}-{seed}.mgvi"
    if path.exists():
        mgvi = MGVI.load(path)
    else:
        mgvi = MGVI.from_anndata(adata, "group", seed=seed)
        mgvi.fit(adata)
        mgvi.save(path)
    if not refit:
        return mgvi, False
    parts = [folder / f"{name}-{seed}-refit{fold}.mgvi" for fold in range(2)]
    folds = folder / f"{name}-{seed}-folds.npy"
    if folds.exists():
        return mgvi, CrossFit(tuple(map(MGVI.load, parts)), np.load(folds), seed)
    refits = cross_fit(mgvi, adata)
    for model, part in zip(refits.refits, parts):
        model.save(part)
    np.save(folds, refits.fold_n)
    return mgvi, refits


def rankings(
    adata: ad.AnnData, mgvi: MGVI, refits: CrossFit | bool, group: str, baselines: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names of gene scores, and each gene's in the order of the data."""
    genes = adata.var_names
    for offset in ("averaged", "own"):
        table = mgvi.rank_genes(adata, group, offset=offset, calibration=refits).loc[genes]
        yield f"Bayes factor, {offset}", table["bayes_factor"].to_numpy()
        if refits:
            yield f"z_score, {offset}", table["z_score"].to_numpy()
    t_nk = latent_values(mgvi, mgvi.read(adata))[f"t_{group}"]
    if baselines and np.nanvar(t_nk) > 0:  # an empty latent gives them nothing to rank by
        for name, table in (
            ("integrated gradients", integrated_gradients(mgvi, adata, group)),
            ("Hotspot on t", hotspot(adata, t_nk)),
        ):
            yield name, table.loc[genes, "score"].fillna(-np.inf).to_numpy()


def truth(adata: ad.AnnData, group: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which genes differ between the group's two programs, and which count at all."""
    own = sorted(adata.obs.loc[adata.obs["group"] == group, "program"].astype(str).unique())
    columns = [c for c in adata.var if c.startswith("DEFacP")]
    factors = adata.var[columns].to_numpy()
    mine = np.isin(columns, [f"DEFac{name}" for name in own])
    positive = np.ptp(factors[:, mine], axis=1) > 0
    elsewhere = (factors[:, ~mine] != 1).any(1) & (factors[:, mine] == 1).all(1)
    return positive, positive | ~elsewhere


def oracles(adata: ad.AnnData, group: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield scores of tests that know each cell's program: what no ranking can be asked to pass."""
    own = (adata.obs["group"] == group).to_numpy()
    program = adata.obs["program"].astype(str).to_numpy()
    y = log_shares(adata.X)
    yield "oracle: F, its programs", f_classif(y[own], program[own])[0]
    yield "oracle: F, its programs and the rest", f_classif(y, np.where(own, program, "rest"))[0]
    yield "oracle: F, all programs", f_classif(y, program)[0]
    x, size = adata.X[own].toarray(), np.asarray(adata.X[own].sum(1)).ravel()
    ratio = [likelihood_ratio(x_n, size, program[own]) for x_n in tqdm(x.T, desc="oracle")]
    yield "oracle: likelihood ratio, its programs", np.array(ratio)


def likelihood_ratio(x_n: np.ndarray, size_n: np.ndarray, label_n: np.ndarray) -> float:
    """Return twice the log likelihood ratio of a gene's negative binomial, with and without labels.

    Means are the labels' shares of all counts, the dispersion is fitted to each side.
    """

    def best(labels) -> float:
        mean = np.empty(len(x_n))
        for level in np.unique(labels):
            at = labels == level
            mean[at] = size_n[at] * (x_n[at].sum() + 1e-8) / size_n[at].sum()

        def loss(log_theta):
            theta = np.exp(log_theta)
            return -nbinom.logpmf(x_n, theta, theta / (theta + mean)).sum()

        return minimize_scalar(loss, bounds=(-3, 8), method="bounded").fun

    return 2 * (best(np.zeros(len(x_n))) - best(label_n)) if x_n.any() else 0.0


def recovery_of(
    score_g: np.ndarray, positive_g: np.ndarray, counts_g: np.ndarray
) -> dict[str, float]:
    """Return how many of the first genes are true ones, of those that count."""
    score_g = np.nan_to_num(score_g, nan=-np.inf)[counts_g]
    positive_g = positive_g[counts_g]
    first = positive_g[np.argsort(-score_g, kind="stable")]
    finite = np.maximum(score_g, score_g[np.isfinite(score_g)].min() - 1)
    out = {"average precision": average_precision_score(positive_g, finite)}
    return out | {f"precision of top {n}": first[:n].mean() for n in (50, 100)}


def agreement(scores: list[np.ndarray]) -> float:
    """Return the mean Spearman correlation of two seeds, over the top genes of the first."""
    pairs = [(a, b, np.argsort(-a, kind="stable")[:TOP]) for a, b in permutations(scores, 2)]
    return np.mean([spearmanr(a[top], b[top]).statistic for a, b, top in pairs])


def recovery(arguments: argparse.Namespace, rows: Rows) -> None:
    """Compare rankings of simulated genes with the truth, and with tests that know it."""
    adata = ad.read_h5ad(arguments.data)
    for group in sorted(adata.obs["group"].astype(str).unique()):
        key = ("recovery", arguments.data.stem, group)
        positive, counts = truth(adata, group)
        if not rows.has(*key, "chance"):
            for name, score in oracles(adata, group):
                rows.add(*key, name, -1, **recovery_of(score, positive, counts))
            rows.add(*key, "chance", -1, **{"average precision": positive[counts].mean()})
    _rank_all(adata, arguments, rows, truth, not arguments.no_baselines)


def interferon(arguments: argparse.Namespace, rows: Rows) -> None:
    """Count interferon-stimulated genes at the top of rankings of stimulated cells."""
    adata = ad.read_h5ad(arguments.data)
    _rank_all(adata, arguments, rows, None, not arguments.no_baselines)
    for seed in range(arguments.seeds):
        mgvi, _ = fitted(adata, arguments.data.stem, seed, arguments.out, refit=False)
        found = {"correlation within types": interferon_in_private(adata, mgvi)}
        rows.add("interferon", arguments.data.stem, "stim", "t", seed, **found)


def interferon_in_private(adata: ad.AnnData, mgvi: MGVI) -> float:
    """Return how well the best private unit follows the stimulated genes' mean within types.

    The absolute correlation over stimulated cells; 0 if the private latent is empty.
    """
    own = (adata.obs["group"] == "stim").to_numpy()
    score_n = log_shares(adata.X)[:, adata.var_names.isin(STIMULATED)].mean(1)[own]
    table = mgvi.latents(adata)["t_stim"][own].reset_index(drop=True).assign(score=score_n)
    within = table - table.groupby(adata.obs["label"].astype(str).to_numpy()[own]).transform("mean")
    return float(within.corr()["score"].drop("score").abs().fillna(0.0).max())


def _rank_all(adata, arguments, rows: Rows, truth_of, baselines: bool) -> None:
    name = arguments.data.stem
    groups = ["stim"] if truth_of is None else sorted(adata.obs["group"].astype(str).unique())
    part, scores = "recovery" if truth_of else "interferon", {}
    for seed in tqdm(range(arguments.seeds), desc=part):
        refits = "" if arguments.no_refits else "-refits"
        kept = arguments.out / f"{name}-{seed}-scores{refits}.csv"
        if not kept.exists():
            mgvi, crossfit = fitted(adata, name, seed, arguments.out, not arguments.no_refits)
            found = {
                f"{group}|{score}": values
                for group in groups
                for score, values in rankings(adata, mgvi, crossfit, group, baselines)
            }
            pd.DataFrame(found, index=adata.var_names).to_csv(kept)
        table = pd.read_csv(kept, index_col=0)
        for column, values in table.items():
            group, score = column.split("|")
            scores.setdefault((group, score), []).append(values.to_numpy())
            if truth_of:
                found = recovery_of(values.to_numpy(), *truth_of(adata, group))
            else:
                top = table.index[np.argsort(-values.to_numpy(), kind="stable")[:20]]
                print(score, seed, *top)
                found = {"interferon-stimulated of top 20": np.isin(top, STIMULATED).sum()}
            rows.add(part, name, group, score, seed, **found)
    if arguments.seeds > 1:
        for (group, score), both in scores.items():
            metric = {f"Spearman of seeds, top {TOP}": agreement(both)}
            rows.add(part, name, group, score, -1, **metric)


def errors(arguments: argparse.Namespace, rows: Rows) -> None:
    """Count false discoveries on simulated data, with programs and without."""
    sizes = (arguments.cells, arguments.shared_genes, arguments.program_genes)
    without = SplatParams(lib_loc=7.0, de_prob=0.0)
    kinds = [("with programs", i) for i in range(arguments.datasets)]
    kinds += [("without", i) for i in range(arguments.without)]
    kinds.sort(key=lambda kind: kind[1])  # some of each early
    for kind, seed in tqdm(kinds, desc="errors"):
        if rows.has("errors", kind, "group2", "q_value, own", seed):
            continue
        if kind == "without":
            adata = grouped(1000 + seed, SplatParams(lib_loc=10.0), without, *sizes)
        else:
            adata = clear_recipe(100 + seed, *sizes)
        mgvi = MGVI.from_anndata(adata, "group", seed=seed)  # only its refits are used
        refits = cross_fit(mgvi, adata)
        for group in ("group1", "group2"):
            for offset in ("averaged", "own"):
                table = mgvi.rank_genes(adata, group, offset=offset, calibration=refits)
                q_g = table.loc[adata.var_names, "q_value"].to_numpy()
                positive = truth(adata, group)[0]
                if offset == "averaged":  # a mean shift against the other group is one, too
                    positive = adata.var.filter(like="DEFacP").nunique(axis=1).to_numpy() > 1
                found = q_g < 0.1
                metrics = {
                    "discoveries at q < 0.1": found.sum(),
                    "discoveries at q < 0.05": (q_g < 0.05).sum(),
                    "false of them at q < 0.1": (found & ~positive).sum(),
                    "true genes": positive.sum(),
                }
                rows.add("errors", kind, group, f"q_value, {offset}", seed, **metrics)


def summary(table: pd.DataFrame) -> None:
    """Print means over seeds; of the error rates, the realised ones."""
    plain = table[table["part"] != "errors"]
    if len(plain):
        index = ["dataset", "group", "score"]
        wide = plain.pivot_table(index=index, columns="metric", values="value", sort=False)
        print(wide.to_string(float_format="{:.3f}".format, na_rep="-"))
    wide = table[table["part"] == "errors"].pivot_table(
        index=["dataset", "score", "group", "seed"], columns="metric", values="value"
    )
    for (kind, score), part in wide.groupby(level=[0, 1]) if len(wide) else ():
        calls, false = part["discoveries at q < 0.1"], part["false of them at q < 0.1"]
        rate = (false / calls.clip(lower=1)).mean()
        any_call = (part["discoveries at q < 0.05"] > 0).groupby(level="seed").any()
        print(
            f"{kind}, {score}: {len(any_call)} datasets, {calls.mean():.1f} discoveries per group "
            f"at q < 0.1 of {part['true genes'].mean():.1f} true, realised FDR {rate:.3f} "
            f"(pooled {false.sum() / max(1, calls.sum()):.3f}); "
            f"{any_call.sum()} datasets with a discovery at q < 0.05"
        )


def main() -> None:
    """Run what is not there yet, then print the summary of all that is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parts = parser.add_subparsers(required=True)
    for run in (recovery, interferon, errors):
        part = parts.add_parser(run.__name__)
        part.set_defaults(run=run)
        part.add_argument("--out", type=Path, default=Path("genes"))
        if run is errors:
            for name, size in (
                ("datasets", 10), ("without", 20), ("cells", 1000),
                ("shared-genes", 400), ("program-genes", 100),
            ):  # fmt: skip
                part.add_argument(f"--{name}", type=int, default=size)
        else:
            part.add_argument("data", type=Path)
            part.add_argument("--seeds", type=int, default=2)
            part.add_argument("--no-baselines", action="store_true", help="our scores only")
            part.add_argument("--no-refits", action="store_true", help="no z_score: much faster")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = Rows(arguments.out)
    arguments.run(arguments, rows)
    summary(rows.table)


if __name__ == "__main__":
    main()
