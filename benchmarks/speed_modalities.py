"""What a training step of two modalities costs beside the steps of each alone, taking turns.

    python -m benchmarks.speed_modalities snare_cortex_multiome.h5mu --what multiome --out cost.csv
    python -m benchmarks.speed_modalities pbmc_citeseq_mosaic.h5mu --what citeseq --out cost.csv

All have the default latents, minibatches of as many cells, one thread and the compiled likelihood.
Peak memory is that of a process of its own, which takes twenty steps; that of the start, without
any, is beside it.
"""

from __future__ import annotations

import argparse
import warnings
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import pyro
import torch

from benchmarks.modalities import read
from benchmarks.modality_peers import TASKS, Task
from benchmarks.training_steps import Step, in_turns, our_step
from pyro_mgvi import MGVI
from pyro_mgvi.likelihoods import ZINB
from pyro_mgvi.support.memory import peak_bytes

STEPS_IN_MEMORY = 20


def training_step(mdata: Any, task: Task, names: list[str], cells: int) -> Step:
    """Return a function that takes one training step of some modalities, minibatch included."""
    likelihood = {"rna": ZINB, task.second: task.likelihood}
    part = type(mdata)({name: mdata.mod[name] for name in names})
    mgvi = MGVI.from_mudata(part, task.group, {name: likelihood[name] for name in names}, seed=0)
    data = mgvi.read(part)
    return our_step(mgvi, data, cells, compiled=True, keep_sparse=data.mostly_zero)


def measure(path: Path, task: Task, cells: int, repeats: int) -> pd.DataFrame:
    """Return medians of steps in ms, of the ratio to the sum of both alone, and peaks in MB."""
    mdata = read(path)
    names = {"rna": ["rna"], task.second: [task.second], "both": ["rna", task.second]}
    steps = {name: training_step(mdata, task, own, cells) for name, own in names.items()}
    times = 1e3 * in_turns(steps, repeats)
    ratio = times["both"] / (times["rna"] + times[task.second])
    table = pd.DataFrame({"step, ms": times.median()})
    table.loc["both", "of the sum"] = ratio.median()
    for name, own in {**names, "none": []}.items():
        with get_context("spawn").Pool(1) as pool:
            table.loc[name, "peak, MB"] = pool.apply(peak, (path, task, own, cells)) / 1e6
    return table


def peak(path: Path, task: Task, names: list[str], cells: int) -> float:
    """Take some steps of these modalities, if any, and return this process's peak in bytes."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    mdata = read(path)
    if names:
        step = training_step(mdata, task, names, cells)
        for _ in range(STEPS_IN_MEMORY):
            step()
    return peak_bytes()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--what", choices=[*TASKS], required=True)
    parser.add_argument("--cells", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    pyro.set_rng_seed(0)
    table = measure(args.data, TASKS[args.what], args.cells, args.repeats).round(2)
    print(table.to_string())
    if args.out:
        table.to_csv(args.out)


if __name__ == "__main__":
    main()
