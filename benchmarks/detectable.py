"""What can be seen of a simulated group's own programs at all, and by what means.

    python -m benchmarks.detectable SPLATTER.h5ad [...] --out DIR
    python -m benchmarks.detectable --draws 0 1 2 --out DIR  # of the paper's recipe, at full size

Balanced accuracy of a linear probe for a group's program (chance 0.5), when told ever less:

- ``program genes known``: a supervised classifier of the true program genes, nobody's to pass;
- ``pairs of genes, z known``: scores of the directions that our search finds in the residuals of a
  perfect shared latent;
- ``principal components, z known``: the first ten of the same residuals.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA

from benchmarks.pearson import pearson_residuals
from benchmarks.recipes import RECIPES
from pyro_mgvi import SearchSettings
from pyro_mgvi.analysis.metrics import log_shares, probe
from pyro_mgvi.training.search.pairs import leading_directions
from pyro_mgvi.training.search.residuals import Residuals


def residuals(adata: ad.AnnData, group: str) -> Residuals:
    """Return Pearson residuals of a group's cells about all that is shared.

    That is each cell's true type and, as type and program genes are drawn with library sizes of
    their own, its total over each of these two kinds of genes.
    """
    cells = np.flatnonzero(adata.obs["group"] == group)
    x_ng, type_n = adata.X[cells].toarray().astype(float), adata.obs["celltype"].to_numpy()[cells]
    mean_ng, program_g = np.empty_like(x_ng), adata.var["is_program"].to_numpy(bool)
    for genes in (program_g, ~program_g):
        size_n1 = x_ng[:, genes].sum(1, keepdims=True)
        for name in np.unique(type_n):
            own = type_n == name
            share_g = (x_ng[np.ix_(own, genes)].sum(0) + 0.5) / size_n1[own].sum()
            mean_ng[np.ix_(own, genes)] = size_n1[own] * share_g
    r_ng, sd_ng = pearson_residuals(x_ng, mean_ng)
    as_tensors = (r_ng - r_ng.mean(0), (mean_ng / sd_ng).mean(0))
    return Residuals(*(torch.from_numpy(v).float() for v in as_tensors), cells)


def detectable(adata: ad.AnnData) -> list[dict]:
    """Return, for each group, what each way to look for its programs sees."""
    groups = sorted(adata.obs["group"].astype(str).unique())
    each = {group: residuals(adata, group) for group in groups}
    genes = adata.var["is_program"].to_numpy(bool)
    rows = []
    for group in groups:
        r_ng, _, cells = each[group]
        program_n = adata.obs["program"].astype(str).to_numpy()[cells]
        others = torch.cat([each[other].r_ng for other in groups if other != group])
        everywhere_g = torch.ones(adata.n_vars, dtype=torch.bool)
        found, _ = leading_directions([each[group]], others, everywhere_g, SearchSettings())
        scores = [direction.score_n.numpy() for direction in found]
        components = PCA(10, random_state=0).fit_transform(r_ng.numpy())
        seen = {
            "program genes known": log_shares(adata.X[cells][:, genes]),
            "pairs of genes, z known": np.stack([np.zeros(len(cells)), *scores], 1),
            "principal components, z known": components,
        }
        row = {what: probe(values, program_n) for what, values in seen.items()}
        rows.append({"group": group, "directions": len(found)} | row)
    return rows


def main() -> None:
    """Look at each dataset, and write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--draws", nargs="*", type=int, default=[])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("detectable"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    datasets = [(path.stem, lambda path=path: ad.read_h5ad(path)) for path in arguments.data]
    datasets += [
        (f"draw {seed}", lambda seed=seed: RECIPES["paper"](seed)) for seed in arguments.draws
    ]
    rows = []
    for name, read in datasets:
        rows += [{"dataset": name} | row for row in detectable(read())]
        pd.DataFrame(rows).to_csv(arguments.out / "detectable.csv", index=False)
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
