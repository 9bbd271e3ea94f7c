"""A fit of cells with hostile names, and its report."""

import numpy as np
import pytest
from helpers.hostile import HOSTILE_GROUPS

import pyro_mgvi
from pyro_mgvi.report import render

SPECS = ["z:3", "t:2"]


@pytest.fixture(scope="session")
def fitted(adata):
    """Cells with hostile names, their latents as `pyro-mgvi fit` writes them, and the model."""
    adata = adata.copy()
    adata.obs["group"] = adata.obs["group"].cat.rename_categories(HOSTILE_GROUPS)
    adata.obs["celltype"] = "T<i>" + adata.obs["celltype"].astype(str)
    adata.obs["donor"] = np.where(np.arange(adata.n_obs) % 2, "d1", "d2")
    adata.var_names = [f"<u>gene&{g}" for g in range(adata.n_vars)]
    latents = (pyro_mgvi.shared(3), pyro_mgvi.private(2))
    mgvi = pyro_mgvi.MGVI.from_anndata(adata, "group", batch_key="donor", latents=latents)
    mgvi.fit(adata, pyro_mgvi.TrainingPlan(max_epochs=12, prune_below=0), progress=False)
    mgvi.write_latents(adata)
    return adata, mgvi


@pytest.fixture(scope="session")
def page(fitted):
    return render(*fitted, labels=["celltype"], diagnosed=True, max_epochs=1, progress=False)
