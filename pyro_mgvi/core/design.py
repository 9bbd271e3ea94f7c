"""The groups of a dataset as combinations of levels: tissue and treatment, donors in conditions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import overload

import torch
from torch import Tensor

from pyro_mgvi.errors import SettingsError

SEPARATORS = ("_", ".", " x ", " | ", "; ")  # of levels; the first that keeps names apart


@dataclass(frozen=True)
class Design(Sequence[str]):
    """Which level of each column every group has; as a sequence, the names of the groups.

    With one column, groups are its levels. With several they are the combinations that occur, and
    whatever belongs to a level belongs to several groups.

    Parameters
    ----------
    keys
        Names of the columns.
    levels_gc
        Level of each column, for each group: groups x columns.

    Raises
    ------
    SettingsError
        If no name of a group could tell combinations apart.

    Examples
    --------
    >>> design = Design(("tissue", "drug"), (("Ileum", "no"), ("Ileum", "yes"), ("Colon", "no")))
    >>> design.groups
    ('Ileum_no', 'Ileum_yes', 'Colon_no')
    >>> design.levels("tissue")
    {'Ileum': ('Ileum_no', 'Ileum_yes'), 'Colon': ('Colon_no',)}
    """

    keys: tuple[str, ...]
    levels_gc: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, groups: Sequence[str]) -> Design:
        """Return a design as it is, or that of the groups of one column without a name."""
        if isinstance(groups, Design):
            return groups
        return cls(("",), tuple((group,) for group in groups))

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups."""
        taken = {level for levels in self.levels_gc for level in levels}
        return tuple(_names(self.levels_gc, self.keys, taken))

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self.groups[index]

    def __len__(self) -> int:
        return len(self.levels_gc)

    def __iter__(self) -> Iterator[str]:
        return iter(self.groups)

    def levels(self, columns: str | Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return the groups of each level of a column, or of each combination of several."""
        chosen = (columns,) if isinstance(columns, str) else columns
        at = [self.keys.index(column) for column in chosen]
        picked = [tuple(levels[i] for i in at) for levels in self.levels_gc]
        taken = {level for levels in self.levels_gc for level in levels}
        once = [*dict.fromkeys(picked)]
        names = dict(zip(once, _names(once, chosen, taken)))
        found: dict[str, list[str]] = {name: [] for name in names.values()}
        for levels, group in zip(picked, self.groups):
            found[names[levels]].append(group)
        return {name: tuple(groups) for name, groups in found.items()}

    def columns_of(self, owners: Iterable[str]) -> tuple[str, ...]:
        """Return the fewest columns of which some groups are one level; none if of no such."""
        wanted = set(owners)
        for n in range(1, len(self.keys) + 1):
            for columns in combinations(self.keys, n):
                if any(wanted == set(groups) for groups in self.levels(columns).values()):
                    return columns
        return ()

    def absent(self, columns: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the combinations of levels of some columns that no group has."""
        at = [self.keys.index(column) for column in columns]
        there = {tuple(levels[i] for i in at) for levels in self.levels_gc}
        every: list[tuple[str, ...]] = [()]
        for i in at:
            every = [(*c, x) for c in every for x in dict.fromkeys(g[i] for g in self.levels_gc)]
        return [levels for levels in every if levels not in there]

    def nested(self, inner: str, outer: str) -> bool:
        """Return whether each level of a column is within one level of another."""
        return len(self.levels((outer, inner))) == len(self.levels(inner))

    @cached_property
    def main_effects(self) -> tuple[Tensor, ...]:
        """Which group has which level: a boolean matrix, groups x levels, for each column."""
        return tuple(self.block(self.levels(key).values()) for key in self.keys)

    def block(self, owners: Iterable[Iterable[str]]) -> Tensor:
        """Return which group is in which set of groups: boolean, groups x sets."""
        sets = [set(groups) for groups in owners]
        return torch.tensor([[group in each for each in sets] for group in self.groups])

    def averaging(self, columns: Sequence[str] = ()) -> Tensor:
        """Return weights of the groups that average what some columns add: groups x groups.

        Row b replaces what group b adds to expression. The levels of ``columns`` count alike,
        those of columns nested in one of them (or around it) are averaged with it, and those of
        the other columns stay the group's own. Where a combination does not occur, additive terms
        stand for it. By default everything is averaged, and all groups count alike.

        Examples
        --------
        >>> design = Design(("a", "b"), (("x", "u"), ("x", "v"), ("y", "u"), ("y", "v")))
        >>> design.averaging(["b"])[0].round(decimals=3) + 0.0
        tensor([0.5000, 0.5000, 0.0000, 0.0000])
        """
        n = len(self)
        if not columns:
            return torch.full((n, n), 1.0 / n, dtype=torch.float32)
        chosen = self.block(self.levels(columns).values()).double()
        mean_b = (chosen / chosen.sum(0)).mean(1)
        related = {
            key
            for key in self.keys
            for column in columns
            if self.nested(key, column) or self.nested(column, key)
        }
        if related == set(self.keys):
            return mean_b.expand(n, n).float()
        effects = torch.cat(self.main_effects, 1).double()
        is_related = torch.cat(
            [
                torch.full((each.shape[1],), key in related)
                for key, each in zip(self.keys, self.main_effects)
            ]
        )
        wanted_bt = torch.where(is_related, mean_b @ effects, effects)
        weight_bb = wanted_bt @ torch.linalg.pinv(effects)
        averaging_bb: Tensor = (weight_bb / weight_bb.sum(1, keepdim=True)).float()
        return averaging_bb


def _names(
    levels: Sequence[Sequence[str]], columns: Sequence[str], taken: Collection[str]
) -> list[str]:
    """Return a name for each combination of levels, no two the same, and none that of a level."""
    if len(columns) == 1:
        return [level for (level,) in levels]
    for separator in SEPARATORS:
        names = [separator.join(each) for each in levels]
        if len({*names, *taken}) == len(names) + len(taken):
            return names
    raise SettingsError(
        f"combinations of levels of {', '.join(columns)} look the same, such as {names[0]!r}: "
        "rename some levels"
    )


def term_blocks(design: Design, owners: Iterable[Sequence[Iterable[str]]]) -> tuple[Tensor, ...]:
    """Return the sets of groups that may shift expression: boolean, groups x sets, in blocks.

    One block for each column, a shift of each level. Shifts of several columns are added, so that
    a shift of one combination alone is none of them: a family of latents whose owners say more
    (an interaction) has a block of its own. Of one column, the only block is the identity.

    Parameters
    ----------
    design
        The groups.
    owners
        For each family of latents, the groups that own each copy.
    """
    blocks = [*design.main_effects]
    for family in owners if len(blocks) > 1 else ():  # of one column, nothing is left to say
        more = design.block(family)
        if _rank([*blocks, more]) > _rank(blocks):
            blocks.append(more)
    return tuple(blocks)


def _rank(blocks: Sequence[Tensor]) -> int:
    return int(torch.linalg.matrix_rank(torch.cat([*blocks], 1).double()))


def as_terms(
    offset_bg: Tensor,
    terms_bt: Tensor,
    weight_b: Tensor | None = None,
    known_bg: Tensor | None = None,
    told_tg: Tensor | None = None,
) -> Tensor:
    """Return the terms whose sums come closest to what groups have, (terms, genes).

    Of one column these are the groups' own values.

    Parameters
    ----------
    offset_bg
        Values of the groups.
    terms_bt
        Which terms each group has.
    weight_b
        Weight of each group; all alike by default.
    known_bg, told_tg
        Which values there are, and of which genes a term can be told
        (:func:`told_by`); others are left out, and zero. All by default.

    Examples
    --------
    >>> terms_bt = torch.tensor([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1]]).bool()
    >>> offset_bg = torch.tensor([[1.0], [2.0], [4.0], [5.0]])
    >>> (terms_bt.float() @ as_terms(offset_bg, terms_bt)).round().squeeze(1)
    tensor([1., 2., 4., 5.])
    """
    if is_identity(terms_bt):
        return offset_bg.clone()
    weight_b = offset_bg.new_ones(len(offset_bg)) if weight_b is None else weight_b
    root_b1 = weight_b.to(offset_bg.device).double().sqrt()[:, None]
    terms_bt = terms_bt.to(offset_bg.device).double()
    if known_bg is None or told_tg is None:
        return _solved(offset_bg, terms_bt, root_b1)
    term_tg = torch.zeros(terms_bt.shape[1], offset_bg.shape[1]).to(offset_bg)
    patterns, pattern_g = torch.unique(known_bg, dim=1, return_inverse=True)
    for i, known_b in enumerate(patterns.T):  # few: panels, species
        genes = pattern_g == i
        told_t = told_tg[:, genes][:, 0]
        part = terms_bt * told_t
        term_tg[:, genes] = _solved(offset_bg[:, genes], part, root_b1 * known_b[:, None])
    return term_tg


def _solved(offset_bg: Tensor, terms_bt: Tensor, root_b1: Tensor) -> Tensor:
    """Return the smallest terms of the least squares, (terms, genes)."""
    inverse = torch.linalg.pinv(terms_bt * root_b1)
    term_tg: Tensor = (inverse @ (offset_bg.double() * root_b1)).to(offset_bg)
    return term_tg


def told_by(terms_bt: Tensor, known_bg: Tensor) -> Tensor:
    """Return of which genes a term can be told, boolean (terms, genes).

    A shift shows only between groups that have it and groups that have not, and both must have
    the gene.

    Parameters
    ----------
    terms_bt
        Which terms each group has.
    known_bg
        Which group has which gene.

    Examples
    --------
    >>> told_by(torch.eye(3).bool(), torch.tensor([[True, True], [True, False], [False, False]]))
    tensor([[ True, False],
            [ True, False],
            [False, False]])
    """
    counts = terms_bt.double().T @ known_bg.double()
    told_tg: Tensor = (counts > 0) & (counts < known_bg.sum(0))
    return told_tg


def is_identity(terms_bt: Tensor) -> bool:
    """Return whether each group has one term, its own."""
    n, k = terms_bt.shape
    return n == k and torch.equal(terms_bt.cpu().bool(), torch.eye(n, dtype=torch.bool))
