"""The one abstraction: a latent is a named family of subsets of groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import pyro.distributions as dist
import torch

from pyro_mgvi.core.priors import Dirac, ForeignPrior, check_prior
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.support.values import whole_number

Subsets = tuple[tuple[str, ...], ...]

HINT = "; in a text, a backslash goes before every + , : and = of a name"
MOST_DIMS = 10_000  # more than any data have; a mistyped number should not ask for memory
RESERVED = ("library", "counts", "cells", "decoder_prior")  # the model's own site and plate names


@dataclass(frozen=True)
class Latent:
    """One independent copy of a ``dim``-dimensional variable per subset of groups.

    A cell *owns* a copy when its group is in the copy's subset. Prior, gate, encoder
    width, decoder width and output keys all follow from the membership matrix.

    Parameters
    ----------
    name
        Name of the Pyro sample site, and part of the output keys.
    subsets
        Group names of each copy; or a function from all group names to them, for
        families such as "one per group" that are fixed only once the data are known.
    dim
        Number of dimensions of each copy.
    foreign
        Prior of a copy for the cells that do not own it (see :mod:`pyro_mgvi.core.priors`).
    prior
        Prior of each dimension for the cells that own the copy: a univariate distribution such
        as ``dist.Laplace(0.0, 1.0)``. By default standard normal.
    copy_names
        Names of the copies, for their output keys; by default those of their groups.

    Raises
    ------
    SettingsError
        If the name is reserved or not an identifier, ``dim`` is not a positive whole number, or
        ``prior`` is none of a single real number.

    Examples
    --------
    >>> private(2).over(("ileum", "jejunum")).subsets
    (('ileum',), ('jejunum',))
    >>> pairwise(3).over(("a", "b", "c")).keys
    ('pair_a+b', 'pair_a+c', 'pair_b+c')
    """

    name: str
    subsets: Subsets | Callable[[tuple[str, ...]], Subsets]
    dim: int
    foreign: ForeignPrior = Dirac()
    prior: dist.TorchDistribution | None = None
    copy_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier() or self.name in RESERVED:
            raise SettingsError(
                f"latent name {self.name!r}: use a plain identifier other than {RESERVED}"
            )
        dim = whole_number(f"latent {self.name!r}: dim", self.dim, least=1, most=MOST_DIMS)
        object.__setattr__(self, "dim", dim)
        if not callable(self.foreign) or isinstance(self.foreign, type):
            raise SettingsError(
                f"latent {self.name!r}: foreign must be a prior for foreign cells, such as Dirac() "
                f"or SameAsOwn(), not {self.foreign!r}"
            )
        if self.prior is not None:
            check_prior(self.prior, self.dim, f"latent {self.name!r}")

    def __repr__(self) -> str:
        owners = "" if callable(self.subsets) else f", {len(self.subsets)} cop{_y(self.subsets)}"
        return f"Latent({self.name!r}, dim={self.dim}{owners}, foreign={self.foreign})"

    def over(self, groups: Sequence[str]) -> Latent:
        """Return this latent with its subsets spelled out for ``groups``.

        Raises
        ------
        SettingsError
            If there is no subset, one is empty or repeated, or names an unknown group.
        """
        groups = tuple(groups)
        found = self.subsets(groups) if callable(self.subsets) else self.subsets
        subsets = tuple(tuple(subset) for subset in found)
        if not subsets:
            raise SettingsError(f"latent {self.name!r} has no subset of the groups {groups}")
        for subset in subsets:
            if not subset:
                raise SettingsError(f"latent {self.name!r} has an empty subset")
            unknown = [group for group in subset if group not in groups]
            if unknown:
                raise SettingsError(
                    f"latent {self.name!r} names unknown group(s) {unknown}, to which no cell "
                    f"belongs; the data have {list(groups)}"
                    + (HINT if any(set("+,:=") & set(group) for group in groups) else "")
                )
            if len(set(subset)) < len(subset):
                raise SettingsError(f"latent {self.name!r} names a group twice: {subset}")
        if len({frozenset(subset) for subset in subsets}) < len(subsets):
            raise SettingsError(f"latent {self.name!r} repeats a subset: {subsets}")
        if self.copy_names is not None and len(self.copy_names) != len(subsets):
            raise SettingsError(
                f"latent {self.name!r} has {len(subsets)} copies and {len(self.copy_names)} names"
            )
        return replace(self, subsets=subsets)

    @property
    def owners(self) -> Subsets:
        """Groups that own each copy, of a latent whose subsets are spelled out."""
        if callable(self.subsets):
            raise SettingsError(
                f"the subsets of latent {self.name!r} depend on the groups: call over(groups) first"
            )
        return self.subsets

    @property
    def n_copies(self) -> int:
        """Number of copies, S, of a latent whose subsets are spelled out."""
        return len(self.owners)

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each copy: the given one, or its groups joined by ``+``."""
        return self.copy_names or tuple("+".join(subset) for subset in self.owners)

    @property
    def keys(self) -> tuple[str, ...]:
        """Output name of each copy, such as ``z`` or ``t_Ileum``.

        A ``/`` becomes ``_``: HDF5 and zarr would read it as a folder.
        """
        if self.n_copies == 1 and self.copy_names is None:
            return (self.name,)
        return tuple(f"{self.name}_{label}".replace("/", "_") for label in self.labels)

    def covers(self, groups: Sequence[str]) -> bool:
        """Return whether every group owns every copy, so that no cell is foreign."""
        return all(set(subset) >= set(groups) for subset in self.owners)

    def membership(self, groups: Sequence[str]) -> torch.Tensor:
        """Return the boolean (subset x group) matrix of who owns what."""
        return torch.tensor([[group in subset for group in groups] for subset in self.owners])


def _y(parts: Sequence[object]) -> str:
    return "y" if len(parts) == 1 else "ies"


def shared(dim: int = 10, name: str = "z", prior: dist.TorchDistribution | None = None) -> Latent:
    """Return the latent that all groups own: one subset, a membership row of ones.

    Examples
    --------
    >>> shared(2).over(("ileum", "jejunum")).keys
    ('z',)
    """
    return Latent(name, lambda groups: (groups,), dim, prior=prior)


def private(
    dim: int = 10,
    name: str = "t",
    foreign: ForeignPrior = Dirac(),
    prior: dist.TorchDistribution | None = None,
) -> Latent:
    """Return one copy per group: membership is the identity.

    Examples
    --------
    >>> private(2).over(("ileum", "jejunum")).keys
    ('t_ileum', 't_jejunum')
    """
    return Latent(name, lambda groups: tuple((g,) for g in groups), dim, foreign, prior)


def pairwise(
    dim: int = 10,
    name: str = "pair",
    foreign: ForeignPrior = Dirac(),
    prior: dist.TorchDistribution | None = None,
) -> Latent:
    """Return one copy for every two groups: two ones in each membership row.

    Examples
    --------
    >>> pairwise(2).over(("a", "b", "c")).membership(("a", "b", "c")).int()
    tensor([[1, 1, 0],
            [1, 0, 1],
            [0, 1, 1]], dtype=torch.int32)
    """
    return Latent(name, lambda groups: tuple(combinations(groups, 2)), dim, foreign, prior)


def subsets(
    name: str,
    groups: Iterable[Iterable[str]] | Mapping[str, Iterable[str]],
    dim: int = 10,
    foreign: ForeignPrior = Dirac(),
    prior: dist.TorchDistribution | None = None,
) -> Latent:
    """Return one copy for each subset of groups, named if ``groups`` is a mapping.

    Raises
    ------
    SettingsError
        If a subset is a text instead of a list of groups.

    Examples
    --------
    >>> subsets("small", [["ileum", "jejunum"]], 5).over(("colon", "ileum", "jejunum")).keys
    ('small',)
    >>> condition = {"ctrl": ["d1", "d2"], "stim": ["d3", "d4"]}
    >>> subsets("condition", condition, 5).over(("d1", "d2", "d3", "d4")).keys
    ('condition_ctrl', 'condition_stim')
    """
    names = None
    if hasattr(groups, "items"):  # a mapping, or a pandas Series
        named = dict(groups.items())
        names, groups = tuple(map(str, named)), named.values()
    if not isinstance(groups, Iterable):
        raise SettingsError(f"latent {name!r}: {groups!r} is no list of lists of groups")
    listed = list(groups)
    texts = [subset for subset in listed if isinstance(subset, str)]
    if texts:
        raise SettingsError(
            f"latent {name!r}: {texts[0]!r} is a text, not a list of groups; write "
            f"[{[str(text) for text in texts]}] for one copy that these groups share"
        )
    for subset in listed:
        if not isinstance(subset, Iterable):
            raise SettingsError(f"latent {name!r}: {subset!r} is no list of groups")
    return Latent(name, tuple(map(tuple, listed)), dim, foreign, prior, names)
