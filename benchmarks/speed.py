"""Cells per second of a training step, beside its floor and scvi-tools' ContrastiveVI.

    python -m benchmarks.speed steps --out DIR          # a training step, each way to take it
    python -m benchmarks.speed fit DATA.h5ad --out DIR  # time to 99 % of the held-out gain
    python -m benchmarks.speed memory --out DIR         # 100,000 cells x 2,000 genes at 5 %

All alternatives of one setting are built first and take turns, so that a noisy machine slows all of
them; figures are medians. The floor is the matrix products of the very same step, forward and
backward, alone. ContrastiveVI needs the extra: pip install "pyro-mgvi[benchmark]".
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from multiprocessing import get_context
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pyro
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.training_steps import Step, grouped_counts, in_turns, our_step
from pyro_mgvi import MGVI

SETTINGS = (  # genes, groups, cells a step, density
    (5200, 2, 256, 0.65),
    (2000, 3, 384, 0.10),
    (2000, 50, 512, 0.05),
    (10_000, 4, 512, 0.04),
)
PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm")


def contrastive_step(adata: ad.AnnData, cells: int) -> Step:
    """Return a function that takes one step of scvi-tools' ContrastiveVI, dense minibatch ready."""
    from scvi.external import ContrastiveVI

    ContrastiveVI.setup_anndata(adata)
    module = ContrastiveVI(adata, use_observed_lib_size=False).module.train()
    adam = torch.optim.Adam(module.parameters(), lr=1e-4, eps=0.01, weight_decay=1e-6)
    rng, rows = np.random.default_rng(0), {}
    for name, group in (("background", "g0"), ("target", "g1")):
        rows[name] = np.flatnonzero(adata.obs["group"] == group)

    def step() -> None:
        tensors = {}
        for name, candidates in rows.items():
            x = adata.X[rng.choice(candidates, cells // 2, replace=False)].toarray()
            x = torch.from_numpy(x.astype(np.float32))
            tensors[name] = {
                "X": x,
                "batch": torch.zeros(cells // 2, 1).long(),
                "labels": x[:, :1] * 0,
            }
        loss = module(tensors, loss_kwargs={"kl_weight": 1.0})[-1].loss
        adam.zero_grad()
        loss.backward()
        adam.step()

    return step


def floor(mgvi: MGVI, cells: int) -> Step:
    """Return a function that does the matrix products of one step of this model, and no more."""
    encoder, decoder = mgvi.guide.encoder, mgvi.model.decoder
    networks, genes, hidden = encoder.first.weight.shape
    products = [(cells, genes, networks * hidden, False)]  # rows, inner, columns, gradient of input
    products += [
        (cells * len(head.weight), hidden, head.weight.shape[-1], True)
        for head in encoder.heads.values()
    ]
    inputs = decoder.trunk.in_features
    products += [(cells, inputs, hidden, True)]
    products += [(cells, hidden, genes, True) for _ in decoder.heads]
    products += [(cells, decoder.own_gk.shape[1], genes, True)]  # linear terms, side by side
    operands = [
        (torch.rand(n, k), torch.rand(k, m), torch.rand(n, m), wanted)
        for n, k, m, wanted in products
    ]

    def step() -> None:
        for x, w, gradient, wanted in operands:
            x @ w
            x.T @ gradient
            if wanted:
                gradient @ w.T

    return step


def steps(arguments: argparse.Namespace) -> pd.DataFrame:
    """Time all alternatives of each setting, taking turns."""
    rows = []
    for genes, groups, cells, density in SETTINGS[: arguments.settings]:
        adata = grouped_counts(4 * cells, genes, groups, density)
        mgvi = MGVI.from_anndata(adata, "group")
        data = mgvi.read(adata).unpacked()
        alternatives = {
            "eager": our_step(mgvi, data, cells, False, False),
            "compiled": our_step(mgvi, data, cells, True, False),
            "floor": floor(mgvi, cells),
        }
        if density <= 0.1:
            alternatives["compiled, sparse"] = our_step(mgvi, data, cells, True, True)
        if groups == 2:
            alternatives["ContrastiveVI"] = contrastive_step(adata, cells)
        for threads in arguments.threads:
            torch.set_num_threads(threads)
            medians = in_turns(alternatives, arguments.repeats).median().to_dict()
            key = {"genes": genes, "groups": groups, "cells": cells, "threads": threads}
            for name, median in medians.items():
                measures = {
                    "ms": 1e3 * median,
                    "cells per second": cells / median,
                    "of the floor": median / medians["floor"],
                    "of compiled": median / medians["compiled"],
                }
                rows.append(key | {"what": name} | measures)
            print(pd.DataFrame(rows[-len(medians) :]).to_string(index=False), flush=True)
            for name in set(alternatives) - {"floor", "ContrastiveVI"}:
                print(f"{name}: " + shares(alternatives[name]), flush=True)
    return pd.DataFrame(rows)


def shares(step: Step) -> str:
    """Return where a step's time goes, in percent."""
    with warnings.catch_warnings(), profile(activities=[ProfilerActivity.CPU]) as profiled:
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        for _ in range(3):
            step()
        wall = 1e6 * (time.perf_counter() - start)
    kinds = dict.fromkeys(("products", "likelihood", "optimiser", "drop-out", "other tensors"), 0.0)
    for event in profiled.key_averages():
        kind = "other tensors"
        if event.key in PRODUCTS:
            kind = "products"
        elif "CompiledFxGraph" in event.key or "CellLogProb" in event.key:
            kind = "likelihood"
        elif "adam" in event.key.lower():
            kind = "optimiser"
        elif event.key == "aten::bernoulli_":
            kind = "drop-out"
        kinds[kind] += event.self_cpu_time_total
    kinds["Python, Pyro, data"] = max(0.0, wall - sum(kinds.values()))
    return ", ".join(f"{kind} {100 * time_ / wall:.0f} %" for kind, time_ in kinds.items())


def fit(arguments: argparse.Namespace) -> pd.DataFrame:
    """Time the seconds of training to 99 % of the final gain in held-out ELBO."""
    rows = []
    torch.set_num_threads(max(arguments.threads))
    for path in arguments.data:
        adata = ad.read_h5ad(path)
        for seed in range(arguments.seeds):
            mgvi = MGVI.from_anndata(adata, "group", seed=seed)
            start = time.perf_counter()
            mgvi.fit(adata, progress=False)
            seconds = time.perf_counter() - start
            loss = mgvi.history["validation"].to_numpy()
            enough = loss[0] - 0.99 * (loss[0] - loss.min())
            epochs = int(np.argmax(loss <= enough)) + 1
            rows.append(
                {
                    "dataset": path.stem,
                    "seed": seed,
                    "epochs": len(loss),
                    "seconds": seconds,
                    "epochs to 99 %": epochs,
                    "seconds to 99 %": seconds * epochs / len(loss),
                }
            )
            print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def memory(arguments: argparse.Namespace) -> pd.DataFrame:
    """Train one epoch on and encode many cells; report peak memory over the counts' own.

    Another process simulates the cells: what it needs for that is none of ours.
    """
    torch.set_num_threads(max(arguments.threads))
    path = arguments.out / f"cells_{arguments.cells}.h5ad"
    if not path.exists():
        process = get_context("spawn").Process(target=_simulate, args=(arguments.cells, path))
        process.start()
        process.join()
    adata = ad.read_h5ad(path)
    x = adata.X
    counts = (x.data.nbytes + x.indices.nbytes + x.indptr.nbytes) / 1e6
    mgvi = MGVI.from_anndata(adata, "group")
    before = _resident()  # the interpreter, its libraries and the counts
    start = time.perf_counter()
    mgvi.fit(adata, max_epochs=1, progress=False)
    trained = time.perf_counter()
    mgvi.latents(adata)
    encoded = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    row = {
        "cells": len(x.indptr) - 1,
        "counts MB": counts,
        "resident before MB": before,
        "peak MB": peak,
        "peak over counts MB": peak - counts,
        "training cells per second": x.shape[0] / (trained - start),
        "encoding cells per second": x.shape[0] / (encoded - trained),
    }
    print(row)
    return pd.DataFrame([row])


def _simulate(n_cells: int, path: Path) -> None:
    grouped_counts(n_cells, 2000, 2, 0.05).write_h5ad(path)


def _resident() -> float:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize() / 1e6


def main() -> None:
    """Run one of the three measurements and write its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("steps", "fit", "memory"))
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--settings", type=int, default=4, help="how many of the four settings")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("speed"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pyro.settings.set(module_local_params=arguments.what == "steps")
    table = {"steps": steps, "fit": fit, "memory": memory}[arguments.what](arguments)
    table.to_csv(arguments.out / f"{arguments.what}.csv", index=False)


if __name__ == "__main__":
    main()
