"""Fixtures: small simulated data, a small model, and the reference data where they exist."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # two processes on two cores: more threads only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported


from pathlib import Path

import hypothesis
import numpy as np
import pyro
import pytest
import torch

import pyro_mgvi
from pyro_mgvi.datasets import clear_recipe

# A slow machine is no fault of an example: no test depends on time.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def fresh_parameter_store():
    torch.set_num_threads(1)  # tiny tensors: more threads only wait; scanpy sets it back to all
    pyro.clear_param_store()
    torch.manual_seed(0)
    yield
    pyro.clear_param_store()


@pytest.fixture(scope="session")
def strict(request):
    """Return whether warnings are errors; old releases of other packages warn of what is mended."""
    return "error" in request.config.getini("filterwarnings")


@pytest.fixture(scope="session")
def adata():
    """120 cells of three groups, 60 genes: enough to run, too little to learn from."""
    return clear_recipe(seed=1, n_cells=120, n_shared_genes=45, n_program_genes=15, groups=3)


@pytest.fixture
def mgvi(adata):
    latents = (pyro_mgvi.shared(3), pyro_mgvi.private(2))
    return pyro_mgvi.MGVI.from_anndata(adata, "group", latents=latents)


@pytest.fixture
def batch(mgvi, adata):
    """All cells as one minibatch, unscaled."""
    data = mgvi.read(adata)
    return data.rows(np.arange(len(data)))


@pytest.fixture
def reference():
    """Read a reference dataset by name, or skip where the folder is absent."""
    import anndata

    def read(name: str):
        path = SHARED / f"{name}.h5ad"
        if not path.is_file():
            pytest.skip(f"reference data {path.name} are not beside this checkout")
        return anndata.read_h5ad(path)

    return read
