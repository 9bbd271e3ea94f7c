"""The cells, the trained models and the right answers that all cases share."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from pyro_mgvi import MGVI, TrainingPlan, private, shared

N, G = 36, 14
LATENTS = (shared(2), private(1))
BRIEF = TrainingPlan(max_epochs=1, search=None, prune_below=0.0, batch_size=16)
GROUPS = np.repeat(["a", "b", "c"], N // 3)
DONORS = np.tile(["d1", "d2"], N // 2)
TYPES = np.tile(["T1", "T1", "T2", "T2"], N // 4)
AGES = np.random.default_rng(4).normal(40.0, 9.0, N)
FULL = {"batch_key": "donor", "covariate_keys": ["age", "celltype"]}


def counts() -> sparse.csr_matrix:
    """Return counts that are mostly zero, each cell and gene with some."""
    rng = np.random.default_rng(3)
    x = rng.poisson(0.12, (N, G)) + 3 * np.eye(N, G, dtype=int)
    x[:, 0] += 1 + rng.poisson(1.0, N)
    return sparse.csr_matrix(x.astype(np.float32))


def cells() -> ad.AnnData:
    """Return the canonical data: CSR of 32-bit numbers, labels as text."""
    obs = pd.DataFrame(
        {"group": GROUPS, "donor": DONORS, "celltype": TYPES, "age": AGES},
        index=[f"cell{i}" for i in range(N)],
    )
    var = pd.DataFrame({"symbol": [f"S{i}" for i in range(G)]}, [f"gene{i}" for i in range(G)])
    adata = ad.AnnData(counts(), obs=obs, var=var)
    adata.obsm["X_pca"] = np.ones((N, 2))
    adata.uns["note"] = "mine"
    return adata


class Bench:
    """What a case works with; one for each case, with a folder of its own.

    Parameters
    ----------
    shared
        What all cases share.
    folder
        An empty folder.
    """

    def __init__(self, shared: "Shared", folder: Path):
        self.shared, self.folder = shared, folder

    @property
    def adata(self) -> ad.AnnData:
        """The canonical cells, as data of the case's own."""
        return self.shared.adata.copy()

    @property
    def mgvi(self) -> MGVI:
        """A model of the groups."""
        return self.shared.mgvi

    @property
    def full(self) -> MGVI:
        """A model of groups, batches and covariates."""
        return self.shared.full

    @property
    def models(self) -> tuple[MGVI, ...]:
        """All models."""
        return self.mgvi, self.full

    def once(self, key: object, answer: Callable[[], object]) -> object:
        """Return a right answer that several cases compare with."""
        if key not in self.shared.answers:
            self.shared.answers[key] = answer()
        return self.shared.answers[key]


class Shared:
    """Cells, models and answers that are made once.

    Parameters
    ----------
    strict
        Whether no warning of another package is allowed.
    """

    def __init__(self, strict: bool) -> None:
        import sklearn.cluster  # noqa: F401 - its import draws from the generator of Python

        self.strict = strict
        self.adata, self.temporary = cells(), TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.answers: dict[object, object] = {}

    @cached_property
    def mgvi(self) -> MGVI:
        return trained(self.adata)

    @cached_property
    def full(self) -> MGVI:
        return trained(self.adata, **FULL)


def untrained(adata: ad.AnnData, group_key: str = "group", **settings: object) -> MGVI:
    return MGVI.from_anndata(adata, group_key, **({"latents": LATENTS} | settings))


def trained(adata: ad.AnnData, **settings: object) -> MGVI:
    mgvi = untrained(adata, **settings)
    mgvi.fit(adata, BRIEF, progress=False)
    return mgvi
