"""MGVI: the model on an AnnData, from counts to latents, for those who do not write Pyro."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pyro_mgvi import checks, extend, storage
from pyro_mgvi.data import GroupedCounts, Schema
from pyro_mgvi.decoders import JointDecoder
from pyro_mgvi.diagnostics import Report, diagnose
from pyro_mgvi.elbo import WassersteinTraceELBO
from pyro_mgvi.encoders import SeparateEncoders
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.expression import (
    Chosen,
    differential_expression,
    expression_draws,
    gene_positions,
)
from pyro_mgvi.genes import rank_genes
from pyro_mgvi.guide import Guide
from pyro_mgvi.latents import Latent, private, shared
from pyro_mgvi.likelihoods import ZINB, counts_only
from pyro_mgvi.model import Model
from pyro_mgvi.start import Start
from pyro_mgvi.training import Trainer, TrainingPlan

FOREIGN = ("nan", "zero", "encode")
EVALUATION_SIZE = 1024  # cells at a time when nothing is trained

# Weights of the owners' divergence, by evidence (benchmarks/RESULTS.md): above 1 the noise is
# left to the likelihood, and variation is cheaper where more groups share it. Where the decoder's
# prior on loadings keeps noise out, less is left to the weights.
WEIGHTS, SPARSE_WEIGHTS = (2.5, 2.75), (1.5, 1.8)  # of what all groups share, of one group's own


def default_weight(latent: Latent, n_groups: int, sparse: bool = False) -> float:
    """Return the weight of a latent, by the share of other groups that own a copy with a group."""
    shared_weight, private_weight = SPARSE_WEIGHTS if sparse else WEIGHTS
    others = sum(len(subset) - 1 for subset in latent.subsets) / len(latent.subsets)
    return private_weight - (private_weight - shared_weight) * others / (n_groups - 1)


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
            self.guide = Guide(
                self.model.latents,
                schema.groups,
                encoder=encoder,
                counts_only=counts_only(likelihood),
                **common,
            )
        self.model.float().eval()
        self.guide.float().eval()
        sparse = bool(getattr(self.model.decoder, "sparsity", 0.0))
        self.own_weight = {
            latent.name: default_weight(latent, len(schema.groups), sparse)
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
            adata,
            group_key,
            layer,
            batch_key,
            covariate_keys,
            drop_empty,
            counts_only(settings.get("likelihood", ZINB)),
        )
        return cls.from_counts(data, **settings)

    @classmethod
    def from_counts(cls, data: GroupedCounts, **settings) -> MGVI:
        """Return an untrained model for counts that are already read."""
        start = data.start(counts_only(settings.get("likelihood", ZINB)))
        return cls(data.schema, start, **settings)

    def untrained(self, data: GroupedCounts, seed: int) -> MGVI:
        """Return a new model of the same settings, started from the moments of ``data``."""
        return MGVI(
            self.schema,
            data.start(self.guide.counts_only),
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
        return GroupedCounts.for_model(adata, self.schema, self.guide.counts_only)

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
            If data or settings are invalid, or no cell owns some latent's copy.
        TrainingError
            If a loss is not finite.
        """
        data = self.read(adata)
        present = {self.schema.groups[code] for code in np.unique(data.group_n)}
        for latent in self.model.latents:
            for key, subset in zip(latent.keys, latent.subsets):
                if present.isdisjoint(subset):  # only the foreign penalty would act on it
                    raise DataError(
                        f"no cell belongs to latent {key!r} (group(s) {', '.join(subset)}): "
                        "train with cells of all its groups, or leave it out of the latents"
                    )
        self._train(data, accelerator, checkpoint, progress, plan)

    def _train(self, data, accelerator, checkpoint, progress, plan, copies=None) -> None:
        known = {field.name for field in fields(TrainingPlan)}
        unknown = sorted(set(plan) - known)
        if unknown:
            raise SettingsError(f"unknown training setting(s) {unknown}; known: {sorted(known)}")
        elbo = WassersteinTraceELBO(own_weight=self.own_weight)
        trainer = Trainer(
            self.model,
            self.guide,
            elbo,
            data,
            TrainingPlan(**{"seed": self.seed, **plan}),
            accelerator,
            checkpoint,
            copies,
        )
        try:
            trainer.run(progress)
        finally:  # an interrupted run keeps its best weights, and its history
            self.model.cpu()
            self.guide.cpu()
            self.history = pd.DataFrame(trainer.history)

    def add_group(self, adata, accelerator: str = "cpu", progress: bool = True, **plan) -> MGVI:
        """Return a new model with one more group, learnt from the cells of that group alone.

        Latents that all groups own are the new group's, too; a family of one copy per group
        gets one more copy; other latents stay as they are. All weights of this model are
        copied and frozen. Trained are only the new copy's encoder and the decoder's input
        columns for it, and the new group's row of the offset and of the response to z.

        What the model says about a cell of the other groups stays the same: their latents bit
        for bit, their expression up to the last bits of a sum that has more (zero) terms. Two
        things are new: expression from shared latents only, because it averages the groups'
        offsets, the new one's included; and the new copy of a cell that does not own it
        (``foreign="encode"``), for no other group's cell was there to pull it to zero.

        Parameters
        ----------
        adata
            Annotated data, (n, genes): cells of one group that this model does not know, with
            the model's genes (any order), and its batches and covariates if it has any.
        accelerator, progress, **plan
            As for :meth:`fit`. A further :meth:`fit` of the result trains all its weights.

        Returns
        -------
        The new model; this one stays as it is. ``history`` is that of the new group.

        Raises
        ------
        DataError
            If there is no new group or more than one, cells of known groups beside it, or
            the genes are others.
        SettingsError
            If the encoder is no :class:`~pyro_mgvi.SeparateEncoders` or the decoder no
            :class:`~pyro_mgvi.JointDecoder`, if nothing in the model belongs to a single
            group, or if a training setting is unknown or out of range.
        TrainingError
            If a loss is not finite.

        Notes
        -----
        After Lotfollahi et al. (2022), "Mapping single-cell data to reference atlases by
        transfer learning" (scArches), where the new weights are those of new batches.

        Examples
        --------
        >>> from pyro_mgvi.simulate import clear_recipe
        >>> adata = clear_recipe(n_cells=120, n_shared_genes=60, n_program_genes=20, groups=3)
        >>> new = (adata.obs["group"] == "group3").to_numpy()
        >>> mgvi = MGVI.from_anndata(adata[~new], group_key="group")
        >>> mgvi.fit(adata[~new], max_epochs=2, progress=False)
        >>> larger = mgvi.add_group(adata[new], max_epochs=2, progress=False)
        >>> sorted(larger.latents(adata))
        ['t_group1', 't_group2', 't_group3', 'z']
        """
        return extend.add_group(self, adata, accelerator, progress, **plan)

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
        for cells, batch in self._batches(data, data.mostly_zero):
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
        batch: str | None = None,
    ) -> pd.DataFrame:
        """Return expected expression at the posterior means, as shares of a cell's counts.

        With a likelihood of transformed data: expected values, on their scale.

        Parameters
        ----------
        adata
            Annotated data (or :class:`GroupedCounts`).
        latents
            Names of the latents to decode with, the others at zero; all by default. Without a
            group-specific latent the groups' offsets are averaged ("shared only").
        genes
            Genes to return; all by default. Sums to 1 over all genes, not over these.
        batch
            Decode every cell as if it came from this batch; its own by default. The latents
            are those of the cell as it was observed.

        Raises
        ------
        SettingsError, DataError
            If a latent, a gene or the batch is unknown.
        """
        if batch is not None and (
            self.schema.batch_key is None or batch not in self.schema.batches
        ):
            known = list(self.schema.batches) if self.schema.batch_key else "no batch_key"
            raise SettingsError(f"unknown batch {batch!r}; the model has {known}")
        chosen = Chosen.of(self.model, latents)
        genes = list(self.schema.genes) if genes is None else list(genes)
        position = gene_positions(self, genes)
        data = self.read(adata)
        out = np.empty((len(data), len(genes)), np.float32)
        for cells, rows in self._batches(data, data.mostly_zero):
            posteriors = self.guide.posteriors(rows.counts, rows.covariates)
            values = {latent.name: posteriors[latent.name][0] for latent in self.model.latents}
            if batch is not None:  # the batch's one-hot columns come first
                covariates = rows.covariates.clone()
                covariates[:, : len(self.schema.batches)] = 0.0
                covariates[:, self.schema.batches.index(batch)] = 1.0
                rows = rows._replace(covariates=covariates)
            out[cells] = chosen.decode(self.model, values, rows)[:, position].numpy()
        index = adata.obs_names if hasattr(adata, "obs_names") else None
        return pd.DataFrame(out, index=index, columns=genes)

    def loadings(self, latent: str, adata=None) -> pd.DataFrame:
        """Return the loadings of genes on a latent, for a decoder that has them.

        Parameters
        ----------
        latent
            Key of one copy, such as ``"t_Ileum"``, or a family's name for all its copies.
        adata
            Also write each copy to ``varm["X_mgvi_<key>"]`` of this annotated data.

        Returns
        -------
        Genes x dims, columns ``<key>_1``, ...: change of the log mean per unit of the latent
        (up to a constant per dim, which a softmax ignores).

        Raises
        ------
        SettingsError
            If the latent is unknown, or the decoder has no loadings.
        """
        if not hasattr(self.model.decoder, "loadings"):
            raise SettingsError(
                f"{type(self.model.decoder).__name__} has no readable loadings: "
                "train with decoder=LogLinearDecoder"
            )
        tables = {}
        for family in self.model.latents:
            weight_gk = self.model.decoder.loadings()[family.name].numpy()
            copies = np.split(weight_gk, family.n_subsets, axis=1)
            for key, copy_gk in zip(family.keys, copies):
                if latent in (key, family.name):
                    columns = [f"{key}_{i + 1}" for i in range(family.dim)]
                    tables[key] = pd.DataFrame(copy_gk, self.schema.genes, columns)
        if not tables:
            keys = [key for family in self.model.latents for key in family.keys]
            raise SettingsError(f"unknown latent {latent!r}; the model has {keys}")
        if adata is not None:
            checks.names(adata)
            checks.gene_order(adata, self.schema.genes)
            for key, table in tables.items():
                adata.varm[f"X_mgvi_{key}"] = table.loc[adata.var_names].to_numpy()
        return pd.concat(tables.values(), axis=1)

    def gene_programs(self) -> pd.DataFrame:
        """Return each gene's most probable program: columns gene, cluster, probability.

        Raises
        ------
        SettingsError
            If the decoder assigns no gene programs.
        """
        if not hasattr(self.model.decoder, "probabilities"):
            raise SettingsError(
                f"{type(self.model.decoder).__name__} has no gene programs: "
                "train with decoder=BasisDecoder"
            )
        probability, cluster = self.model.decoder.probabilities.detach().max(-1)
        columns = {"gene": self.schema.genes, "cluster": cluster, "probability": probability}
        return pd.DataFrame(columns)

    def rank_genes(self, adata, group: str, cells=None, **settings) -> pd.DataFrame:
        """Rank genes by a group's own variation; see :func:`~pyro_mgvi.genes.rank_genes`."""
        return rank_genes(self, adata, group, cells, **settings)

    def expression_draws(self, adata, latents=None, genes=None, **settings):
        """Summarise posterior draws of expression; see :func:`~pyro_mgvi.expression_draws`."""
        return expression_draws(self, adata, latents, genes, **settings)

    def differential_expression(self, adata, first, second, **settings) -> pd.DataFrame:
        """Compare two sets of cells; see :func:`~pyro_mgvi.differential_expression`."""
        return differential_expression(self, adata, first, second, **settings)

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

    def _batches(self, data: GroupedCounts, keep_sparse: bool = False) -> Iterator:
        """Yield positions and minibatches of all cells in order, with model and guide at rest."""
        self.guide.eval()
        self.model.eval()
        start = 0
        for batch in data.minibatches(EVALUATION_SIZE, shuffle=False, keep_sparse=keep_sparse):
            cells = np.arange(start, start + len(batch.group))
            yield cells, batch
            start += len(cells)
