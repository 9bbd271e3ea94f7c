"""Seconds and memory of fits: as estimated and as measured, in memory and from a file.

    python -m benchmarks.scale estimate DATA.h5ad... --out DIR     # and a simulated 20,000 x 2,000
    python -m benchmarks.scale backed --cells 200000 --out DIR     # beside the same in memory

Every run is a process of its own, so that its peak is its own. Wall times mean something on a
machine that does nothing else; CPU seconds are given beside them.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import torch
from scipy import sparse

from benchmarks.training_steps import grouped_counts
from pyro_mgvi import MGVI
from pyro_mgvi.data.stores import on_disk
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.support.memory import peak_bytes, resident_bytes

GENES, DENSITY, GROUPS = 2000, 0.05, 4
PART = 10_000  # cells that are written at a time
DISTINCT = 4  # parts that differ: more of them would only take longer to draw


def simulated(path: Path) -> Path:
    """Write 20,000 cells x 2,000 genes with types and programs, unless they are there."""
    if not path.exists():
        clear_recipe(seed=0, n_cells=20_000, n_shared_genes=1600, n_program_genes=400).write_h5ad(
            path
        )
    return path


def sharded(path: Path, n_cells: int, genes: int = GENES, groups: int = GROUPS) -> Path:
    """Write many cells to one file, part by part: no more than a part is ever in memory."""
    if path.exists():
        return path
    labels: list[np.ndarray] = []
    parts: list[ad.AnnData] = []
    with h5py.File(path.with_suffix(".part"), "w") as file:
        for seed, start in enumerate(range(0, n_cells, PART)):
            size = min(PART, n_cells - start)
            if seed < DISTINCT:
                parts.append(grouped_counts(PART, genes, groups, DENSITY, seed))
            part = parts[seed % DISTINCT]
            x = sparse.csr_matrix(part.X[:size], dtype=np.float32)
            labels.append(part.obs["group"].to_numpy(str)[:size])
            if start == 0:
                ad.io.write_elem(file, "X", x)
            else:
                ad.io.sparse_dataset(file["X"]).append(x)
        obs = pd.DataFrame({"group": pd.Categorical(np.concatenate(labels))})
        obs.index = [f"cell{i}" for i in range(len(obs))]
        ad.io.write_elem(file, "obs", obs)
        ad.io.write_elem(file, "var", pd.DataFrame(index=[f"gene{i}" for i in range(genes)]))
        for name in ("obsm", "varm", "obsp", "varp", "layers", "uns"):
            ad.io.write_elem(file, name, {})
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "anndata", "0.1.0"
    path.with_suffix(".part").rename(path)
    return path


def fitted(path: Path, backed: bool, epochs: int | None, threads: int) -> dict[str, Any]:
    """Estimate, fit and encode, and say what each took."""
    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    if backed:
        on_disk.IN_MEMORY = 0.0
    libraries = resident_bytes()
    start = time.perf_counter()
    adata = ad.read_h5ad(path, backed="r" if backed else None)
    mgvi = MGVI.from_anndata(adata, "group")
    read = time.perf_counter() - start
    start = time.perf_counter()
    told = mgvi.estimate(adata, max_epochs=epochs)
    estimating = time.perf_counter() - start
    start, cpu = time.perf_counter(), time.process_time()
    mgvi.fit(adata, max_epochs=epochs, progress=False)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    trained = peak_bytes()
    start = time.perf_counter()
    mgvi.write_latents(adata)
    return {
        "data": path.stem,
        "cells": adata.n_obs,
        "genes": adata.n_vars,
        "on disk": backed,
        "read, s": read,
        "estimate took, s": estimating,
        "estimated, s": told.seconds,
        "fit, s": seconds,
        "estimated / fit": told.seconds / seconds,
        "fit, CPU s": cpu,
        "epochs estimated": told.epochs,
        "epochs": len(mgvi.history),
        "libraries, GB": libraries / 1e9,
        "estimated, GB": told.memory / 1e9,
        "peak, GB": trained / 1e9,
        "peak / estimated": trained / told.memory,
        "encode, s": time.perf_counter() - start,
        "held-out loss": float(mgvi.history["validation"].min()),
    }


def alone(**arguments: Any) -> dict[str, Any]:
    """Do so in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(fitted, kwds=arguments)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("estimate", "backed"))
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-simulation", action="store_true", help="the given data alone")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    common = {"epochs": arguments.epochs, "threads": arguments.threads}
    runs = [(path, False) for path in arguments.data]
    if arguments.what == "backed":
        path = sharded(arguments.out / f"cells_{arguments.cells}.h5ad", arguments.cells)
        runs = [(path, True), (path, False)]
    elif not arguments.no_simulation:
        runs.append((simulated(arguments.out / "simulated_20000.h5ad"), False))
    rows = []
    for path, backed in runs:
        rows.append(alone(path=path, backed=backed, **common))
        print(json.dumps(rows[-1], indent=1), flush=True)
        pd.DataFrame(rows).to_csv(arguments.out / f"{arguments.what}.csv", index=False)


if __name__ == "__main__":
    main()
