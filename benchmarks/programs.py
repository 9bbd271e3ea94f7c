"""Are the q-values of programs what they say: genes called, and false ones among them.

    python -m benchmarks.programs --seeds 8 11 12 --out DIR

``clear_recipe(seed, 1000, 400, 100)``; true is a gene with a difference between the group's two
programs. Rows are written as they come.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi import MGVI, cross_fit
from pyro_mgvi.datasets import clear_recipe


def affected(adata: AnnData, group: str) -> pd.Series:
    """Return which genes differ between the programs of a group."""
    of_group = adata.obs["program"][(adata.obs["group"] == group).to_numpy()]
    factors = [f"DEFac{program}" for program in of_group.unique()]
    return adata.var[factors].nunique(axis=1) > 1


def measure(seed: int, folds: int) -> list[dict[str, object]]:
    """Fit once, and return a row for each private dimension in use."""
    adata = clear_recipe(seed, n_cells=1000, n_shared_genes=400, n_program_genes=100)
    mgvi = MGVI.from_anndata(adata, "group")
    mgvi.fit(adata, progress=False)
    refits = cross_fit(mgvi, adata, progress=False, folds=folds)
    owner = {copy.key: copy.label for copy in mgvi.families.copies}
    rows = []
    table = mgvi.programs(adata, calibration=refits)
    for (latent, dimension), genes in table.groupby(["latent", "dimension"]):
        true = affected(adata, owner[latent])[genes["gene"]].to_numpy()
        called = (genes["q_value"] < 0.1).to_numpy()
        rows.append(
            {
                "seed": seed,
                "latent": latent,
                "dimension": dimension,
                "true": int(true.sum()),
                "called": int(called.sum()),
                "false": int((called & ~true).sum()),
                "sd_of_z_of_others": round(float(np.std(genes["z_score"][~true])), 2),
                "true_of_first_20": float(true[:20].mean()),
            }
        )
    return rows


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[8, 11, 12])
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("programs"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for seed in arguments.seeds:
        rows += measure(seed, arguments.folds)
        pd.DataFrame(rows).to_csv(arguments.out / "programs.csv", index=False)
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
