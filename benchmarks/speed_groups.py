"""How a training step's cost grows with the number of groups: many against two, taking turns.

    python -m benchmarks.speed_groups --out groups.csv

Both sides have the same genes, cells a step and density, one thread, the compiled likelihood and
the default latents. Only ratios within one run mean anything: machines differ, and are shared.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import pyro
import torch

from benchmarks.training_steps import Step, grouped_counts, in_turns, our_step
from pyro_mgvi import MGVI, SeparateEncoders, SharedTrunk

SAMPLED = 8  # foreign cells that each copy encodes in a step
ENCODERS = {  # settings of many groups; the two that they are compared with encode all cells
    "all cells": {"encoder": SeparateEncoders},
    "sampled": {"encoder": SeparateEncoders, "foreign_sample": SAMPLED},
    "shared trunk": {"encoder": SharedTrunk},
    "shared trunk, sampled": {"encoder": SharedTrunk, "foreign_sample": SAMPLED},
}


def training_step(settings: dict, groups: int, genes: int, cells: int, density: float) -> Step:
    """Return a function that takes one training step, minibatch included."""
    adata = grouped_counts(4 * cells, genes, groups, density)
    mgvi = MGVI.from_anndata(adata, "group", **settings)
    data = mgvi.read(adata)
    return our_step(mgvi, data, cells, compiled=True, keep_sparse=data.mostly_zero)


def measure(
    groups: int = 50,
    genes: int = 2000,
    cells: int = 512,
    density: float = 0.05,
    repeats: int = 15,
) -> pd.DataFrame:
    """Return the median of each step and of the ratio of two in the same turn, by encoder."""
    steps = {}
    for name, settings in ENCODERS.items():
        plain = {"encoder": settings["encoder"]}
        steps[name, "many"] = training_step(settings, groups, genes, cells, density)
        steps[name, "two"] = training_step(plain, 2, genes, cells, density)
    times = 1e3 * in_turns(steps, repeats)
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
