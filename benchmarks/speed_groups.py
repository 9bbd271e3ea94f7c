"""How a training step's cost grows with the number of groups: many against two, interleaved.

    python benchmarks/speed_groups.py --out groups.csv

Both sides have the same genes, cells a step and density, one thread, the compiled likelihood and
the default latents. Only ratios within one run mean anything: machines differ, and are shared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pyro
import torch
from scipy import sparse
from scipy.optimize import brentq

from pyro_mgvi import MGVI, SeparateEncoders, SharedTrunk, WassersteinTraceELBO
from pyro_mgvi.compiled import compilation
from pyro_mgvi.training import Objective

ENCODERS = {
    "all cells": SeparateEncoders,
    "sampled": partial(SeparateEncoders, foreign_sample=8),
    "shared trunk": SharedTrunk,
}


def counts(n_cells: int, n_genes: int, density: float, theta: float = 2.0) -> sparse.csr_matrix:
    """Return negative binomial counts with log-normal gene means, this share of them nonzero."""
    generator = np.random.default_rng(0)
    mean_g = generator.lognormal(0, 1.5, n_genes)

    def excess(log_scale):
        return (1 - (theta / (theta + np.exp(log_scale) * mean_g)) ** theta).mean() - density

    scale = np.exp(brentq(excess, -20, 20))
    rate_ng = generator.gamma(theta, scale * mean_g / theta, (n_cells, n_genes))
    return sparse.csr_matrix(generator.poisson(rate_ng).astype(np.float32))


def training_step(x: sparse.csr_matrix, n_groups: int, size: int, encoder) -> Callable[[], None]:
    """Return a function that does one training step of :meth:`MGVI.fit` on the next minibatch."""
    adata = ad.AnnData(x, obs={"group": [f"g{i % n_groups}" for i in range(x.shape[0])]})
    mgvi = MGVI.from_anndata(adata, "group", encoder=encoder, drop_empty=True)
    data = mgvi.read(mgvi_cells(adata))
    elbo = WassersteinTraceELBO(own_weight=mgvi.own_weight)
    objective = Objective(mgvi.model, mgvi.guide, elbo).train()
    adam = torch.optim.Adam(objective.parameters(), lr=1e-3, fused=True)
    batches = list(data.minibatches(size, seed=0, keep_sparse=data.mostly_zero))
    done = 0

    def step():
        nonlocal done
        with pyro.validation_enabled(False), pyro.settings.context(module_local_params=True):
            loss = sum(objective(*batches[done % len(batches)]).values()) / len(data)
            adam.zero_grad()
            loss.backward()
        adam.step()
        done += 1

    return step


def mgvi_cells(adata: ad.AnnData) -> ad.AnnData:
    """Return the cells with at least one count."""
    return adata[np.asarray(adata.X.sum(1)).ravel() > 0]


def interleaved(steps: dict[str, Callable[[], None]], repeats: int) -> pd.DataFrame:
    """Return the milliseconds of each step, one row per repeat, one column per step."""
    rows = []
    for repeat in range(-2, repeats):  # the first two compile and warm up
        row = {}
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            row[name] = 1e3 * (time.perf_counter() - start)
        if repeat >= 0:
            rows.append(row)
    return pd.DataFrame(rows)


def measure(n_groups=50, n_genes=2000, size=512, density=0.05, repeats=15) -> pd.DataFrame:
    """Return medians and ratios to two groups, one row per encoder.

    The ratio is the median over repeats of that of two neighbouring steps.
    """
    x = counts(4 * size, n_genes, density)
    two, many = "2 groups", f"{n_groups} groups"
    steps, rows = {}, []
    for name, encoder in ENCODERS.items():
        steps[name, two] = training_step(x, 2, size, encoder if name != "sampled" else encoder.func)
        steps[name, many] = training_step(x, n_groups, size, encoder)
    with compilation(True):
        times = interleaved(steps, repeats)
    for name in ENCODERS:
        ratio = times[name, many] / times[name, two]
        row = {"encoder": name, f"{two}, ms": times[name, two].median()}
        rows.append({**row, f"{many}, ms": times[name, many].median(), "ratio": ratio.median()})
    return pd.DataFrame(rows).round(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="CSV to write the table to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    table = measure(n_groups=args.groups, repeats=args.repeats)
    print(table.to_string(index=False))
    if args.out is not None:
        table.to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
