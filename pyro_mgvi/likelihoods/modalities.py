"""Cells of several modalities: each has a likelihood, and a cell's is their sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import (
    DataKind,
    HandlesAbsent,
    HasGeneLogProb,
    Likelihood,
    Part,
    gene_log_prob,
)
from pyro_mgvi.core.modalities import module_name
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.likelihoods.measured import NOWHERE


class SideBySide(dist.TorchDistribution, HasGeneLogProb):
    """Distributions of the same cells' features, independent of each other, side by side.

    Parameters
    ----------
    parts
        Of batch shape (..., n) and event shape (features,) each.

    Examples
    --------
    >>> rna, prot = dist.Poisson(torch.ones(2, 3)).to_event(1), dist.Poisson(torch.ones(2, 1))
    >>> cells = SideBySide([rna, prot.to_event(1)])
    >>> cells.event_shape, cells.log_prob(torch.zeros(2, 4))
    (torch.Size([4]), tensor([-4., -4.]))
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # as in torch

    def __init__(self, parts: Sequence[dist.TorchDistribution]):
        self.parts = tuple(parts)
        self.sizes = [part.event_shape[0] for part in self.parts]
        event = torch.Size([sum(self.sizes)])
        super().__init__(self.parts[0].batch_shape, event, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """That of all features together."""
        return constraints.real_vector

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> SideBySide:
        """Return the distribution with another batch shape."""
        return type(self)([part.expand(torch.Size(batch_shape)) for part in self.parts])

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of each cell's values, summed over modalities, in nats."""
        values = value.split(self.sizes, -1)
        logs: list[Tensor] = [part.log_prob(x) for part, x in zip(self.parts, values)]
        return sum(logs[1:], start=logs[0])

    def gene_log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of each feature's value, (..., features), in nats."""
        values = value.split(self.sizes, -1)
        return torch.cat([gene_log_prob(part, x) for part, x in zip(self.parts, values)], -1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw values."""
        return torch.cat([part.sample(torch.Size(sample_shape)) for part in self.parts], -1)

    @property
    def mean(self) -> Tensor:
        """Mean of each feature."""
        return torch.cat([part.mean for part in self.parts], -1)

    @property
    def variance(self) -> Tensor:
        """Variance of each feature."""
        return torch.cat([part.variance for part in self.parts], -1)


class ModalityLikelihoods(Likelihood, HandlesAbsent):
    """A likelihood for each modality; each has its own library size, shares and dispersions.

    A cell that has not got a modality has a total of zero there. Its features are absent then: a
    log-probability of zero, and a gradient of zero to the last bit.

    Parameters
    ----------
    initial
        Set by :class:`~pyro_mgvi.model.Model`; with the modalities' features.
    likelihoods
        Class (or ``functools.partial`` of one) of each modality, by name.

    Raises
    ------
    SettingsError
        If the names are not those of the data, or a likelihood is none of counts.
    """

    def __init__(
        self, initial: InitialValues, likelihoods: Mapping[str, Callable[..., Likelihood]]
    ):
        super().__init__()
        modalities = initial.modalities
        if modalities is None or modalities.names != tuple(likelihoods):
            known = "one modality" if modalities is None else list(modalities.names)
            raise SettingsError(
                f"there are likelihoods of {list(likelihoods)}, and the data have {known}"
            )
        self.modalities = modalities
        made = {name: each(initial.of_modality(name)) for name, each in likelihoods.items()}
        for name, each in made.items():
            if not isinstance(each, Likelihood) or not isinstance(each, HandlesAbsent):
                raise SettingsError(
                    f"the likelihood of modality {name!r}, {type(each).__name__}, must be derived "
                    "from pyro_mgvi.core.Likelihood and HandlesAbsent"
                )
            if each.data_kind is not DataKind.COUNTS:
                raise SettingsError(
                    f"modality {name!r}: {type(each).__name__} is of transformed values, and "
                    "several modalities are modelled as counts; pass raw counts, and a likelihood "
                    "of counts such as NB"
                )
        self.parts = nn.ModuleDict({module_name(name): each for name, each in made.items()})
        self.n_outputs = max(each.n_outputs for each in made.values())  # type: ignore[misc]

    @property
    def each(self) -> list[Likelihood]:
        """The likelihoods, in the order of the modalities."""
        return [*self.parts.values()]  # type: ignore[list-item] # torch knows them as modules

    def _of_each(self, parts: list[Part]) -> list[tuple[Likelihood, list[Part]]]:
        """Return each modality's likelihood, and what decoders say of its features."""
        outputs = [[self.modalities.split(output) for output in part] for part in parts]
        return [
            (each, [tuple(split[i] for split in part[: each.n_outputs]) for part in outputs])
            for i, each in enumerate(self.each)
        ]

    def forward(self, parts: list[Part], log_library: Tensor | None) -> SideBySide:
        """Return the distribution of all features; ``log_library`` is (n, modalities)."""
        return self._distribution(parts, log_library, None)

    def of_measured(
        self, parts: list[Part], log_library: Tensor | None, measured_ng: Tensor
    ) -> SideBySide:
        """Return the distribution of the features that a cell has."""
        return self._distribution(parts, log_library, measured_ng)

    def _distribution(
        self, parts: list[Part], log_library: Tensor | None, measured_ng: Tensor | None
    ) -> SideBySide:
        if log_library is None:
            raise SettingsError("a likelihood of counts needs the log of the cells' library sizes")
        made = []
        for k, (each, of_it) in enumerate(self._of_each(parts)):
            log_n = log_library[..., k]
            has_ng = (log_n > NOWHERE / 2).unsqueeze(-1)
            if measured_ng is not None:
                has_ng = has_ng & self.modalities.split(measured_ng)[k]
            if bool(has_ng.all()):
                made.append(each(of_it, log_n))
            else:
                assert isinstance(each, HandlesAbsent)  # checked when built
                has_ng = has_ng.expand(*has_ng.shape[:-1], self.modalities.sizes[k])
                made.append(each.of_measured(of_it, log_n, has_ng))
        return SideBySide(made)

    def observed(self, values: Tensor) -> Tensor:
        """Return what each modality's likelihood gives the probability of."""
        split = self.modalities.split(values)
        return torch.cat([each.observed(of_it) for each, of_it in zip(self.each, split)], -1)

    def expression(self, parts: list[Part]) -> Tensor:
        """Return shares of the counts of each modality: they add up to 1 within each."""
        return torch.cat([each.expression(of_it) for each, of_it in self._of_each(parts)], -1)

    def expression_of_measured(self, parts: list[Part], measured_ng: Tensor) -> Tensor:
        """Return shares within each modality; of one that a cell has not got, predictions."""
        shares = []
        for (each, of_it), has_ng in zip(self._of_each(parts), self.modalities.split(measured_ng)):
            assert isinstance(each, HandlesAbsent)  # checked when built
            any_n1 = has_ng.any(-1, keepdim=True)
            shares.append(each.expression_of_measured(of_it, has_ng | ~any_n1))
        return torch.cat(shares, -1)
