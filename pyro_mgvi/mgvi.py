"""MGVI: the model on an AnnData, from counts to latents, for those who do not write Pyro."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

from anndata import AnnData
from numpy.typing import ArrayLike

from pyro_mgvi import saving
from pyro_mgvi.analysis import Discovery, discover
from pyro_mgvi.analysis.discovery import DISCOVER
from pyro_mgvi.core import Decoder, Encoder, Latent, Likelihood
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.genes.named import GeneChoice
from pyro_mgvi.data.masks import FeatureMasks
from pyro_mgvi.errors import DataError
from pyro_mgvi.fitting import Fits
from pyro_mgvi.likelihoods import ZINB
from pyro_mgvi.modalities import OfMuData
from pyro_mgvi.model.component_checks import kind_of
from pyro_mgvi.model.own_weight import OwnWeight
from pyro_mgvi.networks import JointDecoder, SeparateEncoders
from pyro_mgvi.results import Results
from pyro_mgvi.support.launched import launched
from pyro_mgvi.training import TrainingPlan, add_group
from pyro_mgvi.training.plan import chosen_plan
from pyro_mgvi.training.program import LATENTS


class MGVI(Results, Fits, OfMuData):
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
        Whether Ctrl-C or an error ended its last training.
    agreement
        How well several trainings (``fit(n_trainings=3)``) find its dimensions again: a table, see
        :func:`~pyro_mgvi.analysis.several.agreement.agreement`; empty after a single one.
    discovery
        What its latents were discovered by, or None; its table is saved with the model.

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
        genes: GeneChoice | None = None,
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
        feature_masks, genes
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
        kind, of_samples = kind_of(likelihood), (sample_key, feature_masks, sample_effects, genes)
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

    def save(self, path: str | Path) -> None:
        """Write weights and plain settings to the folder ``path``, whole or not at all.

        Of several processes that train together (``torchrun``), the first one writes.

        Raises
        ------
        ModelFileError
            If ``path`` holds anything but a saved model, or cannot be written.
        SettingsError
            If ``path`` is none, or a component cannot be described as plain data.
        """
        if launched().rank == 0:
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
