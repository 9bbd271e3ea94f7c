"""Small simulated cells of tissue x drug, with a program of a tissue and one of a drug."""

import numpy as np

from pyro_mgvi import per, shared
from pyro_mgvi.datasets import clear_recipe

KEYS = ("tissue", "drug")
GROUPS = ("Colon_ctrl", "Colon_stim", "Ileum_ctrl", "Ileum_stim")
LATENTS = (shared(3), per("tissue", 2), per("drug", 2), per(KEYS, 1))
PAIRS = [("Ileum_ctrl", "Ileum_stim"), ("Colon_stim", "Ileum_stim")]


def tissue_by_drug(n_cells=160, n_genes=45, n_program_genes=15, seed=1):
    sizes = n_cells, n_genes, n_program_genes
    adata = clear_recipe(seed, *sizes, n_programs=1, groups=list(GROUPS), pairs=PAIRS)
    parts = adata.obs["group"].astype(str).str.split("_", expand=True)
    adata.obs["tissue"], adata.obs["drug"] = parts[0], parts[1]
    adata.obs["donor"] = parts[1] + [f"{i % 3}" for i in np.arange(adata.n_obs)]  # within drugs
    return adata
