"""The same training in one process and on several ranks: what it ends at, and what it takes.

    python -m benchmarks.ranks --seeds 3
    torchrun --nproc-per-node 2 -m benchmarks.ranks --seeds 3

Each prints the means over seeds of the scores of a small clear simulation, and the CPU time of its
first process. Ranks have one thread each.
"""

from __future__ import annotations

import argparse
import time

import pandas as pd
import torch

from benchmarks.disentangle import score
from pyro_mgvi import MGVI
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.support.launched import launched

SHOWN = ("loss", "-> label", "-> program", "epochs")


def main() -> None:
    """Train with each seed, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=1200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    adata = clear_recipe(0, n_cells=arguments.cells, n_shared_genes=300, n_program_genes=100)
    place, rows = launched(), []
    for seed in range(arguments.seeds):
        mgvi = MGVI.from_anndata(adata, group_key="group", seed=seed)
        start = time.process_time()
        mgvi.fit(adata, accelerator="cpu", progress=False)
        seconds = time.process_time() - start
        if place.rank == 0:
            found = score(adata, mgvi)
            shown = {k: v for k, v in found.items() if any(word in k for word in SHOWN)}
            rows.append(shown | {"CPU seconds": seconds})
    if place.rank == 0:
        table = pd.DataFrame(rows).agg(["mean", "min", "max"]).T
        print(f"{place.n_ranks} process(es), {arguments.seeds} seeds")
        print(table.to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
