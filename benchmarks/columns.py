"""Two columns, tissue x treatment: each program in its own latent, and nowhere else.

    python -m benchmarks.columns --seeds 5 --out DIR

Simulated cells of two tissues with two treatments: shared types; two programs among the cells of
one tissue (of either treatment), two among the treated cells (of either tissue), and two among the
treated cells of that tissue only (an interaction); and in each combination, some genes are shifted
in all cells, by amounts that do not add up over the columns. The two programs of a set are told
apart by a linear probe of each latent, on the cells that have them and own it, beside the ceiling
(a probe of the score that knows the true factors of all genes); chance is 0.5. The same with one
combined column. Rows are written as they come.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse

from pyro_mgvi import MGVI, Latent, per, private, shared
from pyro_mgvi.analysis.metrics import probe
from pyro_mgvi.datasets import clear_recipe

GROUPS = tuple(f"{tissue}_{drug}" for tissue in ("Ileum", "Colon") for drug in ("ctrl", "stim"))
PROGRAMS = {  # and the groups whose cells have one of the two
    "tissue": ("Ileum_ctrl", "Ileum_stim"),
    "treatment": ("Ileum_stim", "Colon_stim"),
    "interaction": ("Ileum_stim",),
}
COLUMNS = ("tissue", "treatment")
DESIGNS: dict[str, tuple[str | tuple[str, ...], tuple[Latent, ...]]] = {
    "two columns": (
        COLUMNS,
        (shared(10), per("tissue", 10), per("treatment", 10), per(COLUMNS, 5)),
    ),
    "combined column": ("group", (shared(10), private(10))),
}


def simulated(seed: int, n_cells: int, n_shared_genes: int, n_program_genes: int) -> ad.AnnData:
    """Return cells of tissue x treatment, and the programs of each set of groups."""
    sizes = n_cells, n_shared_genes, n_program_genes
    owners = list(PROGRAMS.values())  # of one group or of two, it is all the same
    adata = clear_recipe(seed, *sizes, n_programs=1, groups=list(GROUPS), pairs=owners)
    parts = adata.obs["group"].astype(str).str.split("_", expand=True)
    adata.obs["tissue"], adata.obs["treatment"] = parts[0], parts[1]
    return adata


def truths(adata: ad.AnnData) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """Return of each set of programs: which cells have them, which of the two, the ceiling."""
    found = {}
    for name, groups in PROGRAMS.items():
        kind = f"pair_{'+'.join(groups)}"
        mine = adata.obs["group"].isin(groups).to_numpy()
        label = adata.obs[kind].astype(str).to_numpy()
        genes = (adata.var["kind"] == kind).to_numpy()
        one, two = (
            np.log(adata.var.loc[genes, f"DEFac{kind}_{i}"].to_numpy(float)) for i in (1, 2)
        )
        x = sparse.csr_matrix(adata.X)[mine][:, genes].toarray()
        score = x / np.maximum(x.sum(1, keepdims=True), 1) @ (one - two)
        found[name] = mine, label, probe(score[:, None], label[mine])
    return found


def scores(adata: ad.AnnData, mgvi: MGVI) -> list[dict[str, object]]:
    """Return the accuracy of each program in each latent, of the cells that own both."""
    latents, rows = mgvi.latents(adata), []
    for name, (mine, label, ceiling) in truths(adata).items():
        for copy in mgvi.families.copies:
            values = latents[copy.key].to_numpy()
            cells = mine & np.isfinite(values).all(1)
            if cells.sum() < 50:
                continue
            rows.append(
                {
                    "program": name,
                    "latent": copy.key,
                    "accuracy": probe(values[cells], label[cells]),
                    "ceiling": ceiling,
                    "in use": int((values[cells].std(0) > 0).sum()),
                }
            )
    for copy in mgvi.families.copies:
        values = latents[copy.key].to_numpy()
        cells = np.isfinite(values).all(1)
        types = adata.obs["celltype"].astype(str).to_numpy()
        accuracy = probe(values[cells], types[cells])
        used = int((values[cells].std(0) > 0).sum())
        rows.append({"program": "type", "latent": copy.key, "accuracy": accuracy, "in use": used})
    return rows


def main() -> None:
    """Run what is not there yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--cells", type=int, default=3000)
    parser.add_argument("--genes", type=int, nargs=2, default=[1000, 150], help="shared, programs")
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, default=list(DESIGNS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("columns"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        for design in arguments.designs:
            path = arguments.out / f"{design.replace(' ', '_')}-{seed}.csv"
            if path.exists():
                continue
            adata = simulated(seed, arguments.cells, *arguments.genes)
            key, latents = DESIGNS[design]
            start = time.perf_counter()
            mgvi = MGVI.from_anndata(adata, key, latents=latents, seed=seed)
            print(mgvi.fit(adata, progress=False))
            table = pd.DataFrame(scores(adata, mgvi))
            table = table.assign(design=design, seed=seed, seconds=time.perf_counter() - start)
            table.to_csv(path, index=False)
    print(summary(arguments.out))


def summary(folder: Path) -> str:
    """Return the mean, lowest and highest accuracy over seeds of each program in each latent."""
    table = pd.concat([pd.read_csv(path) for path in sorted(folder.glob("*.csv"))])
    table["below ceiling"] = table["ceiling"] - table["accuracy"]
    by = table.groupby(["design", "program", "latent"], sort=False)
    found = by["accuracy"].agg(["mean", "min", "max"])
    found["ceiling"] = by["ceiling"].mean()
    found["most below"] = by["below ceiling"].max()
    found["in use"] = by["in use"].mean()
    return found.round(3).to_string()


if __name__ == "__main__":
    main()
