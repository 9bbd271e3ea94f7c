"""The demo: simulate groups with known truth, fit, and score what was found."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure

from pyro_mgvi import plots
from pyro_mgvi.analysis import metrics
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.mgvi import MGVI


def simulate(seed: int = 0, n_cells: int = 2000) -> AnnData:
    """Return the demo's data: two groups, five shared types, two visible programs each."""
    return clear_recipe(seed, n_cells=n_cells, n_shared_genes=1000, n_program_genes=200)


def scores(adata: AnnData, prefix: str = "X_mgvi_") -> pd.DataFrame:
    """Score latents against a simulated truth, each score beside what is best possible.

    Parameters
    ----------
    adata
        Simulated data with latents in ``obsm`` under ``prefix``.
    prefix
        Start of the latents' keys.

    Returns
    -------
    A table with the columns ``score``, ``value``, ``best`` (the ceiling, or chance) and ``aim``.
    """
    z = adata.obsm[f"{prefix}z"]
    rows = [
        ("type ARI (shared)", metrics.kmeans_ari(z, adata.obs["celltype"]), 1.0, "ceiling"),
        (
            "group probe (shared)",
            metrics.probe(z, adata.obs["group"]),
            _chance(adata.obs["group"]),
            "chance",
        ),
    ]
    for group in adata.obs["group"].cat.categories:
        mine = (adata.obs["group"] == group).to_numpy()
        t = adata.obsm[f"{prefix}t_{group}"][mine]
        ideal, program = metrics.program_score(adata, group)
        rows.append(
            (
                f"program ARI ({group})",
                metrics.kmeans_ari(t, program),
                metrics.kmeans_ari(ideal, program),
                "ceiling",
            )
        )
        types = adata.obs["celltype"][mine]
        rows.append((f"type probe ({group})", metrics.probe(t, types), _chance(types), "chance"))
    return pd.DataFrame(rows, columns=["score", "value", "best", "aim"])


def _chance(labels: pd.Series) -> float:
    return 1.0 / len(np.unique(labels))


def figure(adata: AnnData) -> Figure:
    """Return a figure of the latents coloured by the truth."""
    groups = list(adata.obs["group"].cat.categories)
    panels = [("X_mgvi_z", "celltype"), ("X_mgvi_z", "group")]
    panels += [(f"X_mgvi_t_{group}", "program") for group in groups]
    panels += [(f"X_mgvi_t_{group}", "celltype") for group in groups]
    drawn: Figure = plots.latents(adata, panels, layout=plots.pca)[0].figure
    return drawn


def run(
    seed: int = 0, max_epochs: int = 40, progress: bool = True
) -> tuple[AnnData, MGVI, pd.DataFrame]:
    """Simulate, fit and score; return the annotated data, the model and the scores."""
    adata = simulate(seed)
    mgvi = MGVI.from_anndata(adata, group_key="group", seed=seed)
    mgvi.fit(adata, max_epochs=max_epochs, progress=progress)
    mgvi.write_latents(adata)
    return adata, mgvi, scores(adata)
