"""How a training step's cost grows with the number of groups: many against two, taking turns.

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

import pandas as pd
import pyro
import torch
from speed import grouped_counts, our_step

from pyro_mgvi import MGVI, SeparateEncoders, SharedTrunk

SAMPLED = partial(SeparateEncoders, foreign_sample=8)
ENCODERS = {  # of many groups, and of the two that they are compared with
    "all cells": (SeparateEncoders, SeparateEncoders),
    "sampled": (SAMPLED, SeparateEncoders),
    "shared trunk": (SharedTrunk, SharedTrunk),
    "shared trunk, sampled": (partial(SharedTrunk, foreign_sample=8), SharedTrunk),
}


def training_step(encoder, groups: int, genes: int, cells: int, density: float) -> Callable:
    """Return a function that takes one training step, minibatch included."""
    adata = grouped_counts(4 * cells, genes, groups, density)
    mgvi = MGVI.from_anndata(adata, "group", encoder=encoder)
    data = mgvi.read(adata)
    return our_step(mgvi, data, cells, compiled=True, keep_sparse=data.mostly_zero)


def in_turns(steps: dict, repeats: int) -> pd.DataFrame:
    """Return the milliseconds of each step, a row per repeat and a column per step."""
    rows = []
    for repeat in range(repeats + 2):
        row = {}
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            row[name] = 1e3 * (time.perf_counter() - start)
        if repeat > 1:  # the first ones warm up, and compile
            rows.append(row)
    return pd.DataFrame(rows)


def measure(groups=50, genes=2000, cells=512, density=0.05, repeats=15) -> pd.DataFrame:
    """Return the median of each step and of the ratio of two in the same turn, by encoder."""
    steps = {}
    for name, (encoder, plain) in ENCODERS.items():
        steps[name, "many"] = training_step(encoder, groups, genes, cells, density)
        steps[name, "two"] = training_step(plain, 2, genes, cells, density)
    times = in_turns(steps, repeats)
    rows = []
    for name in ENCODERS:
        two, many = times[name, "two"], times[name, "many"]
        medians = {"2 groups, ms": two.median(), f"{groups} groups, ms": many.median()}
        rows.append({"encoder": name, **medians, "ratio": (many / two).median()})
    return pd.DataFrame(rows).round(2)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, help="CSV to write the table to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with pyro.settings.context(module_local_params=True):
        table = measure(arguments.groups, repeats=arguments.repeats)
    print(table.to_string(index=False))
    if arguments.out is not None:
        table.to_csv(arguments.out, index=False)


if __name__ == "__main__":
    main()
