"""What a choice of genes loses: program genes kept, and programs recovered by a fit on the choice.

    python -m benchmarks.gene_choice simulated --seeds 3 --out DIR
    python -m benchmarks.gene_choice real baron_pancreas_two_species.h5ad --group donor --out DIR

``simulated`` is the clear recipe with three groups, of which the third is a tenth of the cells: its
program genes (those that differ between its two programs), and those of them that differ in no
other group; then a fit on each choice that is named by ``--fits``. ``real`` has types in
``obs["label"]``: which of the genes that tell a group's types best (an F test within the group) are
among the chosen. Choices by scanpy are the usual ones. Rows are written as they come; a run that is
there is not repeated.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy
import torch
from sklearn.feature_selection import f_classif

from benchmarks.known_truth import program_ceilings
from pyro_mgvi import MGVI, choose_genes
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import kmeans_ari, log_shares, probe
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.genes.choice import by_best_rank
from pyro_mgvi.data.genes.deviance import excess_deviance
from pyro_mgvi.datasets import clear_recipe

WEIGHTS, SMALL = (0.45, 0.45, 0.1), "group3"
SIZES = (1500, 1000, 100)  # cells, genes of types and of programs
FEW = 10  # cells of a type in a group


def pooled(adata: ad.AnnData, n: int) -> np.ndarray:
    """Return what our score chooses over all cells."""
    data = GroupedCounts.from_anndata(adata, "group")
    score_bg = excess_deviance(data.with_groups(np.zeros(len(data), int)))
    return np.isin(np.arange(adata.n_vars), by_best_rank(score_bg[:1])[:n])


def by_scanpy(adata: ad.AnnData, n: int, batch_key: str | None = None) -> np.ndarray:
    """Return the n most variable genes of scanpy, over all cells or of each group and joined."""
    how = {"flavor": "seurat_v3", "n_top_genes": n, "batch_key": batch_key, "inplace": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return scanpy.pp.highly_variable_genes(adata, **how)["highly_variable"].to_numpy()


CHOICES: dict[str, Callable[[ad.AnnData, int], np.ndarray]] = {
    "all genes": lambda adata, n: np.ones(adata.n_vars, bool),
    "choose_genes": lambda adata, n: choose_genes(adata, n, "group").to_numpy(),
    "its score, all cells": pooled,
    "seurat_v3, all cells": by_scanpy,
    "seurat_v3, within groups": lambda adata, n: by_scanpy(adata, n, "group"),
}


def kept_of_truth(adata: ad.AnnData, chosen: np.ndarray) -> dict[str, float]:
    """Return the share of genes with a planted difference, by kind, that were chosen."""
    columns = [[f"DEFacP{2 * b + 1}", f"DEFacP{2 * b + 2}"] for b in range(len(WEIGHTS))]
    differs_bg = np.array([adata.var[a] != adata.var[b] for a, b in columns])
    of_types = adata.var.filter(like="DEFacT").nunique(axis=1).to_numpy() > 1
    alone = differs_bg[2] & ~differs_bg[:2].any(0)
    return {
        "genes of the small group": chosen[differs_bg[2]].mean(),
        "of it alone": chosen[alone].mean(),
        "of a large group": chosen[differs_bg[0]].mean(),
        "of types": chosen[of_types].mean(),
        "of nothing": chosen[~of_types & ~differs_bg.any(0)].mean(),
    }


def recovery(adata: ad.AnnData, chosen: np.ndarray, seed: int) -> dict[str, float]:
    """Return what a fit on the chosen genes finds of programs and types, and its seconds."""
    begin = time.process_time()
    mgvi = MGVI.from_anndata(adata, "group", genes=chosen, seed=seed)
    mgvi.fit(adata, progress=False)
    seconds = time.process_time() - begin
    found = latent_values(mgvi, mgvi.read(adata))
    scores = {"CPU s": seconds, "types in z, ARI": kmeans_ari(found["z"], adata.obs["celltype"])}
    for group in (SMALL, "group1"):
        own = (adata.obs["group"] == group).to_numpy()
        t_nk = found[f"t_{group}"][own]
        scores[f"program of {group} in t"] = probe(t_nk, adata.obs["program"][own])
        scores[f"ceiling of {group}"] = program_ceilings(adata, group)[1]
    return scores


def markers_kept(adata: ad.AnnData, chosen: np.ndarray, n: int) -> dict[str, float]:
    """Return the share of each group's n genes that tell its types best that were chosen."""
    kept, label_n = {}, adata.obs["label"].astype(str).to_numpy()
    for group, of_group in adata.obs.groupby("group", observed=True):
        sizes = of_group["label"].astype(str).value_counts()
        mine = ((adata.obs["group"] == group) & np.isin(label_n, sizes.index[sizes >= FEW])).values
        log_ng = np.asarray(log_shares(adata.X[mine]))
        varies = np.flatnonzero(np.ptp(log_ng, axis=0))
        best = np.argsort(-f_classif(log_ng[:, varies], label_n[mine])[0])[:n]
        kept[f"{group} ({len(of_group)})"] = chosen[varies[best]].mean()
    return kept


def main() -> None:
    """Run what is not there yet, then print means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("simulated", "real"))
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--group", default="group")
    parser.add_argument("--genes", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fits", nargs="*", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--out", type=Path, default=Path("gene_choice"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{arguments.part}-{arguments.genes}.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    n = arguments.genes
    for seed in range(arguments.seeds if arguments.part == "simulated" else 1):
        if arguments.part == "simulated":
            adata = clear_recipe(seed, *SIZES, groups=3, group_weights=WEIGHTS)
        else:
            adata = ad.read_h5ad(arguments.data)
            adata.obs["group"] = adata.obs[arguments.group].astype(str).astype("category")
        for name, choose in CHOICES.items():
            key = {"seed": seed, "choice": name}
            if any(key.items() <= row.items() for row in rows):
                continue
            chosen = choose(adata, n)
            if arguments.part == "real":
                rows.append(key | markers_kept(adata, chosen, n // 2))
            else:
                fit = recovery(adata, chosen, seed) if name in arguments.fits else {}
                rows.append(key | kept_of_truth(adata, chosen) | fit)
            pd.DataFrame(rows).to_csv(path, index=False)
    means = pd.DataFrame(rows).drop(columns="seed").groupby("choice", sort=False).mean()
    print(means.round(2).T.to_string())


if __name__ == "__main__":
    main()
