"""What a shared latent and private ones hold, beside chance: conservation, mixing and leaks.

All but the clustering score are probes of ours, scaled so that 0 is chance and 1 is perfect.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from benchmarks.peers.methods import Found
from pyro_mgvi.analysis.metrics import (
    completeness,
    in_use,
    kmeans_ari,
    log_shares,
    probe_and_chance,
)

RESOLUTIONS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.4, 2.0)  # of Leiden, the best of which counts
LEAST = 20  # cells of a group within a label, for the group to be probed there


def scores(adata: AnnData, found: Found) -> dict[str, float]:
    """Return every score that the set allows, by name."""
    label, group = adata.obs["label"].to_numpy(), adata.obs["group"].to_numpy()
    z = _standardised(found.z)
    ari = leiden_ari(z, label)
    mixed = 1 - max(0.0, within(z, group, label))
    out = {
        "label ARI": ari,
        "label probe": scaled_probe(z, label),
        "mixing": mixed,
        "harmonic mean": 2 * ari * mixed / (ari + mixed) if ari + mixed > 0 else 0.0,
    }
    if "held_out" in adata.var:
        out |= held_out(adata, found)
    leaks, programs = [], []
    for name, t in found.t.items():
        own = np.isfinite(t).all(1)
        used = t[own][:, in_use(t[own])]
        leaks.append(scaled_probe(used, label[own]))
        if "program" in adata.obs:
            programs.append(scaled_probe(used, adata.obs["program"].to_numpy()[own]))
        out[f"dimensions of t, {name}"] = used.shape[1]
    if leaks:
        out["label in t"] = float(np.mean(leaks))
    if programs:
        out["program in t"] = float(np.mean(programs))
    if "program" in adata.obs:
        in_z = [scaled_probe(z[group == g], adata.obs["program"][group == g]) for g in found.t]
        out |= {"program in z": float(np.mean(in_z))} if in_z else {}
    return out


def held_out(adata: AnnData, found: Found) -> dict[str, float]:
    """Return how much of genes that no method has seen the latents predict within labels.

    A mean over groups, from z and the group's own latent together; beside it what all other genes
    predict, and the share in units of what as many principal components do.
    """
    log_ng, out = np.asarray(log_shares(adata.X)), adata.var["held_out"].to_numpy()
    group, label = adata.obs["group"].to_numpy(), adata.obs["label"].to_numpy()
    shares = []
    for name in np.unique(group):
        mine = group == name
        t = found.t.get(name)
        latent = found.z if t is None else np.concatenate([found.z, t], axis=1)
        shares.append(completeness(latent[mine], *_split(log_ng[mine], out), label[mine]))
    mean = np.mean(shares, axis=0)
    return {
        "held-out genes": mean[0],
        "held-out genes, all others": mean[2],
        "held-out genes, of components": mean[0] / mean[1] if mean[1] > 0 else np.nan,
    }


def _split(log_ng: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the genes that are held out, and those that methods have seen."""
    return log_ng[:, out], log_ng[:, ~out]


def scaled_probe(latent_nk: np.ndarray, text: np.ndarray) -> float:
    """Return the balanced accuracy of a linear probe in units above chance; 0 without latents."""
    text = np.asarray(text).astype(str)
    names, counts = np.unique(text, return_counts=True)
    kept = np.isin(text, names[counts >= LEAST])
    if latent_nk.shape[1] == 0 or len(np.unique(text[kept])) < 2:
        return 0.0
    accuracy, chance = probe_and_chance(latent_nk[kept], text[kept])
    return float((accuracy - chance) / (1 - chance))


def within(z: np.ndarray, group: np.ndarray, label: np.ndarray) -> float:
    """Return how well the group is told within labels, a mean over labels of several groups."""
    told = []
    for name in np.unique(label):
        mine = label == name
        counts = pd.Series(group[mine]).value_counts()
        if (counts >= LEAST).sum() > 1:
            told.append(scaled_probe(z[mine], group[mine]))
    return float(np.mean(told)) if told else 0.0


def leiden_ari(z: np.ndarray, label: np.ndarray) -> float:
    """Return the best agreement of Leiden clusters with the labels; of k-means without scanpy."""
    from sklearn.metrics import adjusted_rand_score

    try:
        import igraph  # noqa: F401 -- what scanpy clusters with
        import scanpy
    except ImportError:
        return kmeans_ari(z, label)
    cells = AnnData(np.zeros((len(z), 1), np.float32), obsm={"z": z})
    scanpy.pp.neighbors(cells, use_rep="z", n_neighbors=15, random_state=0)
    best = 0.0
    for resolution in RESOLUTIONS:
        scanpy.tl.leiden(
            cells, resolution, flavor="igraph", n_iterations=2, directed=False, random_state=0
        )
        best = max(best, adjusted_rand_score(label, cells.obs["leiden"]))
    return best


def scib(adata: AnnData, found: Found) -> dict[str, float]:
    """Return the field's own scores; empty where scib-metrics is not installed."""
    try:
        from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation
    except ImportError:
        return {}
    from benchmarks.peers.methods import components

    cells = AnnData(adata.X, obs=adata.obs.astype("category"), var=adata.var)
    cells.obsm = {"z": np.asarray(found.z, np.float32), "before": components(adata)}
    settings = BioConservation(nmi_ari_cluster_labels_leiden=False), BatchCorrection()
    bench = Benchmarker(
        cells, "group", "label", ["z"], *settings,
        pre_integrated_embedding_obsm_key="before", progress_bar=False,
    )  # fmt: skip
    bench.benchmark()
    row = bench.get_results(min_max_scale=False).loc["z"]
    names = {"Bio conservation": "scib labels", "Batch correction": "scib mixing"}
    return {new: float(row[old]) for old, new in names.items()} | {"scib": float(row["Total"])}


def _standardised(z: np.ndarray) -> np.ndarray:
    """Return the dimensions in use, scaled by one number for all, which no method is hurt by."""
    used = z[:, in_use(z)]
    return (used - used.mean(0)) / max(used.std(), 1e-12) if used.shape[1] else z[:, :1] * 0.0
