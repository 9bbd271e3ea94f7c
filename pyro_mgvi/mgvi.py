"""MGVI: the model on an AnnData, from counts to latents, for those who do not write Pyro."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pyro_mgvi import checks, storage
from pyro_mgvi.data import GroupedCounts, Schema
from pyro_mgvi.decoders import JointDecoder
from pyro_mgvi.diagnostics import Report, diagnose
from pyro_mgvi.elbo import WassersteinTraceELBO
from pyro_mgvi.encoders import SeparateEncoders
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.genes import rank_genes
from pyro_mgvi.guide import Guide
from pyro_mgvi.latents import Latent, private, shared
from pyro_mgvi.likelihoods import ZINB
from pyro_mgvi.model import Model
from pyro_mgvi.start import Start
from pyro_mgvi.training import Trainer, TrainingPlan

FOREIGN = ("nan", "zero", "encode")
EVALUATION_SIZE = 1024  # cells at a time when nothing is trained

# Weights of the owners' divergence, by evidence (benchmarks/RESULTS.md): above 1 the noise is
# left to the likelihood, and shared variation is cheaper in z than in the own t.
SHARED_WEIGHT, GROUP_WEIGHT = 2.0, 2.75


class MGVI:
    """Shared and group-specific latents of grouped single-cell counts.

    Use :meth:`from_anndata`. A Pyro user takes :attr:`model` and :attr:`guide` from here and
    trains them with ``SVI``; :meth:`fit` does so for everybody else.

    Attributes
    ----------
    model, guide
        The Pyro program and its amortised posterior.
    schema
        Genes, groups, batches and covariates that the model knows.
    history
        Losses per epoch in nats per cell; see :meth:`~pyro_mgvi.training.Trainer.run`.

    Examples
    --------
    >>> from pyro_mgvi.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> mgvi.fit(adata, max_epochs=2, progress=False)
    >>> mgvi.write_latents(adata)
    >>> sorted(adata.obsm)
    ['X_mgvi_t_group1', 'X_mgvi_t_group2', 'X_mgvi_z']
    """

    def __init__(
        self,
        schema: Schema,
        start: Start,
        latents: Sequence[Latent] = (shared(10), private(10)),
        encoder=SeparateEncoders,
        decoder=JointDecoder,
        likelihood=ZINB,
        observed_library: bool = False,
        own_weight: dict[str, float] | None = None,
        seed: int = 0,
    ):
        self.schema, self.seed = schema, seed
        self.components = {"encoder": encoder, "decoder": decoder, "likelihood": likelihood}
        common = {"start": start, "observed_library": observed_library}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = Model(
                latents, schema.groups, decoder=decoder, likelihood=likelihood, **common
            )
            self.guide = Guide(self.model.latents, schema.groups, encoder=encoder, **common)
        self.model.float().eval()
        self.guide.float().eval()
        self.own_weight = {
            latent.name: SHARED_WEIGHT if latent.covers(schema.groups) else GROUP_WEIGHT
            for latent in self.model.latents
        }
        self.own_weight |= own_weight or {}
        unknown = sorted(set(self.own_weight) - {latent.name for latent in self.model.latents})
        if unknown:
            raise SettingsError(f"own_weight names unknown latent(s) {unknown}")
        self.history = pd.DataFrame()

    @classmethod
    def from_anndata(
        cls,
        adata,
        group_key: str,
        layer: str | None = None,
        batch_key: str | None = None,
        covariate_keys: Sequence[str] = (),
        drop_empty: bool = False,
        **settings,
    ) -> MGVI:
        """Return an untrained model for ``adata``, started from its moments.

        Parameters
        ----------
        adata, group_key, layer, batch_key, covariate_keys, drop_empty
            As for :meth:`GroupedCounts.from_anndata`.
        **settings
            ``latents``, ``encoder``, ``decoder``, ``likelihood``, ``observed_library``,
            ``own_weight`` and ``seed`` of the model.

        Raises
        ------
        DataError, SettingsError
            Naming what is at fault in the data or the settings.
        """
        data = GroupedCounts.from_anndata(
            adata, group_key, layer, batch_key, covariate_keys, drop_empty
        )
        return cls.from_counts(data, **settings)

    @classmethod
    def from_counts(cls, data: GroupedCounts, **settings) -> MGVI:
        """Return an untrained model for counts that are already read."""
        return cls(data.schema, data.start(), **settings)

    def untrained(self, data: GroupedCounts, seed: int) -> MGVI:
        """Return a new model of the same settings, started from the moments of ``data``."""
        return MGVI(
            self.schema,
            data.start(),
            self.model.latents,
            **self.components,
            observed_library=self.model.observed_library,
            own_weight=self.own_weight,
            seed=seed,
        )

    def read(self, adata) -> GroupedCounts:
        """Return the counts of ``adata`` as this model needs them (genes in its order)."""
        if isinstance(adata, GroupedCounts):
            return adata
        return GroupedCounts.for_model(adata, self.schema)

    def fit(
        self,
        adata,
        accelerator: str = "cpu",
        checkpoint: str | Path | None = None,
        progress: bool = True,
        **plan,
    ) -> None:
        """Train, keeping the weights of the best validation epoch.

        Calling it again goes on from these weights.

        Parameters
        ----------
        adata
            Annotated data (or :class:`GroupedCounts`) of known groups and the same genes.
        accelerator
            Where to train, as for ``lightning_fabric.Fabric``.
        checkpoint
            File for the state after each epoch; an existing one is resumed.
        progress
            Show a progress bar.
        **plan
            Fields of :class:`~pyro_mgvi.training.TrainingPlan`; ``seed`` is the model's.

        Raises
        ------
        DataError, SettingsError
            If data or settings are invalid.
        TrainingError
            If a loss is not finite.
        """
        known = {field.name for field in fields(TrainingPlan)}
        unknown = sorted(set(plan) - known)
        if unknown:
            raise SettingsError(f"unknown training setting(s) {unknown}; known: {sorted(known)}")
        data = self.read(adata)
        elbo = WassersteinTraceELBO(own_weight=self.own_weight)
        trainer = Trainer(
            self.model,
            self.guide,
            elbo,
            data,
            TrainingPlan(**{"seed": self.seed, **plan}),
            accelerator,
            checkpoint,
        )
        try:
            trainer.run(progress)
        finally:  # an interrupted run keeps its best weights, and its history
            self.model.cpu()
            self.guide.cpu()
            self.history = pd.DataFrame(trainer.history)

    @torch.no_grad()
    def latents(
        self, adata, foreign: str = "nan", draw: int | None = None
    ) -> dict[str, np.ndarray]:
        """Return the posterior mean of every latent copy, cells x dim each.

        Parameters
        ----------
        adata
            Annotated data (or :class:`GroupedCounts`).
        foreign
            What to report of a copy for cells that do not own it: ``"nan"``; ``"zero"``, the
            value in the model; or ``"encode"``, what the encoder says, which carries little
            and is penalised towards zero. Nan and zero tell who owns what: use neither to
            compare groups.
        draw
            Seed of one posterior draw to return instead of the mean: what a latent carries
            beyond its own uncertainty.

        Raises
        ------
        SettingsError
            If ``foreign`` is none of the three.
        """
        if foreign not in FOREIGN:
            raise SettingsError(f"foreign must be one of {FOREIGN}, not {foreign!r}")
        data = self.read(adata)
        out = {
            key: np.empty((len(data), latent.dim), np.float32)
            for latent in self.model.latents
            for key in latent.keys
        }
        generator = None if draw is None else torch.Generator().manual_seed(draw)
        for cells, batch in self._batches(data):
            posteriors = self.guide.posteriors(batch.counts, batch.covariates)
            for latent in self.model.latents:
                means, scale = posteriors[latent.name]
                if draw is not None:
                    means = means + scale * torch.randn(means.shape, generator=generator)
                means = means.reshape(latent.n_subsets, len(cells), -1)
                member = self.model.member(latent, batch.group).reshape(latent.n_subsets, -1, 1)
                if foreign != "encode":
                    means = means.where(member, torch.nan if foreign == "nan" else 0.0)
                for key, mean in zip(latent.keys, means, strict=True):
                    out[key][cells] = mean.numpy()
        return out

    def write_latents(self, adata, foreign: str = "nan", prefix: str = "X_mgvi_") -> None:
        """Write all latents to ``adata.obsm``: ``X_mgvi_z``, ``X_mgvi_t_<group>``, ..."""
        for key, value in self.latents(adata, foreign).items():
            adata.obsm[prefix + key] = value

    @torch.no_grad()
    def normalized_expression(
        self,
        adata,
        latents: Sequence[str] | None = None,
        genes: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Return expected expression at the posterior means, as shares of a cell's counts.

        Parameters
        ----------
        adata
            Annotated data (or :class:`GroupedCounts`).
        latents
            Names of the latents to decode with, the others at zero; all by default. Without a
            group-specific latent the groups' offsets are averaged ("shared only").
        genes
            Genes to return; all by default. Sums to 1 over all genes, not over these.

        Raises
        ------
        SettingsError, DataError
            If a latent or a gene is unknown.
        """
        families = {latent.name: latent for latent in self.model.latents}
        chosen = (
            tuple(families)
            if latents is None
            else (latents,)
            if isinstance(latents, str)
            else latents
        )
        unknown = [name for name in chosen if name not in families]
        if unknown:
            raise SettingsError(f"unknown latent(s) {unknown}; the model has {list(families)}")
        genes = list(self.schema.genes) if genes is None else list(genes)
        position = pd.Index(self.schema.genes).get_indexer(genes)
        if (position < 0).any():
            raise checks.DataError(
                f"genes not in the model: {checks.some(np.array(genes)[position < 0])}"
            )
        data = self.read(adata)
        offsets = None
        if all(families[name].covers(self.schema.groups) for name in chosen):
            offsets = 1.0 / len(self.schema.groups)
        out = np.empty((len(data), len(genes)), np.float32)
        for cells, batch in self._batches(data):
            posteriors = self.guide.posteriors(batch.counts, batch.covariates)
            values = {
                name: posteriors[name][0] * (1.0 if name in chosen else 0.0) for name in families
            }
            weight = (
                None
                if offsets is None
                else torch.full((len(cells), len(self.schema.groups)), offsets)
            )
            parts = self.model.decode(values, batch.group, batch.covariates, weight)
            out[cells] = self.model.likelihood.expression(parts)[:, position].numpy()
        index = adata.obs_names if hasattr(adata, "obs_names") else None
        return pd.DataFrame(out, index=index, columns=genes)

    def rank_genes(self, adata, group: str, cells=None, **settings) -> pd.DataFrame:
        """Rank genes by a group's own variation; see :func:`~pyro_mgvi.genes.rank_genes`."""
        return rank_genes(self, adata, group, cells, **settings)

    def diagnose(self, adata, labels=None, **settings) -> Report:
        """Say what the latents may be read for; see :func:`~pyro_mgvi.diagnostics.diagnose`."""
        return diagnose(self, adata, labels, **settings)

    def save(self, path: str | Path) -> None:
        """Write weights and plain settings to the folder ``path``."""
        storage.write(path, self)

    @classmethod
    def load(cls, path: str | Path, components: Sequence[type] = ()) -> MGVI:
        """Read a model that :meth:`save` wrote; nothing in the files is run.

        Parameters
        ----------
        path
            The folder.
        components
            Your own encoder, decoder, likelihood or prior classes that the model uses.

        Raises
        ------
        ModelFileError
            If the folder is no saved model, is damaged or of an unknown version.
        """
        arguments, weights, history = storage.read(path, components)
        schema = arguments["schema"]
        blank = Start.blank(
            len(schema.genes), len(schema.groups), len(schema.batches), schema.n_covariates
        )
        mgvi = cls(start=blank, **arguments)
        storage.fill(mgvi, weights, path)
        mgvi.history = history
        return mgvi

    def _batches(self, data: GroupedCounts) -> Iterator:
        """Yield positions and minibatches of all cells in order, with model and guide at rest."""
        self.guide.eval()
        self.model.eval()
        start = 0
        for batch in data.minibatches(EVALUATION_SIZE, shuffle=False):
            cells = np.arange(start, start + len(batch.group))
            yield cells, batch
            start += len(cells)
