"""Groups of very different sizes: what is in which latent, and whether noise is beside it.

    python -m benchmarks.unequal --draws 5 --out DIR

Draws of the clear recipe cut to the given sizes; probes of each group's program from z and from its
t, beside the ceiling of a classifier of the true genes. Rows are written as they come.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch

from benchmarks.known_truth import program_ceilings
from pyro_mgvi import MGVI, TrainingPlan
from pyro_mgvi.analysis.metrics import probe
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.training import SearchSettings

SIZES = ((1000, 50), (1000, 100), (1000, 200), (800, 300))
PLANS = {
    "default": TrainingPlan(),
    "no handing over": TrainingPlan(search=SearchSettings(hand_over=10**6)),
}


def cells_of(draw: int, sizes: tuple[int, ...]) -> ad.AnnData:
    """Return a draw of the clear recipe whose groups have these sizes."""
    everything = clear_recipe(draw, 2200, 500, 100)
    group = everything.obs["group"].to_numpy(str)
    cells = [
        np.flatnonzero(group == g)[:size] for g, size in zip(np.unique(group), sizes, strict=True)
    ]
    return everything[np.concatenate(cells)].copy()


def main() -> None:
    """Run what is not there yet, then print the means over draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--out", type=Path, default=Path("unequal"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "unequal.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    for draw in range(arguments.draws):
        for sizes in SIZES:
            for plan in arguments.plans:
                key = {"draw": draw, "sizes": ":".join(map(str, sizes)), "plan": plan}
                if any(key.items() <= row.items() for row in rows):
                    continue
                adata = cells_of(draw, sizes)
                mgvi = MGVI.from_anndata(adata, "group", seed=draw)
                mgvi.fit(adata, PLANS[plan], progress=False)
                latents, group = mgvi.latents(adata), adata.obs["group"].to_numpy(str)
                for g in mgvi.schema.groups:
                    own = group == g
                    program = adata.obs["program"].to_numpy(str)[own]
                    t = latents[f"t_{g}"].to_numpy()[own]
                    rows.append(
                        key
                        | {
                            "group": g,
                            "z -> program": probe(latents["z"].to_numpy()[own], program),
                            "t -> program": probe(t, program),
                            "ceiling": program_ceilings(adata, g)[1],
                            "t in use": int((t.std(0) > 0).sum()),
                        }
                    )
                pd.DataFrame(rows).to_csv(path, index=False)
    table = pd.DataFrame(rows).groupby(["sizes", "group", "plan"], sort=False)
    print(table.mean(numeric_only=True).drop(columns="draw").round(2).to_string())


if __name__ == "__main__":
    main()
