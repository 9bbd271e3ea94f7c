"""The one abstraction: a latent is a named family of subsets of groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyro.distributions as dist
import torch

from pyro_mgvi.core.design import Design
from pyro_mgvi.core.modalities import WORDS
from pyro_mgvi.core.priors import Dirac, ForeignPrior, check_prior
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.support.values import whole_number

Subsets = tuple[tuple[str, ...], ...]
Named = Mapping[str, tuple[str, ...]]

HINT = "; in a text, a backslash goes before every + , : and = of a name"
MOST_DIMS = 10_000  # more than any data have; a mistyped number should not ask for memory
# The model's own site and plate names.
RESERVED = ("library", "counts", "cells", "decoder_prior", "sample_effect", "samples")


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
        Group names of each copy; or a function from all group names to them (or to a mapping
        from names of copies to them), for families such as "one per group" that are fixed only
        once the data are known.
    dim
        Number of dimensions of each copy.
    foreign
        Prior of a copy for the cells that do not own it (see :mod:`pyro_mgvi.core.priors`).
    prior
        Prior of each dimension for the cells that own the copy: a univariate distribution such
        as ``dist.Laplace(0.0, 1.0)``. By default standard normal.
    copy_names
        Names of the copies, for their output keys; by default those of their groups.
    modalities
        Of data with several, those that the latent reaches: what it explains, and what its encoders
        see. None for all.

    Raises
    ------
    SettingsError
        If the name is reserved or not an identifier, ``dim`` is not a positive whole number, or
        ``prior`` is none of a single real number.

    Examples
    --------
    >>> from pyro_mgvi.core import pairwise, private
    >>> private(2).over(("ileum", "jejunum")).subsets
    (('ileum',), ('jejunum',))
    >>> pairwise(3).over(("a", "b", "c")).keys
    ('pair_a+b', 'pair_a+c', 'pair_b+c')
    """

    name: str
    subsets: Subsets | Callable[[Design], Subsets | Named]
    dim: int
    foreign: ForeignPrior = Dirac()
    prior: dist.TorchDistribution | None = None
    copy_names: tuple[str, ...] | None = None
    modalities: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier() or self.name in RESERVED:
            raise SettingsError(
                f"latent name {self.name!r}: use a plain identifier other than {RESERVED}"
            )
        if self.name in WORDS:
            raise SettingsError(f"latent name {self.name!r} is a word of torch: use another")
        dim = whole_number(f"latent {self.name!r}: dim", self.dim, least=1, most=MOST_DIMS)
        object.__setattr__(self, "dim", dim)
        if not callable(self.foreign) or isinstance(self.foreign, type):
            raise SettingsError(
                f"latent {self.name!r}: foreign must be a prior for foreign cells, such as Dirac() "
                f"or SameAsOwn(), not {self.foreign!r}"
            )
        if self.prior is not None:
            check_prior(self.prior, self.dim, f"latent {self.name!r}")
        if self.modalities is not None:
            listed = isinstance(self.modalities, (list, tuple)) and len(self.modalities) > 0
            if not listed or not all(isinstance(name, str) for name in self.modalities):
                raise SettingsError(
                    f"latent {self.name!r}: modalities={self.modalities!r} is no list of names, "
                    "such as ['rna']; leave it out to reach all"
                )
            object.__setattr__(self, "modalities", tuple(self.modalities))

    def __repr__(self) -> str:
        owners = "" if callable(self.subsets) else f", {len(self.subsets)} cop{_y(self.subsets)}"
        reach = "" if self.modalities is None else f", reaches {', '.join(self.modalities)}"
        return f"Latent({self.name!r}, dim={self.dim}{owners}, foreign={self.foreign}{reach})"

    def over(self, groups: Sequence[str]) -> Latent:
        """Return this latent with its subsets spelled out for ``groups``.

        Raises
        ------
        SettingsError
            If there is no subset, one is empty or repeated, or names an unknown group.
        """
        design, names = Design.of(groups), self.copy_names
        groups = design.groups
        found = self.subsets(design) if callable(self.subsets) else self.subsets
        if isinstance(found, Mapping):
            names, found = tuple(found), tuple(found.values())
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
        if names is not None and len(names) != len(subsets):
            raise SettingsError(
                f"latent {self.name!r} has {len(subsets)} copies and {len(names)} names"
            )
        return replace(self, subsets=subsets, copy_names=names)

    def where_measured(self, having: Mapping[str, tuple[str, ...]]) -> Latent:
        """Return this latent, spelled out, owned by groups that have something that it reaches.

        Copies that no group is left to own, or that have the owners of an earlier one, are gone.

        Parameters
        ----------
        having
            For each modality of the data, the groups that have it; empty for one modality.

        Raises
        ------
        SettingsError
            If the latent reaches a modality that the data do not have, or no group can own it.

        Examples
        --------
        >>> having = {"rna": ("a", "b"), "prot": ("b",)}
        >>> Latent("prot", (("a", "b"),), 2, modalities=("prot",)).where_measured(having).owners
        (('b',),)
        """
        if self.modalities is None:
            return self
        unknown = [name for name in self.modalities if name not in having]
        if unknown:
            known = f"they have {list(having)}" if having else "they have one"
            raise SettingsError(
                f"latent {self.name!r} reaches modalities that the data do not have: {unknown}; "
                f"{known}"
            )
        has = {group for name in self.modalities for group in having[name]}
        kept: dict[tuple[str, ...], int] = {}
        for i, subset in enumerate(self.owners):
            left = tuple(group for group in subset if group in has)
            if left:
                kept.setdefault(left, i)
        if not kept:
            raise SettingsError(
                f"latent {self.name!r} reaches {', '.join(self.modalities)}, which none of its "
                "groups has"
            )
        names = self.copy_names and tuple(self.copy_names[i] for i in kept.values())
        if names is None and len(kept) < len(self.owners):  # a copy left alone keeps its key
            names = tuple(self.labels[i] for i in kept.values())
        return replace(self, subsets=tuple(kept), copy_names=names)

    def reaches(self, modality: str) -> bool:
        """Return whether it reaches a modality of the data."""
        return self.modalities is None or modality in self.modalities

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
        owners = [set(subset) for subset in self.owners]
        return torch.tensor([[group in subset for group in groups] for subset in owners])


def _y(parts: Sequence[object]) -> str:
    return "y" if len(parts) == 1 else "ies"
