"""MGVI: the model on an AnnData, from counts to latents, for those who do not write Pyro."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

from anndata import AnnData
from numpy.typing import ArrayLike

from pyro_mgvi import saving
from pyro_mgvi.analysis import Discovery, FitSummary, discover
from pyro_mgvi.analysis.discovery import DISCOVER
from pyro_mgvi.core import Decoder, Encoder, Latent, Likelihood
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.masks import FeatureMasks
from pyro_mgvi.errors import DataError
from pyro_mgvi.likelihoods import ZINB
from pyro_mgvi.modalities import OfMuData
from pyro_mgvi.model.component_checks import kind_of
from pyro_mgvi.model.own_weight import OwnWeight
from pyro_mgvi.networks import JointDecoder, SeparateEncoders
from pyro_mgvi.results import Results
from pyro_mgvi.support.values import flag
from pyro_mgvi.training import Trainer, TrainingPlan, TrainingSetup, add_group
from pyro_mgvi.training.estimate import estimate
from pyro_mgvi.training.objective import continued
from pyro_mgvi.training.plan import chosen_plan
from pyro_mgvi.training.program import LATENTS
from pyro_mgvi.training.search.restart import Known


class MGVI(Results, OfMuData):
    """Shared and group-specific latents of grouped single-cell counts.

    Use :meth:`from_anndata` (or :meth:`from_mudata`) and :meth:`fit`, or :meth:`training_setup`.

    Attributes
    ----------
    model, guide
        The Pyro program and its amortised posterior.
    own_weight, given_weight
        Weight of each latent's divergence for the cells that own it; and the part of it that
        the user set.
    schema
        Genes, groups, batches and covariates that the model knows.
    plan
        How it was trained, or None.
    history
        Losses per epoch in nats per cell; see :meth:`~pyro_mgvi.training.Trainer.run`.
    interrupted
        Whether a Ctrl-C ended its last training.
    discovery
        What its latents were discovered by, or None; it is not saved.

    Examples
    --------
    >>> from pyro_mgvi.datasets import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> found = mgvi.fit(adata, max_epochs=2, progress=False)  # print(found) says what to do next
    >>> mgvi.write_latents(adata)
    >>> sorted(adata.obsm)
    ['X_mgvi_t_group1', 'X_mgvi_t_group2', 'X_mgvi_z']
    """

    discovery: Discovery | None = None

    @classmethod
    def from_anndata(
        cls,
        adata: AnnData,
        group_key: str | Sequence[str],
        layer: str | None = None,
        batch_key: str | None = None,
        covariate_keys: Sequence[str] = (),
        drop_empty: bool = False,
        *,
        use_raw: bool = False,
        round_counts: bool = False,
        sample_key: str | None = None,
        sample_effects: bool = True,
        feature_masks: FeatureMasks | None = None,
        latents: Latent | str | Iterable[Latent | str] | Discovery = LATENTS,
        encoder: Callable[..., Encoder] = SeparateEncoders,
        decoder: Callable[..., Decoder] = JointDecoder,
        likelihood: Callable[..., Likelihood] = ZINB,
        observed_library: bool = False,
        own_weight: OwnWeight | None = None,
        foreign_sample: int | None = None,
        seed: int = 0,
    ) -> Self:
        """Return an untrained model for ``adata``, started from its moments.

        Parameters
        ----------
        adata, group_key, layer, batch_key, covariate_keys, sample_key, sample_effects,
        feature_masks
            As for :meth:`GroupedCounts.from_anndata`.
        drop_empty, use_raw, round_counts
            Leave out cells without a single count; take ``adata.raw``; round fractional counts
            (corrected for ambient RNA): here and whenever the model reads data.
        latents, encoder, decoder, likelihood, observed_library, own_weight, foreign_sample, seed
            As for :class:`~pyro_mgvi.training.program.Program`. ``latents="discover"`` finds which
            groups share what first (:func:`~pyro_mgvi.discover`, whose result may be given, too).

        Raises
        ------
        DataError, SettingsError
            Naming what is at fault in the data or the settings.
        """
        where = adata, group_key, layer, batch_key, covariate_keys, drop_empty
        kind, of_samples = kind_of(likelihood), (sample_key, feature_masks, sample_effects)
        return cls.from_counts(
            GroupedCounts.from_anndata(*where, kind, use_raw, round_counts, *of_samples),
            latents=latents,
            encoder=encoder,
            decoder=decoder,
            likelihood=likelihood,
            observed_library=observed_library,
            own_weight=own_weight,
            foreign_sample=foreign_sample,
            seed=seed,
        )

    @classmethod
    def from_counts(
        cls,
        data: GroupedCounts,
        *,
        latents: Latent | str | Iterable[Latent | str] | Discovery = LATENTS,
        encoder: Callable[..., Encoder] = SeparateEncoders,
        decoder: Callable[..., Decoder] = JointDecoder,
        likelihood: Callable[..., Likelihood] = ZINB,
        observed_library: bool = False,
        own_weight: OwnWeight | None = None,
        foreign_sample: int | None = None,
        seed: int = 0,
    ) -> Self:
        """Return an untrained model for counts that are already read."""
        if not isinstance(data, GroupedCounts):
            raise DataError(f"from_counts takes GroupedCounts, not a {type(data).__name__}")
        more = encoder, decoder, likelihood, observed_library, own_weight, foreign_sample, seed
        initial = data.initial_values(kind_of(likelihood))
        if isinstance(latents, str) and latents == DISCOVER:
            latents = discover(cls(data.schema, initial, LATENTS, *more), data)
        if not isinstance(latents, Discovery):
            return cls(data.schema, initial, latents, *more)
        made = cls(data.schema, initial, latents.latents, *more)
        made.discovery = latents
        return made

    def __repr__(self) -> str:
        active, copies = self.model.active, self.families.copies
        used = [f"{copy.key} {int(active.of(copy).sum())} of {copy.dim}" for copy in copies]
        epochs = f" {len(self.history)} epochs" if len(self.history) else ""
        trained = f"trained{epochs}" if self.trained else "not trained"
        return (
            f"MGVI({len(self.schema.groups)} groups x {len(self.schema.genes):,} genes; "
            f"{type(self.model.likelihood).__name__}; {trained}; "
            f"dimensions in use: {', '.join(used)})"
        )

    def fit(
        self,
        adata: AnnData | GroupedCounts,
        plan: TrainingPlan | None = None,
        *,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        checkpoint: str | Path | None = None,
        resume: bool = True,
        progress: bool = True,
    ) -> FitSummary:
        """Train, keeping the weights of the best validation epoch, and say what was found.

        Calling it again goes on from these weights: closed dimensions stay closed unless the
        search opens them, and the history goes on; the schedule of steps begins anew.

        Parameters
        ----------
        adata, plan
            Data of known groups and the same genes (or :class:`GroupedCounts`); how to train.
        max_epochs
            Upper bound of passes over the cells, instead of that of the plan.
        accelerator
            Where to train: ``"cpu"``, ``"gpu"``, ``"cuda:1"`` or ``"auto"``, a GPU if there is one.
            What the model says is then computed there, too, until :meth:`to` moves it.
        checkpoint
            Folder for the state after each epoch: a process that ends, however it ends, is gone
            on with by the same call.
        resume
            Go on from what ``checkpoint`` holds, if it is of the same data and settings; False
            refuses a folder that holds something.
        progress
            Show a progress bar.

        Returns
        -------
        Whether it converged, what each latent holds and what to do next; :meth:`summary` says
        the same of a loaded model.

        Raises
        ------
        DataError, SettingsError
            If data or settings are invalid, or no cell owns some latent's copy.
        TrainingError
            If a loss is not finite.
        TrainingInterrupted
            After a Ctrl-C; the model has its best weights, as a finished training leaves them.
        """
        plan, resume = chosen_plan(plan, max_epochs), flag("resume", resume)
        data = self.read(adata, missing_genes=0)  # zeros would be learnt
        trainer = Trainer(self, data, plan, accelerator, checkpoint, resume=resume)
        trainer.setup.known = self._known(data)
        earlier = self.history
        try:
            trainer.run(progress)
        finally:  # an interrupted run keeps its best weights, and its history
            earlier = earlier.iloc[: len(earlier) - trainer.n_resumed]
            if trainer.history:
                self.plan, self.history = plan, continued(earlier, trainer.table())
                self.interrupted = trainer.interrupted
        return self.summary(data)

    def training_setup(
        self,
        adata: AnnData | GroupedCounts,
        plan: TrainingPlan | None = None,
        *,
        max_epochs: int | None = None,
    ) -> TrainingSetup:
        """Return all that :meth:`fit` trains with, for a loop of your own.

        Parameters
        ----------
        adata, plan, max_epochs
            As for :meth:`fit`.
        """
        data = self.read(adata, missing_genes=0)
        return TrainingSetup(self, data, chosen_plan(plan, max_epochs), known=self._known(data))

    def _known(self, data: GroupedCounts) -> Known:
        return {} if self.discovery is None else self.discovery.directions(data)

    def add_group(
        self,
        adata: AnnData,
        plan: TrainingPlan | None = None,
        *,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        layer: str | None = None,
        use_raw: bool | None = None,
        feature_mask: str | ArrayLike | None = None,
        progress: bool = True,
    ) -> MGVI:
        """Return a new model with one more group, learnt from that group's cells alone.

        This one stays as it is, and so does what it says of the other groups; see
        :func:`pyro_mgvi.training.add_group`.
        """
        used = chosen_plan(plan, max_epochs, self.plan)
        where = layer, use_raw, feature_mask
        larger, history = add_group(self, adata, used, accelerator, progress, *where)
        larger.plan, larger.history = used, history
        return larger

    estimate = estimate

    def save(self, path: str | Path) -> None:
        """Write weights and plain settings to the folder ``path``, whole or not at all.

        Raises
        ------
        ModelFileError
            If ``path`` holds anything but a saved model, or cannot be written.
        SettingsError
            If ``path`` is none, or a component cannot be described as plain data.
        """
        saving.write(path, self)

    @classmethod
    def load(cls, path: str | Path, components: Sequence[type] = ()) -> Self:
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
        return saving.load(cls, path, components)
