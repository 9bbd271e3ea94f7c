"""How well shared and private variation come apart: datasets x settings x seeds -> tidy CSV.

    python benchmarks/disentangle.py DATA.h5ad [...] --settings default paper --seeds 3 --out DIR

A dataset is an h5ad with ``obs["group"]`` and a known ``obs["celltype"]`` or ``obs["label"]``;
simulated ones also have ``obs["program"]`` and true factors in ``var``. Rows are written as they
come; a run that is there already is not repeated.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from itertools import combinations
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch

from pyro_mgvi import MGVI, PAPER, JointDecoder, Preset
from pyro_mgvi.analysis.metrics import (
    active_units,
    kmeans_ari,
    linear_cka,
    log_shares,
    probe,
    program_score,
    silhouette,
)

SETTINGS = {
    "default": Preset(),
    # The paper's, with cells held out, and stopped once these have been worse for long.
    "paper": Preset(PAPER.settings, PAPER.plan | {"validation_fraction": 0.1, "patience": 50}),
    "weights of 1": Preset({"own_weight": {"z": 1.0, "t": 1.0}}),
    "log-linear": Preset({"decoder": partial(JointDecoder, hidden=0)}),
    "hidden layer only": Preset({"decoder": partial(JointDecoder, linear=False)}),
    "no response": Preset({"decoder": partial(JointDecoder, response=0.0)}),
    "no offset": Preset({"decoder": partial(JointDecoder, offset=False, response=0.0)}),
    "observed library": Preset({"observed_library": True}),
}


def known_labels(adata) -> np.ndarray:
    """Return the label of each cell that a dataset knows."""
    return adata.obs["celltype" if "celltype" in adata.obs else "label"].astype(str).to_numpy()


def score(adata, mgvi: MGVI) -> dict[str, float]:
    """Return every score of a fitted model that the dataset's truth allows."""
    means, draws = mgvi.latents(adata), mgvi.latents(adata, draw=0)
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
    best = mgvi.history["validation"].idxmin()
    plain = mgvi.history.filter(like="validation_").loc[best]
    out["held-out loss (nats per cell)"] = plain.sum()
    out["epochs"] = len(mgvi.history)
    return out


def ceilings(adata) -> dict[str, float]:
    """Return what nobody can pass on simulated data."""
    out = {}
    for g in adata.obs["group"].cat.categories if "program" in adata.obs else ():
        ideal, program = program_score(adata, g)
        mine = (adata.obs["group"] == g).to_numpy()
        genes = log_shares(adata.X[:, adata.var["is_program"].to_numpy(bool)][mine])
        out[f"program ARI, {g}"] = kmeans_ari(ideal, program)
        out[f"private -> program, {g}"] = probe(genes, program)
    return out


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
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = arguments.out / "disentangle.csv"
    rows = pd.read_csv(table).to_dict("records") if table.exists() else []
    for path in arguments.data:
        adata = ad.read_h5ad(path)
        adata.obs["group"] = adata.obs["group"].astype("category")
        for setting in arguments.settings:
            latents = []
            for seed in range(arguments.seeds):
                key = {"dataset": path.stem, "setting": setting, "seed": seed}
                kept = arguments.out / "{dataset}-{setting}-{seed}.npz".format(**key)
                if not kept.exists():
                    start = time.perf_counter()
                    preset = SETTINGS[setting]
                    mgvi = MGVI.from_anndata(adata, "group", seed=seed, **preset.settings)
                    mgvi.fit(adata, **preset.plan)
                    seconds = time.perf_counter() - start
                    np.savez(kept, **mgvi.latents(adata))
                    scores = score(adata, mgvi) | {"seconds": seconds}
                    rows += [key | {"metric": m, "value": v} for m, v in scores.items()]
                    pd.DataFrame(rows).to_csv(table, index=False)
                latents.append(dict(np.load(kept)))
            for name in latents[0] if len(latents) > 1 else ():
                own = np.isfinite(latents[0][name]).all(1)
                pairs = combinations([x[name][own] for x in latents], 2)
                cka = np.mean([linear_cka(*pair) for pair in pairs])
                key = {"dataset": path.stem, "setting": setting, "metric": f"CKA of seeds, {name}"}
                rows = [r for r in rows if any(r[k] != v for k, v in key.items())]
                rows.append(key | {"seed": -1, "value": cka})
        for metric, value in ceilings(adata).items():
            key = {"dataset": path.stem, "setting": "ceiling", "metric": metric}
            rows = [r for r in rows if any(r[k] != v for k, v in key.items())]
            rows.append(key | {"seed": -1, "value": value})
        pd.DataFrame(rows).to_csv(table, index=False)
    means = pd.DataFrame(rows).pivot_table(
        index=["dataset", "metric"], columns="setting", values="value", sort=False
    )
    print(means.to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
