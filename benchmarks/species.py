"""Two species with genes of their own: masks beside one-to-one orthologs alone, and zeros.

    python -m benchmarks.species baron_pancreas_two_species.h5ad --seeds 3 --out DIR

Each training leaves out 60 variable genes of each species alone. ``masks`` knows which genes a
species has; ``orthologs`` has the common ones only; ``zeros`` takes absent genes for counts of
zero; ``scvi`` is scVI of the common genes with the species as its batch (needs scvi-tools). With
``--batch donor``, donors are batches of each.

Scores: the best adjusted Rand index of Leiden clusters of z over a grid of resolutions, mean of
four runs of Leiden, which differ by a tenth (needs igraph); the species read from z within types,
and the donor within types of a species, beside chance; of the neighbours, how many are of the same
type (mean over types), of the other species, and how many of an acinar cell's are acinar, which
are human only; types of one species' cells told by the other's neighbours (``transfer``); and how
well z and t predict the held-out genes in the species that has them. Rows are written as they
come; a run that is there is not repeated.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import adjusted_rand_score, balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier, kneighbors_graph

from benchmarks.peers.methods import METHODS
from pyro_mgvi import MGVI
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import completeness, log_shares, probe_and_chance
from pyro_mgvi.errors import DataWarning

KEYS = ("group", "label", "donor")
MASKS = {"human": "in_human", "mouse": "in_mouse"}
RESOLUTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3)
LEIDEN = 4  # runs: what they find differs
NEIGHBOURS, HELD_OUT, VARIABLE = 15, 60, 400
KINDS = ("masks", "orthologs", "zeros", "scvi")
FEW = 20  # cells of a type in each species, or of each donor


def leiden_ari(latent_nk: np.ndarray, label_n: np.ndarray) -> float:
    """Return the best adjusted Rand index of Leiden clusters over a grid, mean of some runs."""
    import random

    import igraph

    edges = kneighbors_graph(latent_nk, NEIGHBOURS).tocoo()
    graph = igraph.Graph(len(latent_nk), [*zip(edges.row.tolist(), edges.col.tolist())]).simplify()
    best = []
    for seed in range(LEIDEN):
        found = []
        for resolution in RESOLUTIONS:
            random.seed(seed)  # of igraph
            clusters = graph.community_leiden("modularity", resolution=resolution, n_iterations=3)
            found.append(adjusted_rand_score(label_n, clusters.membership))
        best.append(max(found))
    return float(np.mean(best))


def within(
    latent_nk: np.ndarray, target_n: np.ndarray, stratum_n: np.ndarray, least: int
) -> tuple[float, float]:
    """Return accuracy and chance of a probe, mean over strata with enough cells of each level."""
    found = []
    for stratum in np.unique(stratum_n):
        cells = stratum_n == stratum
        levels, sizes = np.unique(target_n[cells], return_counts=True)
        if len(levels) > 1 and sizes.min() >= least:
            found.append(probe_and_chance(latent_nk[cells], target_n[cells]))
    accuracy, chance = np.mean([each for each in found if each is not None], axis=0)
    return float(accuracy), float(chance)


def neighbourhoods(
    latent_nk: np.ndarray, group_n: np.ndarray, label_n: np.ndarray
) -> dict[str, float]:
    """Return who the neighbours of cells are, and how well one species' types tell the other's."""
    nearest = kneighbors_graph(latent_nk, NEIGHBOURS).indices.reshape(len(latent_nk), -1)
    same_n = (label_n[nearest] == label_n[:, None]).mean(1)
    sizes = pd.crosstab(label_n, group_n)
    large, common = sizes.index[sizes.sum(1) >= 30], sizes.index[(sizes >= 10).all(1)]
    told = []
    for group in sizes.columns:
        of_both = np.isin(label_n, common)
        known, asked = of_both & (group_n == group), of_both & (group_n != group)
        of_known = KNeighborsClassifier(NEIGHBOURS).fit(latent_nk[known], label_n[known])
        told.append(balanced_accuracy_score(label_n[asked], of_known.predict(latent_nk[asked])))
    return {
        "same_type": float(np.mean([same_n[label_n == label].mean() for label in large])),
        "other_species": float((group_n[nearest] != group_n[:, None]).mean()),
        "acinar_neighbours": float(same_n[label_n == "acinar"].mean()),
        "transfer": float(np.mean(told)),
    }


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


def rows_of(
    adata: ad.AnnData, kind: str, seed: int, batch: str | None, folder: Path
) -> dict[str, object]:
    """Train once, and return all scores."""
    held_out = held_out_genes(adata, seed)
    both = (adata.var["in_human"] & adata.var["in_mouse"]).to_numpy()
    seen = ~adata.var_names.isin(np.concatenate([*held_out.values()]))
    cells = adata[:, seen & both if kind in ("orthologs", "scvi") else seen].copy()
    group, label, donor = (adata.obs[key].astype(str).to_numpy() for key in KEYS)
    scores: dict[str, object] = {}
    if kind == "scvi":
        if batch is not None:  # scVI has one batch: donors tell the species, too
            cells.obs["group"] = cells.obs[batch].astype(str)
        found = {"z": METHODS["scVI"](cells, seed).z}
    else:
        found, more = _ours(cells, kind, seed, batch, adata.var_names[both])
        scores |= more
    np.savez(folder / f"{kind}_{seed}.npz", **found)
    z_nk = found["z"][:, found["z"].std(0) > 0]
    of_type = np.char.add(np.char.add(group, " "), label)
    probe, chance = within(z_nk, group, label, FEW)
    scores |= {"ari": leiden_ari(z_nk, label), "species": probe, "chance": chance}
    scores["donor"], scores["donor_chance"] = within(z_nk, donor, of_type, FEW)
    scores |= neighbourhoods(z_nk, group, label)
    for name in MASKS:
        own = group == name
        latents = [found[key][own] for key in ("z", f"t_{name}") if key in found]
        target = np.asarray(log_shares(adata[own, held_out[name]].X))
        parts = target, np.asarray(log_shares(adata[own, both].X))
        share = completeness(np.concatenate(latents, 1), *parts, np.zeros(own.sum(), int))
        scores |= {f"{name}_latents": share.latents, f"{name}_ceiling": share.ceiling}
    return scores


def _ours(
    cells: ad.AnnData, kind: str, seed: int, batch: str | None, common: pd.Index
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Return latents, and what training and rankings say."""
    masks = MASKS if kind == "masks" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        mgvi = MGVI.from_anndata(cells, "group", batch_key=batch, feature_masks=masks, seed=seed)
        mgvi.fit(cells, progress=False)
    dims = {copy.key: int(mgvi.model.active.of(copy).sum()) for copy in mgvi.families.copies}
    scores: dict[str, object] = {"epochs": len(mgvi.history), "dims": dims}
    for name in MASKS:
        of_one = ~mgvi.rank_genes(cells, name, calibration=False).index.isin(common)
        scores |= {f"{name}_ranked": int(of_one.sum()), f"{name}_top100": int(of_one[:100].sum())}
    return latent_values(mgvi, mgvi.read(cells)), scores


def main() -> None:
    """Run what is not there yet, then print the means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument(
        "--genes", type=int, help="variable common genes, and a quarter of each own"
    )
    parser.add_argument("--batch", help="column of obs, such as donor")
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
            new = pd.DataFrame([key | rows_of(adata, kind, seed, arguments.batch, arguments.out)])
            table = pd.concat([table, new]) if len(table) else new
            table.to_csv(path, index=False)
    numbers = table.drop(columns=["seed", "dims"], errors="ignore").groupby("kind", sort=False)
    print(numbers.mean().round(3).T.to_string())


if __name__ == "__main__":
    main()
