"""The one abstraction: a latent is a named family of subsets of groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch

from pyro_mgvi.errors import SettingsError
from pyro_mgvi.priors import Dirac

Subsets = tuple[tuple[str, ...], ...]

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
        Prior of a copy for the cells that do not own it (see :mod:`pyro_mgvi.priors`).

    Raises
    ------
    SettingsError
        If the name is reserved or not an identifier, or ``dim`` is not positive.

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
    foreign: object = Dirac()

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name in RESERVED:
            raise SettingsError(
                f"latent name {self.name!r}: use a plain identifier other than {RESERVED}"
            )
        if int(self.dim) != self.dim or self.dim < 1:
            raise SettingsError(f"latent {self.name!r}: dim must be at least 1, not {self.dim}")

    def over(self, groups: Sequence[str]) -> Latent:
        """Return this latent with its subsets spelled out for ``groups``.

        Raises
        ------
        SettingsError
            If there is no subset, one is empty or repeated, or names an unknown group.
        """
        groups = tuple(groups)
        subsets = self.subsets(groups) if callable(self.subsets) else self.subsets
        subsets = tuple(tuple(subset) for subset in subsets)
        if not subsets:
            raise SettingsError(f"latent {self.name!r} has no subset of the groups {groups}")
        for subset in subsets:
            if not subset:
                raise SettingsError(f"latent {self.name!r} has an empty subset")
            unknown = sorted(set(subset) - set(groups))
            if unknown:
                raise SettingsError(
                    f"latent {self.name!r} names unknown group(s) {unknown}, to which no cell "
                    f"belongs; the data have {list(groups)}"
                )
            if len(set(subset)) < len(subset):
                raise SettingsError(f"latent {self.name!r} names a group twice: {subset}")
        if len({frozenset(subset) for subset in subsets}) < len(subsets):
            raise SettingsError(f"latent {self.name!r} repeats a subset: {subsets}")
        return replace(self, subsets=subsets)

    @property
    def n_subsets(self) -> int:
        """Number of copies, S."""
        return len(self.subsets)

    @property
    def keys(self) -> tuple[str, ...]:
        """Output name of each copy, such as ``z`` or ``t_Ileum``."""
        if self.n_subsets == 1:
            return (self.name,)
        return tuple(f"{self.name}_{'+'.join(subset)}" for subset in self.subsets)

    def covers(self, groups: Sequence[str]) -> bool:
        """Return whether every group owns every copy, so that no cell is foreign."""
        return all(set(subset) >= set(groups) for subset in self.subsets)

    def membership(self, groups: Sequence[str]) -> torch.Tensor:
        """Return the boolean (subset x group) matrix of who owns what."""
        return torch.tensor([[group in subset for group in groups] for subset in self.subsets])


def shared(dim: int = 10, name: str = "z", **kwargs) -> Latent:
    """Return the latent that all groups own: one subset, a membership row of ones.

    Examples
    --------
    >>> shared(2).over(("ileum", "jejunum")).keys
    ('z',)
    """
    return Latent(name, lambda groups: (groups,), dim, **kwargs)


def private(dim: int = 10, name: str = "t", **kwargs) -> Latent:
    """Return one copy per group: membership is the identity.

    Examples
    --------
    >>> private(2).over(("ileum", "jejunum")).keys
    ('t_ileum', 't_jejunum')
    """
    return Latent(name, lambda groups: tuple((group,) for group in groups), dim, **kwargs)


def pairwise(dim: int = 10, name: str = "pair", **kwargs) -> Latent:
    """Return one copy for every two groups: two ones in each membership row.

    Examples
    --------
    >>> pairwise(2).over(("a", "b", "c")).membership(("a", "b", "c")).int()
    tensor([[1, 1, 0],
            [1, 0, 1],
            [0, 1, 1]], dtype=torch.int32)
    """
    return Latent(name, lambda groups: tuple(combinations(groups, 2)), dim, **kwargs)


def subsets(name: str, groups: Iterable[Iterable[str]], dim: int = 10, **kwargs) -> Latent:
    """Return one copy for each named subset of groups.

    Examples
    --------
    >>> subsets("small", [["ileum", "jejunum"]], 5).over(("colon", "ileum", "jejunum")).keys
    ('small',)
    """
    return Latent(name, tuple(tuple(subset) for subset in groups), dim, **kwargs)


FAMILIES = {"z": shared, "t": private, "pair": pairwise}


def parse(spec: str) -> Latent:
    """Return the latent that a short text stands for.

    Parameters
    ----------
    spec
        ``z:10`` (shared), ``t:10`` (one per group), ``pair:5`` (one per two groups), or subsets
        of your own with a name: ``small=Ileum+Jejunum:5``, several separated by commas.

    Raises
    ------
    SettingsError
        If the text is none of these.

    Examples
    --------
    >>> parse("small=Ileum+Jejunum,Colon:5").subsets
    (('Ileum', 'Jejunum'), ('Colon',))
    """
    head, colon, dim = spec.rpartition(":")
    name, equals, groups = head.partition("=")
    if not colon or not dim.isdigit() or not (equals or name in FAMILIES):
        raise SettingsError(
            f"latent {spec!r} is not understood: write z:10, t:10, pair:5, or NAME=A+B:5 "
            "for a latent of the groups A and B"
        )
    if equals:
        named = [subset.split("+") if subset else [] for subset in groups.split(",")]
        return subsets(name, named, int(dim))
    return FAMILIES[name](int(dim))


def over_groups(latents: Sequence[Latent], groups: Sequence[str]) -> tuple[Latent, ...]:
    """Spell out all latents for ``groups`` and check that their output keys differ.

    Raises
    ------
    SettingsError
        If two latents would write the same key, or there is none.
    """
    bound = tuple(latent.over(groups) for latent in latents)
    names = [name for latent in bound for name in {latent.name, *latent.keys}]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not bound:
        raise SettingsError(f"latents overlap in the names {twice}" if twice else "no latent given")
    return bound
