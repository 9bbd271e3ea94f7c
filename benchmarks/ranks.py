"""The same training in one process and on several ranks: what it ends at, and what it takes.

    python -m benchmarks.ranks --seeds 3
    torchrun --nproc-per-node 2 -m benchmarks.ranks --seeds 3

Each prints the scores of a small clear simulation over seeds, and what the first process took for
the fit. A process has one thread.
"""

from __future__ import annotations

import argparse
import time

import pandas as pd
import torch

from benchmarks.disentangle import score
from pyro_mgvi import MGVI, TrainingPlan
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.support.launched import launched

SHOWN = ("loss", "-> label", "-> program", "epochs")


def main() -> None:
    """Train with each seed, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=1200)
    parser.add_argument("--genes", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=128)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    n_program, n_cells = arguments.genes // 4, arguments.cells
    n_shared = arguments.genes - n_program
    adata = clear_recipe(0, n_cells=n_cells, n_shared_genes=n_shared, n_program_genes=n_program)
    plan = TrainingPlan(max_epochs=arguments.epochs, batch_size=arguments.batch_size)
    place, rows = launched(), []
    for seed in range(arguments.seeds):
        mgvi = MGVI.from_anndata(adata, group_key="group", seed=seed)
        start, started = time.process_time(), time.perf_counter()
        mgvi.fit(adata, plan, accelerator="cpu", progress=False)
        seconds = {
            "CPU seconds": time.process_time() - start,
            "wall seconds": time.perf_counter() - started,
        }
        if place.rank == 0:
            found = score(adata, mgvi)
            shown = {k: v for k, v in found.items() if any(word in k for word in SHOWN)}
            rows.append(shown | seconds)
    if place.rank == 0:
        table = pd.DataFrame(rows).agg(["mean", "min", "max"]).T
        print(f"{place.n_ranks} process(es), {arguments.seeds} seeds")
        print(table.to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
