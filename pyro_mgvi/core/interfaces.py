"""What an encoder, a decoder and an observation model must do, and what they may do besides.

A component is an object of :class:`Encoder`, :class:`Decoder` or :class:`Likelihood`. What it can
do besides is another base class (``StartsDimensions``, ``HasLoadings``, ...), asked for by
``isinstance``. A model checks its components when it is built
(:mod:`pyro_mgvi.model.component_checks`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import ClassVar, NamedTuple

import pyro.distributions as dist
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from pyro_mgvi.core.copies import Copy
from pyro_mgvi.core.foreign_sampling import ForeignSample
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.kernels.simplex import concatenate, log_proportions
from pyro_mgvi.kernels.sparse import SparseInput

Moments = dict[str, tuple[Tensor, Tensor]]
Part = tuple[Tensor, ...]


class DataKind(Enum):
    """What an observation model is of."""

    COUNTS = "counts"
    VALUES = "transformed values"


class EncoderInput(NamedTuple):
    """What an encoder sees of n cells.

    Attributes
    ----------
    x
        Log counts at one depth, centred per gene: (n, genes), dense or sparse.
    covariates
        (n, covariates), or None.
    cells
        For some latents, which cells each copy has to encode; what is said about others is not
        used. An encoder may encode all of them.
    has
        Which of several modalities each cell has, boolean (n, modalities); None of one.
    """

    x: Tensor | SparseInput
    covariates: Tensor | None = None
    cells: Mapping[str, ForeignSample] = {}
    has: Tensor | None = None

    def dense(self) -> Tensor:
        """Return genes and covariates side by side, (n, genes + covariates)."""
        x = self.x.to_dense() if isinstance(self.x, SparseInput) else self.x
        return concatenate([x], self.covariates)


class Encoder(nn.Module, ABC):
    """From counts to posteriors. Its constructor takes ``(latents, initial)``.

    ``latents`` is a :class:`~pyro_mgvi.core.Latents`, ``initial`` an
    :class:`~pyro_mgvi.core.InitialValues`.
    """

    @abstractmethod
    def forward(self, x: EncoderInput) -> Moments:
        """Return location and scale of each latent's posterior, (S, n, dim) each.

        Also of ``library``, (n,) each, if the encoder has something to say about it: the
        correction to the log of the observed library size.
        """


class DecoderInput(NamedTuple):
    """What a decoder sees of n cells.

    Attributes
    ----------
    values
        Each latent's values, (..., S, n, dim), with zeros for copies that a cell does not own.
    group_weights
        Weight of each group's own terms, (n, groups): one-hot for a cell's own group.
    group
        Codes of the cells' groups, (n,); None where the groups are averaged.
    covariates
        (n, covariates), or None.
    """

    values: Mapping[str, Tensor]
    group_weights: Tensor
    group: Tensor | None = None
    covariates: Tensor | None = None

    def joined(self, names: Iterable[str] | None = None) -> Tensor:
        """Return latents side by side, and covariates unless ``names`` are given.

        (n, dims), or (particles, 1, n, dims) as the plates of the model want it.
        """
        chosen = self.values if names is None else names
        flat = [_flat(self.values[name]) for name in chosen]
        return concatenate(flat, self.covariates if names is None else None)


def _flat(value: Tensor) -> Tensor:
    flat = value.movedim(-3, -2).flatten(-2)  # (S, n, d) -> (n, S * d)
    return flat.unsqueeze(-3) if value.dim() > 3 else flat


class Decoder(nn.Module, ABC):
    """From latents to expression. Its constructor takes ``(latents, initial, n_outputs)``."""

    @abstractmethod
    def forward(self, x: DecoderInput) -> list[Part]:
        """Return additive parts, each of ``n_outputs`` tensors (..., n, genes).

        The first is the location, on the scale of the link; the second, the drop-out logits.
        """

    def log_prior(self) -> Tensor | None:
        """Return the log density of weights that have a prior, up to a constant, in nats."""
        return None


class Likelihood(nn.Module, ABC):
    """An observation model. Its constructor takes ``(initial,)``.

    Attributes
    ----------
    data_kind
        What it is of; counts have a library size.
    n_outputs
        How many tensors it wants of each part of a decoder.
    """

    data_kind: ClassVar[DataKind] = DataKind.COUNTS
    n_outputs: ClassVar[int] = 1

    @abstractmethod
    def forward(self, parts: list[Part], log_library: Tensor | None) -> dist.TorchDistribution:
        """Return the distribution of the cells' values: batch shape (..., n), event (genes,).

        It needs ``log_prob``, ``sample``, ``mean`` and ``variance``. With univariate
        distributions, that is ``Univariate(...).to_event(1)``; genes can then be ranked, too.
        """

    def observed(self, values: Tensor) -> Tensor:
        """Return what of the cells' values has a probability: by default, these."""
        return values

    def expression(self, parts: list[Part]) -> Tensor:
        """Return what is reported as expression, (..., n, genes): shares of a cell's counts."""
        return log_proportions(parts).exp()


class HandlesAbsent(ABC):
    """A likelihood of cells that have not got all genes (feature masks by group)."""

    @abstractmethod
    def of_measured(
        self, parts: list[Part], log_library: Tensor | None, measured_ng: Tensor
    ) -> dist.TorchDistribution:
        """Return the distribution of the values as :meth:`Likelihood.forward` does, of some genes.

        Parameters
        ----------
        parts, log_library
            As for it; the library is of the genes that a cell has.
        measured_ng
            Which cell has which gene, boolean. Absent ones, whose values are zeros, have a
            log-probability of 0 whose gradient is 0, mean and variance 0, and zeros as draws.
        """

    @abstractmethod
    def expression_of_measured(self, parts: list[Part], measured_ng: Tensor) -> Tensor:
        """Return expression as :meth:`Likelihood.expression` does, absent genes on the same scale.

        Shares add up to 1 over the genes that a cell has; what an absent one would be is a
        prediction in their units.
        """


class HasGeneLogProb(ABC):
    """A distribution over the genes of a cell that can tell them apart."""

    @abstractmethod
    def gene_log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of each gene's value, (..., genes), in nats."""


def gene_log_prob(distribution: Distribution, value: Tensor) -> Tensor:
    """Return the log-probability of each gene's value, (..., genes), in nats.

    Raises
    ------
    SettingsError
        If the distribution does not tell genes apart.

    Examples
    --------
    >>> import torch
    >>> gene_log_prob(dist.Poisson(torch.ones(3)).to_event(1), torch.zeros(3))
    tensor([-1., -1., -1.])
    """
    if isinstance(distribution, HasGeneLogProb):
        return distribution.gene_log_prob(value)
    if isinstance(distribution, Independent):
        log_p_ng: Tensor = distribution.base_dist.log_prob(value)
        return log_p_ng
    raise SettingsError(
        f"{type(distribution).__name__} gives no log-probability per gene: let it have "
        "gene_log_prob (pyro_mgvi.core.HasGeneLogProb), or use Univariate(...).to_event(1)"
    )


class DimensionStart(NamedTuple):
    """Where a dimension of a copy starts: a direction of genes that covary.

    Attributes
    ----------
    loading_g
        Log expression (values of transformed data) per unit of the dimension; zero for genes
        that do not follow it.
    cells, score_n
        Inputs of the encoders, dense, and scores of some cells that own the copy.
    """

    loading_g: Tensor
    cells: EncoderInput
    score_n: Tensor

    @property
    def genes(self) -> Tensor:
        """Positions of the genes that follow the direction."""
        return self.loading_g.nonzero()[:, 0].to(self.score_n.device)


class StartsDimensions(ABC):
    """An encoder or a decoder that can start a dimension of a copy at a given direction."""

    @abstractmethod
    def start_dimension(self, copy: Copy, dim: int, start: DimensionStart) -> None:
        """Let dimension ``dim`` of ``copy`` start there; weights change in place."""


class HasGroupOffsets(ABC):
    """A decoder with a shift of each gene's location in each group."""

    @abstractmethod
    def group_offsets(self) -> Tensor | None:
        """Return the offsets, (groups, genes), or None where they are switched off.

        Where groups have terms in common (:attr:`Latents.terms`), these are sums of terms.
        """

    @abstractmethod
    def set_group_offsets(self, offset_bg: Tensor) -> None:
        """Replace the offsets in place."""


class HasLoadings(ABC):
    """A decoder whose weights are the loadings of genes on latents."""

    @abstractmethod
    def loadings(self) -> dict[str, Tensor]:
        """Return log fold change per unit of each latent: (S, genes, dim)."""


class HasPrograms(ABC):
    """A decoder that assigns genes to programs."""

    @property
    @abstractmethod
    def probabilities(self) -> Tensor:
        """Probability of each program for each gene, (genes, programs)."""


class HasGroupEntries(ABC):
    """A component that knows which entries of its weights belong to some copies or groups."""

    @abstractmethod
    def group_entries(self, copies: Mapping[str, Tensor], groups: Tensor) -> dict[str, Tensor]:
        """Return which entries are theirs, by the weight's name, boolean and broadcastable.

        Parameters
        ----------
        copies
            For each latent, which copies are meant, (S,).
        groups
            Which groups are meant, (groups,).

        Returns
        -------
        Weights that are not named have no such entry.
        """
