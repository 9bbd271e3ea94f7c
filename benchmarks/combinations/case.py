"""One configuration at work: its cells, its trained model, and what must not change meanwhile."""

from __future__ import annotations

import hashlib
import pickle
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
import pyro
import sklearn.linear_model  # noqa: F401 # draws from Python's generator when it is imported
import torch
from anndata import AnnData
from scipy import sparse

from benchmarks.combinations.cells import EMPTY, NEW, cells, masked, measured
from benchmarks.combinations.factors import PLANS, of_counts, settings
from benchmarks.combinations.pairs import Configuration
from pyro_mgvi import MGVI, ComponentWarning, CrossFit, GroupedCounts, TrainingPlan, cross_fit
from pyro_mgvi.core.interfaces import StartsDimensions

State = dict[str, torch.Tensor]


def state(mgvi: MGVI) -> State:
    """Return copies of all weights and buffers."""
    parts = {"model": mgvi.model, "guide": mgvi.guide}
    return {
        f"{part}.{name}": value.clone()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }


def equal(first: State, second: State) -> bool:
    """Return whether two states are equal to the last bit."""
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def heed_warnings(action: str) -> None:
    """Do so with every warning but those of anndata's own use of pandas' options."""
    warnings.simplefilter(action)
    options = r"(mode\.chained_assignment|future\.infer_string)"
    warnings.filterwarnings("ignore", rf"The '{options}' option is deprecated")


@contextmanager
def may_lack_abilities() -> Iterator[None]:
    """Let a model be built whose parts cannot start a dimension."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ComponentWarning)
        yield


class Case:
    """A configuration with its cells and a model that was trained on them.

    Parameters
    ----------
    chosen
        The configuration.
    folder
        An empty folder for its files.
    """

    def __init__(self, chosen: Configuration, folder: Path):
        self.chosen, self.folder = chosen, folder
        self.counts = of_counts(chosen)
        self.plan: TrainingPlan = PLANS[chosen["training"]]
        self.adata = cells(chosen, folder)
        self.in_memory = cells(chosen | {"matrix": "CSR"}, folder)
        self.newcomers = cells(chosen, folder, NEW)

    @cached_property
    def mgvi(self) -> MGVI:
        """The model, trained."""
        return self.fitted(self.adata)

    @cached_property
    def refits(self) -> CrossFit:
        """Refits of the model on halves of the cells."""
        return cross_fit(self.mgvi, self.adata, max_epochs=1, progress=False)

    def untrained(self, adata: AnnData) -> MGVI:
        """Return a model that is not trained; what its parts cannot do has been said once."""
        with warnings.catch_warnings(record=True) as said:
            heed_warnings("always")
            mgvi = MGVI.from_anndata(adata, **settings(self.chosen))
        able = (isinstance(x, StartsDimensions) for x in (mgvi.guide.encoder, mgvi.model.decoder))
        expected = [] if all(able) else [ComponentWarning]
        assert [warning.category for warning in said] == expected, [str(w.message) for w in said]
        return mgvi

    def fitted(self, adata: AnnData, plan: TrainingPlan | None = None, **more: object) -> MGVI:
        """Return a model that is trained as the configuration says."""
        mgvi = self.untrained(adata)
        mgvi.fit(adata, plan or self.plan, progress=False, **more)
        return mgvi

    @cached_property
    def kept(self) -> np.ndarray:
        """Positions of the cells that the model uses."""
        everything = np.arange(self.adata.n_obs)
        left_out = self.counts and self.chosen["empty cells"] != "none"
        return np.setdiff1d(everything, EMPTY) if left_out else everything

    @cached_property
    def groups(self) -> np.ndarray:
        """Group of each cell that the model uses."""
        return self.adata.obs["region"].to_numpy(str)[self.kept]

    @cached_property
    def values(self) -> np.ndarray:
        """What the likelihood is of, dense, without the cells that are left out."""
        x = self.in_memory.layers.get("counts", self.in_memory.X)
        x = self.in_memory.raw.X if self.chosen["place"] == "raw" else x
        return x.toarray()[self.kept]

    @cached_property
    def measured(self) -> np.ndarray:
        """Which values are measured: genes that the cell's group has."""
        if masked(self.chosen):
            return measured(self.groups)
        return np.ones(self.values.shape, bool)

    @cached_property
    def data(self) -> GroupedCounts:
        """The cells as the model reads them."""
        return self.mgvi.read(self.adata)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Hold that cells, model and random state stay as they are, and that nothing warns."""
        trained = "mgvi" in vars(self)
        weights = state(self.mgvi) if trained else {}
        before, drawn = self._fingerprint(), _random_state()
        with warnings.catch_warnings():
            heed_warnings("error")
            yield
        assert self._fingerprint() == before, "the caller's cells have changed"
        changed = [name for name, value in _random_state().items() if value != drawn[name]]
        assert not changed, f"the caller's state of {changed} has changed"
        assert not trained or equal(state(self.mgvi), weights), "the model has changed"
        assert not trained or not (self.mgvi.model.training or self.mgvi.guide.training)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for adata in (self.adata, self.newcomers):
            raw = adata.raw.X if adata.raw is not None else None
            for x in (adata.X, raw, *adata.layers.values()):
                digest.update(pickle.dumps(_arrays(x)))
            digest.update(adata.obs.to_csv().encode() + adata.var.to_csv().encode())
            digest.update(repr((dict(adata.uns), list(adata.obsm), list(adata.varm))).encode())
        return digest.hexdigest()


def _arrays(x: object) -> object:
    if x is None or isinstance(x, np.ndarray):
        return x
    if isinstance(x, h5py.Dataset):
        return x[()]
    x = x if sparse.issparse(x) else x.to_memory()
    return x.data, x.indices, x.indptr


def _random_state() -> dict[str, object]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 # that of a caller who uses it
    return {
        "numpy": (kind, bytes(keys), *rest),
        "random": random.getstate(),
        "torch": bytes(torch.get_rng_state().numpy()),
        "Pyro's store": sorted(pyro.get_param_store().keys()),
    }
