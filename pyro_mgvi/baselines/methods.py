"""Every method of the paper's benchmark behind one interface: ``method.fit(data, seed)``.

A method is a frozen object that says what it is. ``train`` returns something with latents;
``fit`` returns these: ``{"z": (n, K), "t": {group: (n, J)}}``, posterior means, private ones NaN
for cells that do not own them. A method without private latents has an empty ``"t"``.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

import anndata
import numpy as np
import torch

from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import log_shares
from pyro_mgvi.baselines.mgfa import MGFA
from pyro_mgvi.baselines.nonnegative.gmdf import GMDF
from pyro_mgvi.baselines.nonnegative.separate_nmf import SeparateNMF
from pyro_mgvi.baselines.nonnegative.shares import relative_expression, scaled_shares
from pyro_mgvi.data.grouped_counts import GroupedCounts
from pyro_mgvi.data.stores.in_memory import Counts
from pyro_mgvi.errors import ComponentWarning, DataError
from pyro_mgvi.mgvi import MGVI
from pyro_mgvi.support.optional import require
from pyro_mgvi.training import TrainingPlan


class Latents(TypedDict):
    """Shared latents, (n, K), and those of each group or set of groups, (n, J)."""

    z: np.ndarray
    t: dict[str, np.ndarray]


class Fitted(NamedTuple):
    """A trained method: its latents, a posterior draw of them, and the model if it is an MGVI.

    A method that has no posterior draws what it estimates.
    """

    means: Latents
    draws: Latents
    mgvi: MGVI | None = None


class Method(ABC):
    """Base of all methods.

    Attributes
    ----------
    needs
        Packages of the extra ``benchmark`` that the method imports.
    """

    needs: tuple[str, ...] = ()

    @abstractmethod
    def train(self, data: GroupedCounts, seed: int = 0, max_epochs: int | None = None) -> Fitted:
        """Train on ``data``; ``max_epochs`` instead of the method's own, where it has epochs."""

    def fit(self, data: GroupedCounts, seed: int = 0, max_epochs: int | None = None) -> Latents:
        """Train on ``data`` and return the posterior means of all latents."""
        return self.train(data, seed, max_epochs).means


@dataclass(frozen=True)
class Deep(Method):
    """A configuration of this package's model: MGVI, CPVAE, scVI, contrastiveVI, ...

    Parameters
    ----------
    settings
        Keyword arguments of :meth:`MGVI.from_counts`.
    plan
        How to train.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    plan: TrainingPlan = TrainingPlan()

    def train(self, data: GroupedCounts, seed: int = 0, max_epochs: int | None = None) -> Fitted:
        """Train on ``data``."""
        with warnings.catch_warnings():
            if self.plan.search is None:  # what cannot be searched for is not missed
                warnings.simplefilter("ignore", ComponentWarning)
            mgvi = MGVI.from_counts(data, **self.settings, seed=seed)
        mgvi.fit(data, self.plan, max_epochs=max_epochs, progress=False)
        return Fitted(by_group(mgvi, data), by_group(mgvi, data, draw=seed), mgvi)


@dataclass(frozen=True)
class Linear(Method):
    """Multi-group factor analysis of log1p of counts scaled to a common library size."""

    settings: Mapping[str, Any] = field(default_factory=dict)

    def train(self, data: GroupedCounts, seed: int = 0, max_epochs: int | None = None) -> Fitted:
        """Train on ``data``, to convergence: it has no epochs."""
        return factors(log_shares(everyones_counts(data)), data, seed, self.settings)


@dataclass(frozen=True)
class TwoStage(Method):
    """The shared latents of one method, and multi-group factor analysis of these."""

    first: Method
    settings: Mapping[str, Any] = field(default_factory=dict)

    def train(self, data: GroupedCounts, seed: int = 0, max_epochs: int | None = None) -> Fitted:
        """Train one after the other; ``max_epochs`` is for the first."""
        z_nk = self.first.fit(data, seed, max_epochs)["z"]
        return factors(z_nk, data, seed, self.settings)


@dataclass(frozen=True)
class Decomposed(Method):
    """GMDF or iNMF of scaled shares, each group a data set and a context of its own.

    Parameters
    ----------
    decomposition
        What to fit.
    excess, combine
        Which genes: see :func:`~pyro_mgvi.baselines.nonnegative.shares.scaled_shares`.
    """

    decomposition: GMDF = field(default_factory=GMDF)
    excess: float = 0.2
    combine: np.ufunc = np.logical_and

    def train(self, data: GroupedCounts, seed: int = 0, max_epochs: int | None = None) -> Fitted:
        """Train on ``data``, to convergence: it has no epochs."""
        x_np, _ = scaled_shares(everyones_counts(data), data.group_n, self.excess, self.combine)
        found = self.decomposition.fit(x_np, data.group_n, seed=seed)
        return estimated(data, *found.scores())


@dataclass(frozen=True)
class Separate(Method):
    """NMF of each group's relative expression; programs that match between groups are shared."""

    factorisations: SeparateNMF = field(default_factory=SeparateNMF)

    def train(self, data: GroupedCounts, seed: int = 0, max_epochs: int | None = None) -> Fitted:
        """Train on ``data``, to convergence: it has no epochs."""
        x_np, _ = relative_expression(everyones_counts(data), data.group_n)
        programs = self.factorisations.fit(x_np, data.group_n, seed)
        return estimated(data, *programs.scores(x_np, data.group_n))


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

    def train(self, data: GroupedCounts, seed: int = 0, max_epochs: int | None = None) -> Fitted:
        """Train with scvi-tools' defaults, for 60 epochs if not said otherwise."""
        scvi = require("scvi", "benchmark")
        numpy_state = np.random.get_state()  # noqa: NPY002 (scvi-tools seeds it)
        with torch.random.fork_rng():
            scvi.settings.seed = seed
            adata = anndata.AnnData(everyones_counts(data))
            scvi.model.SCVI.setup_anndata(adata)
            model = scvi.model.SCVI(adata, n_latent=self.n_latent)
            quiet = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False}
            model.train(max_epochs or 60, accelerator="cpu", **quiet)
            means, draws = (model.get_latent_representation(give_mean=m) for m in (True, False))
        np.random.set_state(numpy_state)  # noqa: NPY002
        return Fitted({"z": means, "t": {}}, {"z": draws, "t": {}})


def everyones_counts(data: GroupedCounts) -> Counts:
    """Return the counts, for a method that takes every gene for one that all groups have.

    Raises
    ------
    DataError
        If groups have genes of their own, or these are no grouped counts.
    """
    if not isinstance(data, GroupedCounts):
        raise DataError("pass GroupedCounts.from_anndata(adata, group_key)")
    if data.schema.absent:
        raise DataError(
            f"this method cannot leave out genes that {' and '.join(data.schema.absent)} has not "
            "got (feature masks), and would take them for zeros: give it the genes that all "
            "groups have"
        )
    return data.x


def by_group(mgvi: MGVI, data: GroupedCounts, draw: int | None = None) -> Latents:
    """Return an MGVI's latents sorted into those of all groups and those of some.

    A copy that several groups own has a key such as ``a+b``. Families of one kind are put side
    by side.
    """
    found = latent_values(mgvi, data, draw=draw)
    shared: list[np.ndarray] = []
    private: dict[str, list[np.ndarray]] = {}
    for copy in mgvi.families.copies:
        if copy.shared:
            shared.append(found[copy.key])
        else:
            private.setdefault("+".join(copy.groups), []).append(found[copy.key])
    return {"z": np.hstack(shared), "t": {key: np.hstack(t) for key, t in private.items()}}


def factors(
    x_np: np.ndarray, data: GroupedCounts, seed: int, settings: Mapping[str, Any]
) -> Fitted:
    """Fit multi-group factor analysis to ``x_np`` and return its scores by group."""
    mgfa = MGFA(**settings).fit(x_np, data.group_n, seed)

    def scores(draw: int | None = None) -> Latents:
        z_nk, t = mgfa.scores(x_np, data.group_n, draw)
        return {"z": z_nk, "t": dict(zip(data.schema.groups, t))}

    return Fitted(scores(), scores(seed))


def estimated(data: GroupedCounts, z_nk: np.ndarray, t: list[np.ndarray]) -> Fitted:
    """Return scores of a method that has no posterior."""
    found: Latents = {"z": z_nk, "t": dict(zip(data.schema.groups, t))}
    return Fitted(found, found)
