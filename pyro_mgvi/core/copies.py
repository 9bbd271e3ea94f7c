"""Latents bound to the groups of a dataset, and each of their copies: who owns what, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from pyro_mgvi.core.design import Design, term_blocks
from pyro_mgvi.core.latents import Latent, by_column
from pyro_mgvi.core.latents.text import parse
from pyro_mgvi.core.priors import Dirac
from pyro_mgvi.errors import SettingsError


@dataclass(frozen=True)
class Copy:
    """One copy of a latent.

    Attributes
    ----------
    key
        Output name, such as ``t_Ileum``; unique among all copies, and safe in HDF5.
    latent
        Name of the family.
    index
        Position in the family.
    dim
        Number of dimensions.
    groups
        Groups that own it.
    shared
        Whether these are all groups.
    label
        What tells it from the other copies of its family, such as ``Ileum``.
    columns
        Where several columns make up the groups, those of which its owners are a level, or a
        combination of levels: empty if all groups own it, or others than a level has.
    owners
        To whom it belongs, in words: ``"all groups"``, ``"tissue Ileum"`` where several columns
        make up the groups, or their names.
    """

    key: str
    latent: str
    index: int
    dim: int
    groups: tuple[str, ...]
    shared: bool
    label: str
    columns: tuple[str, ...] = ()
    owners: str = ""


class Latents:
    """Latent families of the groups of a dataset: the one place that knows keys and owners.

    Parameters
    ----------
    latents
        One family or several, each a :class:`Latent` or a text such as ``"z:10"`` (:func:`parse`).
    groups
        Names of all groups, in the order of the group codes; or their :class:`Design`.
    having
        Of data with several modalities, the groups that have each of them, by name.

    Raises
    ------
    SettingsError
        If there is no latent, names or keys repeat, or a prior for foreign cells is given of a
        latent that has none.

    Examples
    --------
    >>> latents = Latents(["z:2", "t:3"], ("a", "b"))
    >>> [copy.key for copy in latents.copies]
    ['z', 't_a', 't_b']
    >>> latents["t"].dim, [latent.name for latent in latents.shared]
    (3, ['z'])
    """

    def __init__(
        self,
        latents: Latent | str | Iterable[Latent | str],
        groups: Sequence[str],
        having: Mapping[str, tuple[str, ...]] | None = None,
    ):
        self.having = {} if having is None else dict(having)
        self.design = Design.of(groups)
        self.groups = self.design.groups
        if not isinstance(latents, (Latent, str, Iterable)):
            raise SettingsError(f"latents={latents!r} is no latent: write shared(10) or 'z:10'")
        listed = [latents] if isinstance(latents, (Latent, str)) else list(latents)
        for latent in listed:
            if not isinstance(latent, (Latent, str)):
                raise SettingsError(f"{latent!r} is no latent: write shared(10) or 'z:10'")
        families = [parse(latent) if isinstance(latent, str) else latent for latent in listed]
        every = [each for family in families for each in by_column(family, self.design)]
        bound = (family.over(self.design) for family in every)
        self.families = tuple(family.where_measured(self.having) for family in bound)
        self._member: dict[str, torch.Tensor] = {}
        self._check()

    def _check(self) -> None:
        if not self.families:
            raise SettingsError("no latent given")
        names = [name for x in self.families for name in {x.name, *x.keys}]
        names += [f"{x.name}_copies" for x in self.families]  # the plates
        keys = [key for family in self.families for key in family.keys]
        twice = sorted({name for name in names if names.count(name) > 1})
        twice += sorted({key for key in keys if keys.count(key) > 1} - set(twice))
        if twice:
            raise SettingsError(
                f"latents overlap in the names {twice}: give a latent another name, as in "
                "private(5, name='own'); rename groups; or name the copies, as in "
                "subsets('pair', {'first': ['a', 'b']}, 5)"
            )
        for family in self.families:
            if family.covers(self.groups) and family.foreign != Dirac():
                raise SettingsError(
                    f"latent {family.name!r} belongs to all groups: no cell is foreign to it, so "
                    f"foreign={family.foreign!r} would be ignored; give the owners' prior as prior="
                )

    def __iter__(self) -> Iterator[Latent]:
        return iter(self.families)

    def __len__(self) -> int:
        return len(self.families)

    def __getitem__(self, name: str | int) -> Latent:
        if isinstance(name, int):
            return self.families[name]
        return {family.name: family for family in self.families}[name]

    def __repr__(self) -> str:
        return f"Latents({', '.join(map(repr, self.families))}; groups {list(self.groups)})"

    @cached_property
    def copies(self) -> tuple[Copy, ...]:
        """All copies, in the order of the families."""
        copies = []
        for x in self.families:
            for i, (key, label, groups) in enumerate(zip(x.keys, x.labels, x.owners)):
                everyone = set(groups) >= set(self.groups)
                alone = everyone or len(self.design.keys) == 1
                columns = () if alone else self.design.columns_of(groups)
                owners = "all groups" if everyone else self._in_words(groups, columns)
                copies.append(Copy(key, x.name, i, x.dim, groups, everyone, label, columns, owners))
        return tuple(copies)

    def _in_words(self, groups: tuple[str, ...], columns: tuple[str, ...]) -> str:
        if columns:
            levels = self.design.levels(columns)
            name = next(name for name, each in levels.items() if set(each) == set(groups))
            return f"{' x '.join(columns)} {name}"
        return " and ".join(groups)

    @cached_property
    def term_blocks(self) -> tuple[torch.Tensor, ...]:
        """Sets of groups that may shift expression (:func:`~pyro_mgvi.core.design.term_blocks`)."""
        return term_blocks(self.design, [family.owners for family in self.specific])

    @property
    def terms(self) -> torch.Tensor:
        """All of them side by side: boolean, groups x terms."""
        return torch.cat(self.term_blocks, 1)

    def copies_of(self, name: str) -> tuple[Copy, ...]:
        """Return the copies of one family."""
        return tuple(copy for copy in self.copies if copy.latent == name)

    @cached_property
    def shared(self) -> tuple[Latent, ...]:
        """Families all of whose copies all groups own."""
        return tuple(family for family in self.families if family.covers(self.groups))

    @cached_property
    def specific(self) -> tuple[Latent, ...]:
        """The other families: some cell is foreign to some copy."""
        return tuple(family for family in self.families if not family.covers(self.groups))

    def everyones(self, copy: Copy) -> bool:
        """Return whether all groups own a copy that have anything of what it reaches.

        Examples
        --------
        >>> having = {"rna": ("a", "b"), "prot": ("b",)}
        >>> prot = Latent("prot", (("a", "b"),), 2, modalities=("prot",))
        >>> latents = Latents(["z:2", "t:2", prot], ("a", "b"), having)
        >>> [copy.key for copy in latents.copies if latents.everyones(copy)]
        ['z', 'prot']
        """
        reach = self.modalities_of(copy.latent)
        has = {group for name in reach for group in self.having[name]}
        return copy.shared or set(copy.groups) == has

    def common(self, copy: Copy) -> bool:
        """Return whether a copy is everyone's, and reaches every modality of the data."""
        return self.everyones(copy) and self.modalities_of(copy.latent) == tuple(self.having)

    @property
    def of_everyone(self) -> tuple[str, ...]:
        """Names of the families that belong to no groups in particular (:meth:`everyones`)."""
        return tuple(x.name for x in self if all(map(self.everyones, self.copies_of(x.name))))

    @property
    def n_dims(self) -> int:
        """Number of dimensions of all copies together."""
        return sum(copy.dim for copy in self.copies)

    def reaching(self, modality: str) -> Latents | None:
        """Return the families that reach a modality, as latents of their own; None without any.

        Examples
        --------
        >>> having = {"rna": ("a", "b"), "prot": ("a", "b")}
        >>> prot = Latent("prot", (("a", "b"),), 2, modalities=("prot",))
        >>> [x.name for x in Latents(["z:2", prot], ("a", "b"), having).reaching("rna")]
        ['z']
        """
        families = [family for family in self.families if family.reaches(modality)]
        return Latents(families, self.design, self.having) if families else None

    def narrower(self, copy: Copy) -> dict[tuple[str, ...], Copy]:
        """Return the copies of the same owners that reach a part of what one reaches, by reach.

        Owners are the same as far as they have what is reached.
        """
        reach = self.modalities_of(copy.latent)
        found: dict[tuple[str, ...], Copy] = {}
        for other in self.copies:
            part = self.modalities_of(other.latent)
            if set(part) < set(reach):
                has = {group for name in part for group in self.having[name]}
                if set(other.groups) == set(copy.groups) & has:
                    found.setdefault(part, other)
        return found

    def has_narrower(self, name: str) -> bool:
        """Return whether each modality that a family reaches has a latent of its own beside it."""
        return all(
            {each for part in self.narrower(copy) for each in part}
            == set(self.modalities_of(name))
            != set()
            for copy in self.copies_of(name)
        )

    def modalities_of(self, name: str) -> tuple[str, ...]:
        """Return the modalities that a family reaches, in the order of the data's."""
        return tuple(each for each in self.having if self[name].reaches(each))

    def membership(self, name: str) -> torch.Tensor:
        """Return which group owns which copy of a family: boolean, (S, groups)."""
        if name not in self._member:  # of hundreds of groups it takes long to write down
            self._member[name] = self[name].membership(self.groups)
        return self._member[name].clone()

    def resolve(self, names: str | Iterable[str] | None) -> tuple[Copy, ...]:
        """Return the copies that names of families, or keys of copies, stand for.

        Parameters
        ----------
        names
            ``"t"`` for all copies of a family, ``"t_Ileum"`` for one; None for everything.

        Raises
        ------
        SettingsError
            If a name is unknown.
        """
        if names is None:
            return self.copies
        if not isinstance(names, (str, Iterable)):
            raise SettingsError(f"latents={names!r}: give names, such as 'z' or ['t_Ileum']")
        wanted = [names] if isinstance(names, str) else list(names)
        known = {copy.key for copy in self.copies} | {family.name for family in self.families}
        unknown = [name for name in wanted if not isinstance(name, str) or name not in known]
        if unknown:
            families = [family.name for family in self.families]
            keys = [copy.key for copy in self.copies if copy.key not in families]
            raise SettingsError(
                f"unknown latent(s) {unknown}; the model has {families}"
                + (f" with the copies {keys}" if keys else "")
            )
        return tuple(copy for copy in self.copies if {copy.key, copy.latent} & set(wanted))
