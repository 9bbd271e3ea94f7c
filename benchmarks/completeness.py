"""What the latents lack: how well they predict genes that the fit has not seen.

    python -m benchmarks.completeness --folder DATA --data "Kang, interferon" --seeds 3 --out DIR

Each training leaves out half of the 60 genes that the groups change most, and 60 random ones of the
400 most variable others. Within groups and labels, ridge regressions on z, on a group's t and on
both predict these; beside them stand as many principal components of the genes that the fit has
seen, and all of these genes (the ceiling). Rows are written as they come; a run that is there
already is not repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch

from benchmarks.peers.sets import SETS, read
from pyro_mgvi import MGVI
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import bent, completeness, log_shares

RESPONSE, VARIABLE = 60, 400  # genes of which some are held out


def held_out_genes(
    log_ng: np.ndarray, group_n: np.ndarray, label_n: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Return positions of genes to hold out: of the groups' response, and of variable ones."""
    rng = np.random.default_rng(seed)
    changes = []
    for label in np.unique(label_n):  # what a label's cells differ by between groups
        sizes = [((group_n == g) & (label_n == label)).sum() for g in np.unique(group_n)]
        large = [g for g, size in zip(np.unique(group_n), sizes) if size > 20]
        if len(large) > 1:
            means = [log_ng[(group_n == g) & (label_n == label)].mean(0) for g in large]
            changes.append(np.ptp(means, axis=0))
    response = np.argsort(-np.mean(changes, axis=0))[:RESPONSE]
    spread_g = log_ng.var(0) / (log_ng.mean(0) + 0.1)
    variable = np.setdiff1d(np.argsort(-spread_g)[:VARIABLE], response)
    return {
        "response": rng.permutation(response)[: RESPONSE // 2],
        "variable": rng.permutation(variable)[:60],
    }


def rows_of(adata: ad.AnnData, seed: int, n_trainings: int = 1) -> list[dict[str, object]]:
    """Fit without the held-out genes and return all shares of one training."""
    log_ng = np.asarray(log_shares(adata.X))
    group, label = adata.obs["group"].to_numpy(), adata.obs["label"].to_numpy()
    held_out = held_out_genes(log_ng, group, label, seed)
    seen = np.setdiff1d(np.arange(adata.n_vars), np.concatenate([*held_out.values()]))
    cells = adata[:, seen].copy()
    mgvi = MGVI.from_anndata(cells, "group", seed=seed)
    mgvi.fit(cells, n_trainings=n_trainings, progress=False)
    found = latent_values(mgvi, mgvi.read(cells))
    rows: list[dict[str, object]] = []
    for g in mgvi.schema.groups:
        own = group == g
        z, t = found["z"][own], found[f"t_{g}"][own]
        for kind, genes in held_out.items():
            for name, latent in {"z": z, "t": t, "both": np.concatenate([z, t], 1)}.items():
                parts = log_ng[own][:, genes], log_ng[own][:, seen]
                for line, regressor in {"straight": None, "bent": bent()}.items():
                    scores = completeness(latent, *parts, label[own], regressor)
                    key = {"group": g, "genes": kind, "from": name, "line": line}
                    rows.append(key | scores._asdict() | {"ratio": scores.ratio})
    return rows


def main() -> None:
    """Run what is not there yet, then print the means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="of the sets' files")
    parser.add_argument("--data", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trainings", type=int, default=1, help="of each fit (n_trainings)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("completeness"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "completeness.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["dataset", "seed"])
    for data in arguments.data:
        adata = read(data, arguments.folder)
        for seed in range(arguments.seeds):
            if ((table["dataset"] == data) & (table["seed"] == seed)).any():
                continue
            key = {"dataset": data, "seed": seed}
            new = pd.DataFrame([key | row for row in rows_of(adata, seed, arguments.trainings)])
            table = pd.concat([table, new]) if len(table) else new
            table.to_csv(path, index=False)
    both = table[table["from"] == "both"].groupby(["dataset", "group", "genes", "line"], sort=False)
    print(both[["latents", "components", "ceiling", "ratio"]].mean().round(3).to_string())


if __name__ == "__main__":
    main()
