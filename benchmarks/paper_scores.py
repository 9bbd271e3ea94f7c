"""Scores of the paper's benchmark (section 5), with ceilings, chance and what should be absent."""

from __future__ import annotations

import warnings
from itertools import chain

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.exceptions import ConvergenceWarning

from benchmarks.known_truth import program_ceilings
from pyro_mgvi.analysis import rank_genes
from pyro_mgvi.analysis.metrics import active_units, kmeans_ari, linear_cka, probe, silhouette
from pyro_mgvi.baselines import Fitted, hotspot, integrated_gradients

TOP = (5, 10, 20, 30, 40, 50, 75, 100, 125, 150, 175, 200)  # top n genes (figure 4)
EXPLAINED = 500  # cells of a group for integrated gradients: 50 passes of the encoder for each


def scores(adata: AnnData, means: dict, draws: dict) -> dict[str, float]:
    """Return all scores of one trained method: the paper's, and what leaks where."""
    label, group, program = (
        adata.obs[key].astype(str).to_numpy() for key in ("celltype", "group", "program")
    )
    z = means["z"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # constant latents have one cluster
        out = {
            "type silhouette": silhouette(z, label),
            "type ARI": kmeans_ari(z, label),
            "group silhouette": silhouette(z, group),
            "group ARI": kmeans_ari(z, group),
            "shared -> type": probe(z, label),
            "shared -> group": probe(z, group),
            "shared -> group (draws)": probe(draws["z"], group),
        }
        for g in np.unique(group):
            mine = group == g
            out[f"shared -> program, {g}"] = probe(z[mine], program[mine])
        for g, t in means["t"].items():
            mine = np.isfinite(t).all(1)
            t, drawn = t[mine], draws["t"][g][mine]
            out[f"program silhouette, {g}"] = silhouette(t, program[mine])
            out[f"program ARI, {g}"] = kmeans_ari(t, program[mine])
            out[f"private -> program, {g}"] = probe(t, program[mine])
            out[f"private -> program (draws), {g}"] = probe(drawn, program[mine])
            out[f"private -> type, {g}"] = probe(t, label[mine])
            out[f"private -> type (draws), {g}"] = probe(drawn, label[mine])
            out[f"private silhouette by type, {g}"] = silhouette(t, label[mine])
            out[f"active private units, {g}"] = active_units(t)
    return out


def references(adata: AnnData) -> tuple[dict[str, float], dict[str, float]]:
    """Return the ceiling of each score that has one, and what chance alone reaches."""
    label = adata.obs["celltype"].astype(str).to_numpy()
    types = sorted(np.unique(label))
    ceiling = {}
    if f"DEFac{types[0]}" in adata.var:  # not every simulation tells
        kind = (adata.var["kind"] == "shared").to_numpy()
        factors = np.log(np.stack([adata.var[f"DEFac{x}"].to_numpy(float)[kind] for x in types], 1))
        x = adata.X[:, kind]
        ideal = np.asarray(x @ factors) / np.maximum(np.asarray(x.sum(1)), 1)
        ceiling = {"type ARI": kmeans_ari(ideal, label), "shared -> type": probe(ideal, label)}
    by_group = 1 / adata.obs["group"].nunique()
    chance = {"shared -> group": by_group, "shared -> group (draws)": by_group}
    for g in adata.obs["group"].cat.categories:
        ari, accuracy = program_ceilings(adata, g)
        ceiling[f"program ARI, {g}"], ceiling[f"private -> program, {g}"] = ari, accuracy
        n_programs = adata.obs["program"][adata.obs["group"] == g].nunique()
        chance[f"private -> type, {g}"] = 1 / len(types)
        chance[f"private -> type (draws), {g}"] = 1 / len(types)
        chance[f"shared -> program, {g}"] = 1 / n_programs
        chance[f"null: private -> type, {g}"] = 1 / len(types)
        chance[f"null: private -> program, {g}"] = 1 / adata.obs["program"].nunique()
    return ceiling, chance


def agreement(latents: dict[int, dict]) -> list[dict]:
    """Return, for each seed, the mean linear CKA of each latent with the same of other seeds."""
    rows = []
    for seed, mine in latents.items():
        others = [latents[other] for other in latents if other != seed]
        for name in mine if others else ():
            own = np.isfinite(mine[name]).all(1)
            value = np.mean([linear_cka(mine[name][own], other[name][own]) for other in others])
            rows.append({"seed": seed, "metric": f"CKA of seeds, {name}", "value": value})
    return rows


def likelihood_ratio(adata: AnnData, fitted: Fitted, group: str) -> pd.DataFrame | None:
    """Rank genes by equation 12, if the method has a likelihood."""
    if fitted.mgvi is None:
        return None
    return rank_genes(fitted.mgvi, adata, group, calibration=False)


def gradients(adata: AnnData, fitted: Fitted, group: str) -> pd.DataFrame | None:
    """Rank genes by label-free integrated gradients of the group's own latents."""
    if fitted.mgvi is None or is_constant(fitted.means["t"][group]):
        return None
    own = np.flatnonzero((adata.obs["group"] == group).to_numpy())
    cells = np.zeros(adata.n_obs, bool)
    cells[np.random.default_rng(0).permutation(own)[:EXPLAINED]] = True
    return integrated_gradients(fitted.mgvi, adata, group, cells)


def autocorrelation(adata: AnnData, fitted: Fitted, group: str) -> pd.DataFrame | None:
    """Rank genes by Hotspot's Z in the group's own latents."""
    if is_constant(fitted.means["t"][group]):
        return None
    return hotspot(adata, fitted.means["t"][group])


def is_constant(t_nj: np.ndarray) -> bool:
    """Return whether a latent is out of use: then it ranks no genes."""
    own = t_nj[np.isfinite(t_nj).all(1)]
    return bool((own == own[0]).all())


RANKINGS = {
    "likelihood ratio": likelihood_ratio,
    "integrated gradients": gradients,
    "Hotspot": autocorrelation,
}
EXTRA = {"integrated gradients": "captum", "Hotspot": "hotspot"}  # packages of [benchmark]


def carriers(adata: AnnData, group: str) -> np.ndarray:
    """Return the names of the genes that a program of the group truly changes."""
    programs = adata.obs["program"][adata.obs["group"] == group].astype(str).unique()
    factors = adata.var[[f"DEFac{program}" for program in programs]].to_numpy(float)
    return adata.var_names[(factors != 1).any(1)].to_numpy()


def recovery(adata: AnnData, fitted: Fitted, rankings: list[str]) -> list[dict]:
    """Return the fraction of the top n genes that carry an effect of the group (figure 4)."""
    rows = []
    for group in fitted.means["t"]:
        truth = carriers(adata, group)
        program_genes = adata.var_names[adata.var["is_program"].to_numpy(bool)]
        for name in rankings:
            table = RANKINGS[name](adata, fitted, group)
            if table is None:
                continue
            genes = table.index.to_numpy()
            for n in TOP:
                top = genes[:n]
                rows.append(
                    {
                        "ranking": name,
                        "group": group,
                        "n": n,
                        "fraction": np.isin(top, truth).mean(),
                        "fraction_program_genes": np.isin(top, program_genes).mean(),
                        "ceiling": min(1.0, len(truth) / n),
                    }
                )
    return rows


def flatten(latents: dict) -> dict[str, np.ndarray]:
    """Return ``{"z", "t"}`` as one level, for a file."""
    private = ((f"t_{group}", t) for group, t in latents["t"].items())
    return {k: np.asarray(v, np.float32) for k, v in chain([("z", latents["z"])], private)}
