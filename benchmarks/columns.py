"""Two columns, such as tissue x treatment: each program in its own latent, and nowhere else.

    python -m benchmarks.columns --study crossed --seeds 5 --out DIR
    python -m benchmarks.columns --study nested --seeds 3 --out DIR

Crossed: simulated cells of two tissues with two treatments. They have shared types; two programs
among the cells of one tissue (of either treatment), two among the treated cells (of either tissue),
and two among the treated cells of that tissue only (an interaction); and in each combination, some
genes are shifted in all cells, by amounts that do not add up over the columns. Nested: three donors
of each of two conditions, with two programs among the cells of one condition and two in one donor.

The two programs of a set are told apart by a linear probe of each latent, on the cells that have
them and own it, beside the ceiling (a probe of the score that knows the true factors of all genes);
chance is 0.5. The same with one combined column. What is there already is not run again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse

from pyro_mgvi import MGVI, Latent, per, private, shared
from pyro_mgvi.analysis.metrics import probe
from pyro_mgvi.datasets import clear_recipe


class Study(NamedTuple):
    """Simulated cells: their groups, who has which set of programs, and how to fit them.

    Attributes
    ----------
    columns
        What the two parts of a group's name are levels of.
    groups
        Names of the groups.
    programs
        For each set of two programs, the groups whose cells have one of them.
    latents
        Of the fit with two columns.
    """

    columns: tuple[str, str]
    groups: tuple[str, ...]
    programs: dict[str, tuple[str, ...]]
    latents: tuple[Latent, ...]


CROSSED, NESTED = ("tissue", "treatment"), ("condition", "donor")
STUDIES = {
    "crossed": Study(
        CROSSED,
        ("Ileum_ctrl", "Ileum_stim", "Colon_ctrl", "Colon_stim"),
        {
            "tissue": ("Ileum_ctrl", "Ileum_stim"),
            "treatment": ("Ileum_stim", "Colon_stim"),
            "interaction": ("Ileum_stim",),
        },
        (shared(10), per("tissue", 10), per("treatment", 10), per(CROSSED, 5)),
    ),
    "nested": Study(
        NESTED,
        ("ctrl_d1", "ctrl_d2", "ctrl_d3", "stim_d4", "stim_d5", "stim_d6"),
        {"condition": ("stim_d4", "stim_d5", "stim_d6"), "donor": ("ctrl_d1",)},
        (shared(10), per("condition", 10), per("donor", 5)),
    ),
}
COMBINED = (shared(10), private(10))
DESIGNS = ("two columns", "combined column")


def simulated(study: Study, seed: int, n_cells: int, sizes: tuple[int, int]) -> ad.AnnData:
    """Return cells of a study, with so many genes of types and of each set of programs."""
    owners = list(study.programs.values())  # any number of groups
    groups = list(study.groups)
    adata = clear_recipe(seed, n_cells, *sizes, n_programs=1, groups=groups, pairs=owners)
    parts = adata.obs["group"].astype(str).str.split("_", expand=True)
    for i, column in enumerate(study.columns):
        adata.obs[column] = parts[i]
    return adata


def truths(study: Study, adata: ad.AnnData) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """Return of each set of programs: which cells have them, which of the two, the ceiling."""
    found = {}
    for name, groups in study.programs.items():
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


def scores(study: Study, adata: ad.AnnData, mgvi: MGVI) -> list[dict[str, object]]:
    """Return the accuracy of each program in each latent, of the cells that own both."""
    latents, rows = mgvi.latents(adata), []
    for name, (mine, label, ceiling) in truths(study, adata).items():
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
    parser.add_argument("--study", choices=STUDIES, default="crossed")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cells", type=int, default=3000)
    parser.add_argument("--genes", type=int, nargs=2, default=[1000, 150], help="types, programs")
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, default=list(DESIGNS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("columns"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    study, folder = STUDIES[arguments.study], arguments.out / arguments.study
    folder.mkdir(parents=True, exist_ok=True)
    fits = {"two columns": (study.columns, study.latents), "combined column": ("group", COMBINED)}
    for seed in range(arguments.seeds):
        adata = simulated(study, seed, arguments.cells, tuple(arguments.genes))
        for design in arguments.designs:
            path = folder / f"{design.replace(' ', '_')}-{seed}.csv"
            if path.exists():
                continue
            key, latents = fits[design]
            start = time.perf_counter()
            mgvi = MGVI.from_anndata(adata, key, latents=latents, seed=seed)
            print(mgvi.fit(adata, progress=False))
            table = pd.DataFrame(scores(study, adata, mgvi))
            table = table.assign(design=design, seed=seed, seconds=time.perf_counter() - start)
            table.to_csv(path, index=False)
    print(summary(folder))


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
