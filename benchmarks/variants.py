"""What variants find on simulated data: layouts x settings x seeds -> tidy CSV.

    python -m benchmarks.variants --layouts pair four batch --seeds 3 --out DIR

``pair``: a program of two of three groups. ``four``: a program of two of four groups.
``pairwise``: ``pair``, with a copy for every two groups. ``batch``: two batches in each group.
``eight``: eight groups, the last with a tenth of the others' cells, and a program in each of two
pairs of them; ``eight_plain``: the same without latents of pairs.
Each seed simulates data of its own. Rows are written as they come; a run that is there already is
not repeated. Ceilings are what a score that knows the true log factors (ARI) or a linear
classifier of the true genes (probes) reaches.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse

from benchmarks.known_truth import program_ceilings
from pyro_mgvi import MGVI, JointDecoder, pairwise, private, shared, subsets
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import active_units, kmeans_ari, log_shares, probe
from pyro_mgvi.datasets import SplatParams, clear_recipe, grouped

PARAMS = SplatParams(lib_loc=10.0), SplatParams(lib_loc=7.0, de_prob=0.4, de_fac_loc=0.2)
PAIR, SECOND = ("group1", "group2"), ("group3", "group4")


class Layout(NamedTuple):
    """Which groups and pairs there are, and with which latents they are modelled."""

    groups: int
    extra: tuple = ()  # latents beside the shared and the private ones
    pairs: tuple = (PAIR,)
    smallest: float = 1.0  # size of the last group, relative to the others


LAYOUTS = {
    "pair": Layout(3, (subsets("pair", [PAIR], 5),)),
    "four": Layout(4, (subsets("pair", [PAIR], 5),)),
    "pairwise": Layout(3, (pairwise(5),)),
    "batch": Layout(2, pairs=()),
    "eight": Layout(8, (subsets("pair", [PAIR, SECOND], 5),), (PAIR, SECOND), 0.1),
    "eight_plain": Layout(8, (), (PAIR, SECOND), 0.1),
}
SETTINGS = {
    "default": {},
    "no prior": {"decoder": partial(JointDecoder, sparsity=0.0)},
    "response": {"decoder": partial(JointDecoder, response=0.1, sparsity=0.0)},
    "batch_key": {"batch_key": "batch"},
}


def simulate(layout: str, seed: int, n_cells: int = 500) -> ad.AnnData:
    """Return a layout's data, ``n_cells`` a group; thinned gene by gene in one of two batches."""
    n_groups, _, pairs, smallest = LAYOUTS[layout]
    if layout != "batch":
        weights = [1.0] * (n_groups - 1) + [smallest]
        sizes = round(n_cells * sum(weights)), 800, 150
        chosen = {"groups": n_groups, "group_weights": weights, "pairs": pairs}
        return grouped(seed, *PARAMS, *sizes, **chosen)
    adata = clear_recipe(seed, n_cells * n_groups, 800, 150)
    adata.obs["batch"] = batch_effect(adata, seed)
    return adata


def batch_effect(adata: ad.AnnData, seed: int) -> np.ndarray:
    """Thin the counts of half the cells, each gene to a share of its own, 0.4 to 1, in place."""
    rng = np.random.default_rng([seed, 1])
    second = rng.random(adata.n_obs) < 0.5
    x, share_g = adata.X.toarray(), rng.uniform(0.4, 1.0, adata.n_vars)
    x[second] = rng.binomial(x[second], share_g)
    adata.X = sparse.csr_matrix(x)
    return np.where(second, "b2", "b1")


def score(adata: ad.AnnData, mgvi: MGVI) -> dict[str, float]:
    """Return every score of a fitted model that the truth allows."""
    data = mgvi.read(adata)
    means, draws = latent_values(mgvi, data), latent_values(mgvi, data, draw=0)
    obs = adata.obs.astype(str)
    group, label, z = obs["group"].to_numpy(), obs["celltype"].to_numpy(), means["z"]
    out = {
        "label ARI in z": kmeans_ari(z, label),
        "z -> group": probe(z, group),
        "active z": active_units(z),
        "held-out loss": mgvi.history.loc[mgvi.history["kept"], "validation"].item(),
    }
    if "batch" in obs:
        out["z -> batch"] = probe(z, obs["batch"])
    for g in mgvi.schema.groups:
        mine = group == g
        own, t = obs["program"].to_numpy()[mine], means[f"t_{g}"][mine]
        out[f"program ARI in t, {g}"] = kmeans_ari(t, own)
        out[f"t -> program, {g}"] = probe(t, own)
        out[f"t -> label, {g}"] = probe(t, label[mine])
        out[f"active t, {g}"] = active_units(t)
        if "batch" in obs:
            out[f"t -> batch, {g}"] = probe(t, obs["batch"].to_numpy()[mine])
    pairs = [pair for pair in (PAIR, SECOND) if program_of(pair) in obs]
    for pair in pairs:
        out |= score_pair(pair, adata, mgvi, obs, means, draws)
    for other in {k for k in means if k.startswith("pair_")} - set(map(program_of, pairs)):
        units = active_units(means[other][np.isfinite(means[other]).all(1)])
        out[f"active units of {other}"] = units
    return out


def program_of(pair: tuple[str, str]) -> str:
    """Return the column of ``obs`` that holds a pair's program, and the name of its copy."""
    return f"pair_{'+'.join(pair)}"


def score_pair(
    pair: tuple[str, str],
    adata: ad.AnnData,
    mgvi: MGVI,
    obs: pd.DataFrame,
    means: dict[str, np.ndarray],
    draws: dict[str, np.ndarray],
) -> dict[str, float]:
    """Return where a pair's program is, and what the ranking by the pair's latent says."""
    name, end = program_of(pair), "" if pair == PAIR else f", {'+'.join(pair)}"
    group, program = obs["group"].to_numpy(), obs[name].to_numpy()
    own = np.isin(group, pair)
    out = {f"z -> pair program{end}": probe(means["z"][own], program[own])}
    copy_nk = means.get("pair", means.get(name))
    if copy_nk is not None:
        copy_nk = copy_nk[own]
        out[f"pair ARI{end}"] = kmeans_ari(copy_nk, program[own])
        out[f"pair -> pair program{end}"] = probe(copy_nk, program[own])
        out[f"pair -> label{end}"] = probe(copy_nk, obs["celltype"].to_numpy()[own])
    for g in pair:
        mine = group == g
        out[f"t -> pair program (means), {g}"] = probe(means[f"t_{g}"][mine], program[mine])
        out[f"t -> pair program (draws), {g}"] = probe(draws[f"t_{g}"][mine], program[mine])
        if copy_nk is not None:
            table = mgvi.rank_genes(adata, g, latents=["pair"], calibration=False)
            for n, value in precision(table, adata, name).items():
                out[f"pair genes among the top {n}, {g}"] = value
    return out


def precision(
    table: pd.DataFrame, adata: ad.AnnData, name: str, tops: tuple[int, ...] = (20, 50)
) -> dict[int, float]:
    """Return the share of genes whose two factors in the pair differ among the first n."""
    a, b = (adata.var[f"DEFac{name}_{copy}"] for copy in (1, 2))
    true = adata.var_names[a != b]
    return {n: float(table.index[:n].isin(true).mean()) for n in tops}


def ceilings(adata: ad.AnnData) -> dict[str, float]:
    """Return what nobody can pass."""
    out = {}
    for g in adata.obs["group"].cat.categories:
        out[f"program ARI in t, {g}"], out[f"t -> program, {g}"] = program_ceilings(adata, g)
    for pair in (PAIR, SECOND):
        name, end = program_of(pair), "" if pair == PAIR else f", {'+'.join(pair)}"
        if name not in adata.obs:
            continue
        cells = adata[adata.obs["group"].isin(pair), adata.var["kind"] == name]
        a, b = (np.log(cells.var[f"DEFac{name}_{copy}"].to_numpy(float)) for copy in (1, 2))
        x = cells.X.toarray()
        ideal = x / np.maximum(x.sum(1, keepdims=True), 1) @ (a - b)
        program = cells.obs[name].astype(str).to_numpy()
        out[f"pair ARI{end}"] = kmeans_ari(ideal[:, None], program)
        out[f"pair -> pair program{end}"] = probe(log_shares(cells.X), program)
    return out


def main() -> None:
    """Run what is not there yet, then print the means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=["pair", "four", "batch"])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=["default"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cells", type=int, default=500, help="cells in a group")
    parser.add_argument("--diagnose", action="store_true", help="print the verdict on each model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("variants"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "variants.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    done = {(r["layout"], r["setting"], r["cells"], r["seed"]) for r in rows}
    for layout in arguments.layouts:
        for seed in arguments.seeds:
            adata = simulate(layout, seed, arguments.cells)
            for setting in ("ceiling", *arguments.settings):
                key = dict(layout=layout, setting=setting, cells=arguments.cells, seed=seed)
                if tuple(key.values()) in done or (layout != "batch" and setting == "batch_key"):
                    continue
                if setting == "ceiling":
                    scores = ceilings(adata)
                else:
                    start = time.perf_counter()
                    latents = (shared(10), private(10), *LAYOUTS[layout].extra)
                    choices = {"latents": latents, "seed": seed} | SETTINGS[setting]
                    mgvi = MGVI.from_anndata(adata, "group", **choices)
                    mgvi.fit(adata)
                    seconds = time.perf_counter() - start
                    scores = score(adata, mgvi) | {"seconds": seconds}
                    if arguments.diagnose:
                        print(layout, seed, setting, mgvi.diagnose(adata), sep="\n", flush=True)
                rows += [key | {"metric": m, "value": v} for m, v in scores.items()]
                pd.DataFrame(rows).to_csv(path, index=False)
    means = pd.DataFrame(rows).pivot_table(
        index=["layout", "cells", "metric"], columns="setting", values="value", sort=False
    )
    print(means.to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
