"""Two species with genes of their own: masks beside one-to-one orthologs alone, and zeros.

    python -m benchmarks.species baron_pancreas_two_species.h5ad --seeds 3 --out DIR

Each training leaves out 60 variable genes of each species alone. ``masks`` knows which genes a
species has; ``orthologs`` has the common ones only; ``zeros`` takes absent genes for counts of
zero. Scores: the best adjusted Rand index of Leiden clusters of z over a grid of resolutions
(needs igraph); the species read from z within types, beside chance; how pure the neighbours of
acinar cells are, which are human only; and how well z and t predict the held-out genes in the
species that has them. Rows are written as they come; a run that is there is not repeated.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import kneighbors_graph

from pyro_mgvi import MGVI
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import completeness, log_shares, probe_and_chance
from pyro_mgvi.errors import DataWarning

MASKS = {"human": "in_human", "mouse": "in_mouse"}
RESOLUTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0)
NEIGHBOURS, HELD_OUT, VARIABLE = 15, 60, 400
KINDS = ("masks", "orthologs", "zeros")


def leiden_ari(latent_nk: np.ndarray, label_n: np.ndarray, seed: int) -> float:
    """Return the best adjusted Rand index of Leiden clusters over a grid of resolutions."""
    import random

    import igraph

    edges = kneighbors_graph(latent_nk, NEIGHBOURS).tocoo()
    graph = igraph.Graph(len(latent_nk), [*zip(edges.row.tolist(), edges.col.tolist())]).simplify()
    found = []
    for resolution in RESOLUTIONS:
        random.seed(seed)  # of igraph
        clusters = graph.community_leiden("modularity", resolution=resolution, n_iterations=5)
        found.append(adjusted_rand_score(label_n, clusters.membership))
    return max(found)


def species_within_types(
    latent_nk: np.ndarray, group_n: np.ndarray, label_n: np.ndarray
) -> tuple[float, float]:
    """Return accuracy and chance of a probe for the species, mean over types of both."""
    found = []
    for label in np.unique(label_n):
        cells = label_n == label
        if min((group_n[cells] == g).sum() for g in np.unique(group_n)) >= 20:
            found.append(probe_and_chance(latent_nk[cells], group_n[cells]))
    accuracy, chance = np.mean([each for each in found if each is not None], axis=0)
    return float(accuracy), float(chance)


def neighbours_of(latent_nk: np.ndarray, label_n: np.ndarray, label: str) -> float:
    """Return which share of the neighbours of a type's cells are of that type."""
    nearest = kneighbors_graph(latent_nk, NEIGHBOURS)[label_n == label].indices
    return float((label_n[nearest] == label).mean())


def variable_genes(adata: ad.AnnData, number: int) -> ad.AnnData:
    """Return the most variable common genes, and a quarter as many of each species alone."""
    has_human, has_mouse = (adata.var[column].to_numpy() for column in MASKS.values())
    keep = np.zeros(adata.n_vars, bool)
    for of_kind, groups, most in (
        (has_human & has_mouse, [*MASKS], number),
        (has_human & ~has_mouse, ["human"], number // 4),
        (has_mouse & ~has_human, ["mouse"], number // 4),
    ):
        log_ng = np.asarray(log_shares(adata[adata.obs["group"].isin(groups)].X))[:, of_kind]
        order = np.argsort(-log_ng.var(0) / (log_ng.mean(0) + 0.1))
        keep[np.flatnonzero(of_kind)[order[:most]]] = True
    return adata[:, keep].copy()


def held_out_genes(adata: ad.AnnData, seed: int) -> dict[str, np.ndarray]:
    """Return names of variable genes of each species alone."""
    rng, found = np.random.default_rng(seed), {}
    for group, column in MASKS.items():
        other = next(c for g, c in MASKS.items() if g != group)
        only = adata.var_names[adata.var[column] & ~adata.var[other]]
        log_ng = np.asarray(log_shares(adata[adata.obs["group"] == group, only].X))
        spread_g = log_ng.var(0) / (log_ng.mean(0) + 0.1)
        found[group] = rng.permutation(only[np.argsort(-spread_g)[:VARIABLE]])[:HELD_OUT]
    return found


def rows_of(adata: ad.AnnData, kind: str, seed: int, folder: Path) -> list[dict[str, object]]:
    """Train once, and return all scores."""
    held_out = held_out_genes(adata, seed)
    seen = ~adata.var_names.isin(np.concatenate([*held_out.values()]))
    if kind == "orthologs":
        seen &= (adata.var["in_human"] & adata.var["in_mouse"]).to_numpy()
    cells, masks = adata[:, seen].copy(), MASKS if kind == "masks" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        mgvi = MGVI.from_anndata(cells, "group", feature_masks=masks, seed=seed)
        mgvi.fit(cells, progress=False)
    found = latent_values(mgvi, mgvi.read(cells))
    np.savez(folder / f"{kind}_{seed}.npz", **found)
    group, label = (adata.obs[key].astype(str).to_numpy() for key in ("group", "label"))
    z_nk = found["z"][:, found["z"].std(0) > 0]
    probe, chance = species_within_types(z_nk, group, label)
    scores: dict[str, object] = {
        "ari": leiden_ari(z_nk, label, seed),
        "species_probe": probe,
        "chance": chance,
        "acinar_neighbours": neighbours_of(z_nk, label, "acinar"),
        "epochs": len(mgvi.history),
        "dims": {copy.key: int(mgvi.model.active.of(copy).sum()) for copy in mgvi.families.copies},
    }
    both = (adata.var["in_human"] & adata.var["in_mouse"]).to_numpy()
    for name in MASKS:
        own = group == name
        latent_nk = np.concatenate([found["z"][own], found[f"t_{name}"][own]], 1)
        target = np.asarray(log_shares(adata[own, held_out[name]].X))
        parts = target, np.asarray(log_shares(adata[own, both].X))
        share = completeness(latent_nk, *parts, np.zeros(own.sum(), int))
        scores |= {f"{name}_latents": share.latents, f"{name}_components": share.components}
        scores[f"{name}_ceiling"] = share.ceiling
        table = mgvi.rank_genes(cells, name, calibration=False)
        of_one = ~table.index.isin(adata.var_names[both])
        scores |= {f"{name}_ranked": int(of_one.sum()), f"{name}_top100": int(of_one[:100].sum())}
    return [scores]


def main() -> None:
    """Run what is not there yet, then print the means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument(
        "--genes", type=int, help="variable common genes, and a quarter of each own"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("species"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "species.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["kind", "seed"])
    adata = ad.read_h5ad(arguments.data)
    if arguments.genes is not None:
        adata = variable_genes(adata, arguments.genes)
    for seed in range(arguments.seeds):
        for kind in arguments.kinds:
            if ((table["kind"] == kind) & (table["seed"] == seed)).any():
                continue
            key = {"kind": kind, "seed": seed}
            new = pd.DataFrame([key | row for row in rows_of(adata, kind, seed, arguments.out)])
            table = pd.concat([table, new]) if len(table) else new
            table.to_csv(path, index=False)
    numbers = table.drop(columns=["seed", "dims"]).groupby("kind", sort=False)
    print(numbers.mean().round(3).T.to_string())


if __name__ == "__main__":
    main()
