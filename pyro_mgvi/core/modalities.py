"""Which features are of which modality, and which groups have it: names, sizes and a table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor, nn

WORDS = frozenset(dir(nn.ModuleDict()))  # that torch takes for no name of a module, such as keys


@dataclass(frozen=True)
class Modalities:
    """Features of several modalities side by side.

    Attributes
    ----------
    names
        Of the modalities.
    sizes
        Number of features of each.

    Examples
    --------
    >>> modalities = Modalities(("rna", "prot"), (3, 2))
    >>> modalities.columns["prot"]
    slice(3, 5, None)
    >>> [part.tolist() for part in modalities.split(torch.arange(5))]
    [[0, 1, 2], [3, 4]]
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def columns(self) -> dict[str, slice]:
        """Where the features of each modality are."""
        stops = list(accumulate(self.sizes))
        starts = [0, *stops[:-1]]
        return {name: slice(*ends) for name, *ends in zip(self.names, starts, stops)}

    @property
    def code_g(self) -> Tensor:
        """Which modality each feature is of, (features,)."""
        return torch.arange(len(self.names)).repeat_interleave(torch.tensor(self.sizes))

    def split(self, value: Tensor) -> tuple[Tensor, ...]:
        """Return the parts of a tensor (..., features), one for each modality."""
        parts: tuple[Tensor, ...] = value.split(list(self.sizes), -1)
        return parts

    def totals(self, value: Tensor) -> Tensor:
        """Return sums over the features of each modality, (..., modalities)."""
        return torch.stack([part.sum(-1) for part in self.split(value)], -1)

    def spread(self, value: Tensor) -> Tensor:
        """Return a value of each modality (..., modalities) at each of its features."""
        sizes = torch.tensor(self.sizes, device=value.device)
        return value.repeat_interleave(sizes, -1, output_size=sum(self.sizes))


def module_name(name: str) -> str:
    """Return what torch takes for the name of a module: the name itself, if it does.

    Examples
    --------
    >>> [module_name(name) for name in ("rna", "rna.v2", "keys", "")]
    ['rna', 'rna%2Ev2', 'keys%', '%']
    """
    escaped = name.replace("%", "%25").replace(".", "%2E")
    return f"{escaped}%" if not name or name in WORDS else escaped
