"""Is training over when it stops: validation loss, epochs and time beside other numbers of epochs.

    python -m benchmarks.convergence DATA.h5ad [...] --plans default 20 60 180 --out DIR
    python -m benchmarks.convergence baron.h5ad --group donor --genes 2000 --var in_human in_mouse

``default`` is the default plan; a number is that many epochs to the letter, without early stopping.
Rows are written as they come.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import anndata as ad
import pandas as pd
import torch

from pyro_mgvi import MGVI, TrainingPlan, choose_genes


def read(path: Path, group: str, n_genes: int | None, var: list[str]) -> ad.AnnData:
    """Return the cells with genes that are in all of ``var``, the variable ones if asked for."""
    adata = ad.read_h5ad(path)
    for column in var:
        adata = adata[:, adata.var[column].to_numpy(bool)]
    adata = adata.copy()
    adata.obs["group"] = adata.obs[group].astype(str).astype("category")
    if n_genes is None:
        return adata
    return adata[:, choose_genes(adata, n_genes, "group")].copy()


def measure(adata: ad.AnnData, plan: str, seed: int) -> dict[str, object]:
    """Fit once, and return what came of it."""
    mgvi = MGVI.from_anndata(adata, "group", seed=seed)
    settings = TrainingPlan()
    if plan != "default":
        settings = TrainingPlan(max_epochs=int(plan), hurry=1.0, patience=None)
    begin = time.process_time()
    found = mgvi.fit(adata, settings, progress=False)
    seconds = time.process_time() - begin
    kept = mgvi.history[mgvi.history["kept"]].iloc[-1]
    active = mgvi.model.active
    return {
        "epochs": len(mgvi.history),
        "kept": int(kept["epoch"]),
        "validation": round(float(kept["validation"]), 2),
        "last": round(float(mgvi.history["validation"].iloc[-1]), 2),
        "converged": found.converged,
        "cpu_seconds": round(seconds, 1),
        "in_use": " ".join(str(int(active.of(copy).sum())) for copy in mgvi.families.copies),
    }


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--plans", nargs="+", default=["default", "20", "60", "180"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--group", default="group")
    parser.add_argument("--genes", type=int)
    parser.add_argument("--var", nargs="+", default=[])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("convergence"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for path in arguments.data:
        adata = read(path, arguments.group, arguments.genes, arguments.var)
        for seed in range(arguments.seeds):
            for plan in arguments.plans:
                key = {"data": f"{path.stem}/{arguments.group}", "plan": plan, "seed": seed}
                rows.append(key | measure(adata, plan, seed))
                name = f"{path.stem}-{arguments.group}.csv"
                pd.DataFrame(rows).to_csv(arguments.out / name, index=False)
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
