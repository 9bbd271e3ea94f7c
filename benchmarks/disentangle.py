"""How well shared and private variation come apart: datasets x settings x seeds -> tidy CSV.

    python -m benchmarks.disentangle DATA.h5ad [...] --settings default paper --seeds 3 --out DIR

A dataset is an h5ad with ``obs["group"]`` and a known ``obs["celltype"]`` or ``obs["label"]``;
simulated ones also have ``obs["program"]`` and true factors in ``var``. Rows are written as they
come; a run that is there already is not repeated.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch

from benchmarks.known_truth import known_labels, program_ceilings
from pyro_mgvi import MGVI, PAPER, JointDecoder, Preset, TrainingPlan
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import active_units, kmeans_ari, linear_cka, probe, silhouette

SETTINGS = {
    "default": Preset(),
    # The paper's, with cells held out, and stopped once these have been worse for long.
    "paper": Preset(PAPER.settings, replace(PAPER.plan, validation_fraction=0.1, patience=50)),
    "half as hurried": Preset(plan=TrainingPlan(hurry=2.0)),
    "whole schedule": Preset(plan=TrainingPlan(hurry=1.0)),
    "weights of 1": Preset({"own_weight": 1.0}),
    "log-linear": Preset({"decoder": partial(JointDecoder, hidden=0)}),
    "hidden layer only": Preset({"decoder": partial(JointDecoder, linear=False)}),
    "no response": Preset({"decoder": partial(JointDecoder, response=0.0)}),
    "no offset": Preset({"decoder": partial(JointDecoder, offset=False, response=0.0)}),
    "observed library": Preset({"observed_library": True}),
}


def score(adata: ad.AnnData, mgvi: MGVI) -> dict[str, float]:
    """Return every score of a fitted model that the dataset's truth allows."""
    data = mgvi.read(adata)
    means, draws = latent_values(mgvi, data), latent_values(mgvi, data, draw=0)
    group = adata.obs["group"].astype(str).to_numpy()
    label = known_labels(adata)
    per_label = pd.crosstab(label, group)
    common = np.isin(label, per_label.index[(per_label > 2).all(axis=1)])
    z = means["z"]
    out = {
        "label ARI": kmeans_ari(z, label),
        "label ARI, common labels": kmeans_ari(z[common], label[common]),
        "shared -> label": probe(z, label),
        "shared -> group": probe(z[common], group[common]),
        "silhouette by group within label": np.mean(
            [silhouette(z[label == x], group[label == x]) for x in np.unique(label[common])]
        ),
        "active z": active_units(z),
    }
    for g in mgvi.schema.groups:
        mine = group == g
        seen = mine & common
        t, drawn = means[f"t_{g}"], draws[f"t_{g}"]
        out[f"private -> label (means), {g}"] = probe(t[seen], label[seen])
        out[f"private -> label (draws), {g}"] = probe(drawn[seen], label[seen])
        out[f"private silhouette by label, {g}"] = silhouette(t[seen], label[seen])
        out[f"active t, {g}"] = active_units(t[mine])
        own_labels = mine & ~common
        if own_labels.any():
            names = np.where(own_labels, label, "other")[mine]
            found = max(probe(z[mine], names), probe(t[mine], names))
            out[f"labels of one group only, {g}"] = found
        if "program" in adata.obs:
            program = adata.obs["program"].astype(str).to_numpy()[mine]
            out[f"program ARI, {g}"] = kmeans_ari(t[mine], program)
            out[f"private -> program, {g}"] = probe(t[mine], program)
            out[f"shared -> program, {g}"] = probe(z[mine], program)
    kept = mgvi.history["kept"]
    out["held-out loss (nats per cell)"] = mgvi.history.loc[kept, "validation"].item()
    out["epochs"] = len(mgvi.history)
    return out


def ceilings(adata: ad.AnnData) -> dict[str, float]:
    """Return what nobody can pass on simulated data."""
    out = {}
    for g in adata.obs["group"].cat.categories if "program" in adata.obs else ():
        out[f"program ARI, {g}"], out[f"private -> program, {g}"] = program_ceilings(adata, g)
    return out


def agreement(latents: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Return the mean linear CKA of two seeds for each latent, over the cells that own it."""
    out = {}
    for name in latents[0] if len(latents) > 1 else ():
        own = np.isfinite(latents[0][name]).all(1)
        pairs = combinations([x[name][own] for x in latents], 2)
        out[f"CKA of seeds, {name}"] = np.mean([linear_cka(*pair) for pair in pairs])
    return out


class Runs:
    """Trainings of settings on datasets, and the table of their scores, on disk as they come."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.path = folder, folder / "disentangle.csv"
        self.rows = pd.read_csv(self.path).to_dict("records") if self.path.exists() else []

    def latents(
        self, adata: ad.AnnData, dataset: str, setting: str, seed: int
    ) -> dict[str, np.ndarray]:
        """Return the latents of a training, which is scored if it is not there yet."""
        kept = self.folder / f"{dataset}-{setting}-{seed}.npz"
        if not kept.exists():
            start = time.perf_counter()
            preset = SETTINGS[setting]
            mgvi = MGVI.from_anndata(adata, "group", seed=seed, **preset.settings)
            mgvi.fit(adata, preset.plan)
            seconds = time.perf_counter() - start
            np.savez(kept, **latent_values(mgvi, mgvi.read(adata)))
            self.add(dataset, setting, seed, score(adata, mgvi) | {"seconds": seconds})
        return dict(np.load(kept))

    def add(self, dataset: str, setting: str, seed: int, scores: dict[str, float]) -> None:
        """Add a row for each score, or replace the one that is there, and write the table."""
        key = {"dataset": dataset, "setting": setting, "seed": seed}
        new = [key | {"metric": metric, "value": value} for metric, value in scores.items()]
        names = (*key, "metric")
        replaced = {tuple(row[name] for name in names) for row in new}
        old = [r for r in self.rows if tuple(r[name] for name in names) not in replaced]
        self.rows = old + new
        pd.DataFrame(self.rows).to_csv(self.path, index=False)

    def summary(self) -> str:
        """Return the means over seeds."""
        means = pd.DataFrame(self.rows).pivot_table(
            index=["dataset", "metric"], columns="setting", values="value", sort=False
        )
        return means.to_string(float_format="{:.3f}".format)


def main() -> None:
    """Run what is not there yet, then print the means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=["default"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("disentangle"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    runs = Runs(arguments.out)
    for path in arguments.data:
        adata = ad.read_h5ad(path)
        adata.obs["group"] = adata.obs["group"].astype("category")
        for setting in arguments.settings:
            seeds = range(arguments.seeds)
            latents = [runs.latents(adata, path.stem, setting, seed) for seed in seeds]
            runs.add(path.stem, setting, -1, agreement(latents))
        runs.add(path.stem, "ceiling", -1, ceilings(adata))
    print(runs.summary())


if __name__ == "__main__":
    main()
