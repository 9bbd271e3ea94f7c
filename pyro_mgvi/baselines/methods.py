"""Every method of the paper's benchmark behind one interface: ``method.fit(data, seed)``.

A method is a frozen object that says what it is. ``train`` returns something with latents;
``fit`` returns these: ``{"z": (n, K), "t": {group: (n, J)}}``, posterior means, private ones NaN
for cells that do not own them. A method without private latents has an empty ``"t"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import anndata
import numpy as np
import torch

from pyro_mgvi.baselines.mgfa import MGFA
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.extras import extra
from pyro_mgvi.metrics import log_shares
from pyro_mgvi.mgvi import MGVI

Latents = dict  # {"z": array, "t": {group: array}}


class Fitted(NamedTuple):
    """A trained method: its latents, a posterior draw of them, and the model if it is an MGVI."""

    means: Latents
    draws: Latents
    mgvi: MGVI | None = None


class Method:
    """Base of all methods.

    Attributes
    ----------
    needs
        Packages of the extra ``benchmark`` that the method imports.
    """

    needs = ()

    def train(self, data: GroupedCounts, seed: int = 0, **plan) -> Fitted:
        """Train on ``data``; ``plan`` overrides the training settings of deep methods."""
        raise NotImplementedError

    def fit(self, data: GroupedCounts, seed: int = 0, **plan) -> Latents:
        """Train on ``data`` and return the posterior means of all latents."""
        return self.train(data, seed, **plan).means


@dataclass(frozen=True)
class Deep(Method):
    """A configuration of this package's model: MGVI, CPVAE, scVI, contrastiveVI, ...

    Parameters
    ----------
    settings
        Keyword arguments of :meth:`MGVI.from_counts`.
    plan
        Keyword arguments of :meth:`MGVI.fit`.
    """

    settings: Mapping = field(default_factory=dict)
    plan: Mapping = field(default_factory=dict)

    def train(self, data: GroupedCounts, seed: int = 0, **plan) -> Fitted:
        """Train on ``data``; ``plan`` overrides the method's own."""
        mgvi = MGVI.from_counts(data, **self.settings, seed=seed)
        mgvi.fit(data, **{"progress": False, **self.plan, **plan})
        return Fitted(by_group(mgvi, data), by_group(mgvi, data, draw=seed), mgvi)


@dataclass(frozen=True)
class Linear(Method):
    """Multi-group factor analysis of log1p of counts scaled to a common library size."""

    settings: Mapping = field(default_factory=dict)

    def train(self, data: GroupedCounts, seed: int = 0, **plan) -> Fitted:
        """Train on ``data``, to convergence: ``plan`` is about epochs, of which it has none."""
        return factors(log_shares(data.x), data, seed, self.settings)


@dataclass(frozen=True)
class TwoStage(Method):
    """The shared latents of one method, and multi-group factor analysis of these."""

    first: Method
    settings: Mapping = field(default_factory=dict)

    def train(self, data: GroupedCounts, seed: int = 0, **plan) -> Fitted:
        """Train one after the other; ``plan`` is for the first."""
        z_nk = self.first.fit(data, seed, **plan)["z"]
        return factors(z_nk, data, seed, self.settings)


@dataclass(frozen=True)
class ScviTools(Method):
    """scvi-tools' own SCVI, to check our z-only model against.

    Raises
    ------
    SettingsError
        If scvi-tools is not installed.
    """

    n_latent: int = 10
    needs = ("scvi",)

    def train(self, data: GroupedCounts, seed: int = 0, max_epochs: int = 60, **plan) -> Fitted:
        """Train with scvi-tools' defaults; of ``plan`` only ``max_epochs`` has a meaning here."""
        scvi = extra("scvi")
        numpy_state = np.random.get_state()  # noqa: NPY002 (scvi-tools seeds it)
        with torch.random.fork_rng():
            scvi.settings.seed = seed
            adata = anndata.AnnData(data.x)
            scvi.model.SCVI.setup_anndata(adata)
            model = scvi.model.SCVI(adata, n_latent=self.n_latent)
            quiet = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False}
            model.train(max_epochs, accelerator="cpu", **quiet)
            means, draws = (model.get_latent_representation(give_mean=m) for m in (True, False))
        np.random.set_state(numpy_state)  # noqa: NPY002
        return Fitted({"z": means, "t": {}}, {"z": draws, "t": {}})


def by_group(mgvi: MGVI, data: GroupedCounts, draw: int | None = None) -> Latents:
    """Return an MGVI's latents sorted into those of all groups and those of some.

    A copy that several groups own has a key such as ``a+b``. Families of one kind are put side
    by side.
    """
    found = mgvi.latents(data, draw=draw)
    shared, private = [], {}
    for latent in mgvi.model.latents:
        for key, subset in zip(latent.keys, latent.subsets):
            if latent.covers(mgvi.schema.groups):
                shared.append(found[key])
            else:
                private.setdefault("+".join(subset), []).append(found[key])
    return {"z": np.hstack(shared), "t": {key: np.hstack(t) for key, t in private.items()}}


def factors(x_np: np.ndarray, data: GroupedCounts, seed: int, settings: Mapping) -> Fitted:
    """Fit multi-group factor analysis to ``x_np`` and return its scores by group."""
    mgfa = MGFA(**settings).fit(x_np, data.group_n, seed)

    def scores(draw=None) -> Latents:
        z_nk, t = mgfa.scores(x_np, data.group_n, draw)
        return {"z": z_nk, "t": dict(zip(data.schema.groups, t))}

    return Fitted(scores(), scores(seed))
