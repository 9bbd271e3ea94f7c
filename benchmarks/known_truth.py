"""What a dataset knows of its cells, and what nobody can pass on simulated ones."""

from __future__ import annotations

import numpy as np
from anndata import AnnData

from pyro_mgvi.analysis.metrics import kmeans_ari, log_shares, probe, program_score


def known_labels(adata: AnnData) -> np.ndarray:
    """Return the label of each cell that a dataset knows."""
    return adata.obs["celltype" if "celltype" in adata.obs else "label"].astype(str).to_numpy()


def program_ceilings(adata: AnnData, group: str) -> tuple[float, float]:
    """Return how well a group's programs can be told apart at all.

    The adjusted Rand index that the score of the true log factors reaches, and the balanced
    accuracy of a linear classifier of the true genes.
    """
    ideal, program = program_score(adata, group)
    mine = (adata.obs["group"] == group).to_numpy()
    genes = log_shares(adata.X[:, adata.var["is_program"].to_numpy(bool)][mine])
    return kmeans_ari(ideal, program), probe(genes, program)
