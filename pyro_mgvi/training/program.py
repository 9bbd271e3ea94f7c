"""Model and guide of one dataset's groups as one object, and the one loop over cells."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from pyro_mgvi.core.copies import Latents
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import DataKind, Decoder, Encoder, Likelihood
from pyro_mgvi.core.latents import Latent, private, shared
from pyro_mgvi.data import GroupedCounts, Minibatch, Schema
from pyro_mgvi.data.matching import MISSING
from pyro_mgvi.data.modalities import is_mudata, joined_known
from pyro_mgvi.errors import ComponentWarning, DataError, SettingsError
from pyro_mgvi.kernels.exclusive import exclusive
from pyro_mgvi.likelihoods import ZINB
from pyro_mgvi.model.active_dims import ActiveDims
from pyro_mgvi.model.component_checks import building, check_class, check_components
from pyro_mgvi.model.generative import Model
from pyro_mgvi.model.guide import Guide
from pyro_mgvi.model.own_weight import OwnWeight, given_weights, own_weights
from pyro_mgvi.model.posterior import Posterior
from pyro_mgvi.model.weights import Trainable
from pyro_mgvi.networks import JointDecoder, SeparateEncoders
from pyro_mgvi.support.progress import progress_bar
from pyro_mgvi.support.values import flag, whole
from pyro_mgvi.training.devices.accelerator import fabric
from pyro_mgvi.training.plan import TrainingPlan

BLOCK = 1024  # cells at a time when nothing is trained, and fewer if these hold more than
VALUES = 1 << 22  # counts: that bounds the memory where genes are many
LATENTS = (shared(10), private(10))


def check_model(mgvi: object) -> None:
    """Refuse anything but a model where one is asked, such as the cells in its place.

    Raises
    ------
    SettingsError
        Saying what was given.
    """
    if not isinstance(mgvi, Program):
        raise SettingsError(f"mgvi is a {type(mgvi).__name__}, not a model: pass an MGVI first")


class Program(Trainable):
    """A model and its guide, built from one set of settings.

    Parameters
    ----------
    schema
        Genes, groups, batches and covariates that the model knows.
    initial
        Data-dependent initial values.
    latents
        Latent families, or texts such as ``"z:10"``.
    encoder, decoder, likelihood
        Classes, or ``functools.partial`` of them.
    observed_library
        Take the library size as observed instead of as a latent variable.
    own_weight
        Weight of the divergence of the copies that a cell owns: one for all latents, or one for
        each of some; the others have their default, which grows with the noise of few cells.
    foreign_sample
        How many foreign cells each copy encodes in training; see :class:`~pyro_mgvi.model.Guide`.
    seed
        Of the initial weights.

    Attributes
    ----------
    model, guide
        The Pyro program and its amortised posterior.
    own_weight
        Weight of the divergence of the cells that own a copy, by latent.
    given_weight
        The part of it that the user set.
    plan
        How it was trained, or None: refits follow it.
    history
        Losses per epoch in nats per cell; see :meth:`~pyro_mgvi.training.Trainer.run`.
    interrupted, agreement
        Whether Ctrl-C or an error ended its last training; how well several agree.
    discovery
        Who shares what, if latents were discovered.
    """

    discovery: Any = None

    def __init__(
        self,
        schema: Schema,
        initial: InitialValues,
        latents: Latent | str | Iterable[Latent | str] = LATENTS,
        encoder: Callable[..., Encoder] = SeparateEncoders,
        decoder: Callable[..., Decoder] = JointDecoder,
        likelihood: Callable[..., Likelihood] = ZINB,
        observed_library: bool = False,
        own_weight: OwnWeight | None = None,
        foreign_sample: int | None = None,
        seed: int = 0,
    ):
        self.schema, self.seed = schema, seed
        whole(self, "seed", least=0)
        self.plan: TrainingPlan | None = None
        self.history = pd.DataFrame()
        self.interrupted = False
        self.agreement = pd.DataFrame()
        parts = {"encoder": encoder, "decoder": decoder, "likelihood": likelihood}
        self.components: dict[str, Callable[..., Any]] = dict(parts)
        observed_library = flag("observed_library", observed_library)
        for role, component in self.components.items():
            check_class(role, component)
        with exclusive(), building():
            torch.manual_seed(self.seed)
            bound = Latents(latents, schema.design, schema.having)
            self.given_weight = given_weights(own_weight, bound)
            self.own_weight = own_weights(own_weight, bound, initial)
            active = ActiveDims(bound)
            self.model = Model(bound, initial, decoder, likelihood, observed_library, active)
            self.guide = Guide(
                bound,
                initial,
                encoder,
                observed_library,
                self.model.data_kind,
                foreign_sample,
                active,
            )
            self.model.float().eval()
            self.guide.float().eval()
            check_components(self.model, self.guide, len(schema.genes), schema.n_covariates)
        self.mark(trained=False)

    @property
    def families(self) -> Latents:
        """The latent families, bound to the groups."""
        return self.model.latents

    @property
    def data_kind(self) -> DataKind:
        """What kind of data the likelihood is of."""
        return self.model.data_kind

    def read_for_results(self, adata: AnnData | GroupedCounts) -> GroupedCounts:
        """Return the counts of ``adata`` as :meth:`read` does, and warn if nothing was trained."""
        self.check_usable()
        self.warn_untrained()
        return self.read(adata)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.log_library_b2.device

    def to(self, accelerator: str) -> Self:
        """Move the weights, and return this object: what it says is computed where these are.

        Parameters
        ----------
        accelerator
            ``"cpu"``, ``"gpu"``, ``"cuda:1"``, or ``"auto"`` for a GPU if there is one.

        Raises
        ------
        SettingsError
            If there is no such device.
        """
        if accelerator == str(self.device):
            return self
        device = fabric(accelerator, self.device).device
        self.model.to(device)
        self.guide.to(device)
        return self

    def read(
        self,
        adata: AnnData | GroupedCounts,
        layer: str | None = None,
        use_raw: bool | None = None,
        missing_genes: float = MISSING,
    ) -> GroupedCounts:
        """Return the counts of ``adata`` as this model needs them (genes in its order).

        Whatever takes annotated data takes what this returns, too, wherever the counts are now:
        ``mgvi.latents(mgvi.read(adata, layer="counts"))``. Counts in memory are not copied.

        Parameters
        ----------
        adata
            Annotated data, or counts that are read already.
        layer, use_raw
            Where the counts are, if they have moved: a layer (``"X"``, too), or ``adata.raw``.
        missing_genes
            Share of the model's genes that may be missing; they count as zero.

        Raises
        ------
        DataError
            If genes, groups, batches or covariates are not the model's, by name.

        Warns
        -----
        DataWarning
            If genes are missing, or there are more, which are left out.
        """
        if isinstance(adata, GroupedCounts):
            if not len(adata):
                raise DataError("the counts hold no cell: look at what chose its cells")
            return adata.matching(self.schema)
        if is_mudata(adata):
            adata = joined_known(adata, self.schema)
        source = self.schema.source.elsewhere(layer, use_raw)
        return GroupedCounts.for_schema(adata, self.schema, self.data_kind, source, missing_genes)

    def fresh(self, data: GroupedCounts, seed: int, latents: Sequence[Latent] = ()) -> Self:
        """Return one like this, or with other latents, started from the moments of ``data``."""
        latents, given = latents or self.families.families, self.given_weight
        with warnings.catch_warnings():  # what its parts cannot do was said of this program
            warnings.simplefilter("ignore", ComponentWarning)
            made = type(self)(
                replace(self.schema, absent=data.schema.absent),
                data.initial_values(self.data_kind),
                latents,
                **self.components,
                observed_library=self.model.observed_library,
                own_weight={x.name: given[x.name] for x in latents if x.name in given},
                foreign_sample=self.guide.foreign_sample,
                seed=seed,
            )
        return made.to(str(self.device))

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Put model and guide in evaluation mode, and back as they were."""
        before = [(module, module.training) for module in (self.model, self.guide)]
        try:
            for module, _ in before:
                module.eval()
            yield
        finally:
            for module, training in before:
                module.train(training)

    def batches(
        self,
        data: GroupedCounts,
        size: int = BLOCK,
        keep_sparse: bool = False,
        progress: str | None = None,
    ) -> Iterator[tuple[np.ndarray, Minibatch]]:
        """Yield positions and minibatches of all cells in order, in evaluation mode.

        Parameters
        ----------
        data
            The cells.
        size
            How many at a time, at most.
        keep_sparse
            Give the counts as sparse tensors if they are mostly zero.
        progress
            What a progress bar should be called, if it takes seconds; none without.
        """
        size = min(size, max(2, VALUES // data.shape[1]))
        with self.at_rest(), progress_bar(len(data), progress, "cell") as bar:
            start, keep_sparse = 0, keep_sparse and data.mostly_zero
            for batch in data.minibatches(size, shuffle=False, keep_sparse=keep_sparse):
                stop = start + len(batch.group)
                yield np.arange(start, stop), batch.to(self.device)
                bar.update(stop - start)
                start = stop

    def posteriors(
        self,
        data: GroupedCounts,
        size: int = BLOCK,
        keep_sparse: bool = False,
        progress: str | None = None,
    ) -> Iterator[tuple[np.ndarray, Posterior]]:
        """Yield positions and posteriors of all cells; arguments as for :meth:`batches`."""
        for cells, batch in self.batches(data, size, keep_sparse, progress):
            yield cells, self.posterior(batch)

    @torch.no_grad()
    def posterior(self, batch: Minibatch, seen_g: torch.Tensor | None = None) -> Posterior:
        """Return what the guide says of some cells, from all genes or from some (``seen_g``)."""
        batch = batch._replace(counts=self.model.only_measured(batch.counts, batch.group))
        moments = self.guide.moments(batch.counts, batch.covariates, seen_g, group=batch.group)
        return Posterior(self.model, batch, moments, self.guide.effects_of(batch.sample))
