"""The sets that the peers are compared on: which columns hold groups and labels."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np

from pyro_mgvi.datasets import clear_recipe

GENES = 2000  # at most, for every method alike
HELD_OUT = 0.05  # share of them that no method sees, to ask how much its latents say of them


class Set(NamedTuple):
    """A file of reference data, and its columns of groups and known labels."""

    file: str
    group: str = "group"
    label: str = "label"


SETS = {
    "Kang, interferon": Set("kang_pbmc_muscat"),
    "Baron, species": Set("baron_pancreas_two_species"),
    "Baron, donors": Set("baron_pancreas_two_species", "donor"),
    "cell lines, protocols": Set("sc_mixology_celllines"),
    "RNA mixtures, protocols": Set("sc_mixology_rnamix"),
    "pig airway, CFTR": Set("pig_airway_cftr"),
    "onek1k, sex": Set("onek1k_40_donors", "sex"),
    "Splat, clear": Set("splatter_clear_seed21", label="celltype"),
    "Splat, paper's recipe": Set("splatter_paper_seed1_3k", label="celltype"),
}
QUICK = "simulated, quick"  # needs no file


def read(name: str, folder: Path | None) -> ad.AnnData:
    """Return a set with counts in ``X`` and text in ``obs`` columns ``group`` and ``label``.

    The same genes for all: those of highest variance beyond Poisson's within groups, at most
    2,000, which no label and no method has chosen. One in twenty, at random, is marked in
    ``var["held_out"]``.

    Raises
    ------
    SystemExit
        If the set needs a folder and there is none.
    """
    if name == QUICK:
        adata = clear_recipe(seed=0, n_cells=400, n_shared_genes=200, n_program_genes=50)
        group, label = "group", "celltype"
    else:
        if folder is None:
            raise SystemExit(f"{name!r} is a file: say in which folder, --folder DIR")
        file, group, label = SETS[name]
        adata = ad.read_h5ad(folder / f"{file}.h5ad")
    obs = adata.obs
    program = {"program": obs["program"].astype(str)} if "program" in obs else {}
    columns = {"group": obs[group].astype(str), "label": obs[label].astype(str)} | program
    genes = most_variable(adata, columns["group"].to_numpy())
    counts = np.asarray(adata.to_df().to_numpy()[:, genes], np.float32)
    held_out = np.random.default_rng(0).random(len(genes)) < HELD_OUT
    var = adata.var[[]].iloc[genes].assign(held_out=held_out)
    chosen = ad.AnnData(counts, obs=obs[[]].assign(**columns), var=var)
    return chosen[counts[:, ~held_out].sum(1) > 0].copy()


def most_variable(adata: ad.AnnData, group_n: np.ndarray) -> np.ndarray:
    """Return the positions of the genes that vary most within groups, in their order."""
    counts_ng = np.asarray(adata.to_df().to_numpy(), float)
    share_ng = counts_ng / counts_ng.sum(1, keepdims=True).clip(1)
    excess_g = np.zeros(adata.n_vars)
    for name in np.unique(group_n):
        mine = share_ng[group_n == name]
        mean_g = mine.mean(0)
        poisson_g = mean_g * (1 / counts_ng[group_n == name].sum(1).clip(1)).mean()
        excess_g += (mine.var(0) - poisson_g) / np.maximum(mean_g, 1e-9)
    return np.sort(np.argsort(-excess_g, kind="stable")[:GENES])
