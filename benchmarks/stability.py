"""Does what is called hang on the seed? Models of several seeds, q-values of one split and of more.

    python -m benchmarks.stability KANG.h5ad --group stim --seeds 3 --splits 3 --out DIR

Each seed is another training, and other splits of the cells into halves. Printed are, for each
offset, the genes called at q < 0.1 by 1, 2, ... splits (a mean over seeds), the share of those
called by either of two seeds that both call, and the q-values of the genes that are asked for.
Scores are written as they come; what is there is not run again.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from pyro_mgvi import MGVI, cross_fit
from pyro_mgvi.analysis.cross_fit import q_values

CALLED = 0.1
OFFSETS = ("averaged", "own")


def scores(adata: ad.AnnData, group: str, seed: int, splits: int) -> pd.DataFrame:
    """Return normal scores, genes x (offset, split), of one model."""
    mgvi = MGVI.from_anndata(adata, "group", seed=seed)
    mgvi.fit(adata, progress=False)
    found = {}
    for split in range(splits):
        refits = cross_fit(mgvi, adata, progress=False, split=split)
        for offset in OFFSETS:
            table = mgvi.rank_genes(adata, group, offset=offset, calibration=refits, progress=False)
            found[f"{offset} {split}"] = table["z_score"].loc[adata.var_names]
    return pd.DataFrame(found)


def report(found: list[pd.DataFrame], splits: int, genes: list[str]) -> pd.DataFrame:
    """Return a row for each offset and number of splits."""
    rows = []
    for offset in OFFSETS:
        for n in range(1, splits + 1):
            columns = [f"{offset} {split}" for split in range(n)]
            q_ig = np.array([q_values(each[columns].mean(axis=1).to_numpy()) for each in found])
            called_ig = q_ig < CALLED
            shares = [(a & b).sum() / max(1, (a | b).sum()) for a, b in combinations(called_ig, 2)]
            row = {"offset": offset, "splits": n, "called": called_ig.sum(1).tolist()}
            row["in both of two seeds"] = round(float(np.mean(shares)), 2)
            for gene in genes:
                row[gene] = q_ig[:, found[0].index.get_loc(gene)].round(3).tolist()
            rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """Run what is not there, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--group", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--genes", nargs="*", default=["CXCL10"])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    adata, found = ad.read_h5ad(given.data), []
    for seed in range(given.seeds):
        path = given.out / f"{given.data.stem}_{given.group}_{given.splits}_{seed}.csv"
        if not path.exists():
            scores(adata, given.group, seed, given.splits).to_csv(path)
        found.append(pd.read_csv(path, index_col=0))
    print(report(found, given.splits, given.genes).to_string(index=False))


if __name__ == "__main__":
    main()
