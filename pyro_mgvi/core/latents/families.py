"""Families of latents by what they belong to: all groups, each of them, levels of a column."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations, permutations

import pyro.distributions as dist

from pyro_mgvi.core.design import Design
from pyro_mgvi.core.latents.latent import RESERVED, Latent, Named, Subsets
from pyro_mgvi.core.modalities import WORDS
from pyro_mgvi.core.priors import Dirac, ForeignPrior
from pyro_mgvi.errors import DataWarning, SettingsError, warn


def shared(
    dim: int = 10,
    name: str | None = None,
    prior: dist.TorchDistribution | None = None,
    modalities: Sequence[str] | None = None,
) -> Latent:
    """Return the latent that all groups own: one subset, a membership row of ones.

    Of data with several modalities, it reaches all of them, or those that are named. By default it
    is called ``z``, with what it reaches if that is named.

    Examples
    --------
    >>> shared(2).over(("ileum", "jejunum")).keys
    ('z',)
    """
    return Latent(_named("z", name, modalities), _everyone, dim, prior=prior, modalities=modalities)


def _named(usual: str, name: str | None, modalities: Sequence[str] | None) -> str:
    """Return the name that is given, or the usual one with the modalities that are reached."""
    if name is not None:
        return name
    reached = modalities if isinstance(modalities, (list, tuple)) else ()  # else it is refused
    return "_".join([usual, *(_identifier(str(each)) for each in reached)])


def _everyone(groups: Iterable[str]) -> Subsets:
    return (tuple(groups),)


def modality(
    modality: str,
    dim: int = 5,
    name: str | None = None,
    prior: dist.TorchDistribution | None = None,
) -> Latent:
    """Return a latent of one modality that all groups own which have it.

    It holds what is seen in this modality alone. Its name is that of the modality, but for
    characters that no name of a site has; or ``only_<modality>``, where that cannot be a name.

    Examples
    --------
    >>> modality("prot", 5).over(("a", "b"))
    Latent('prot', dim=5, 1 copy, foreign=Dirac(), reaches prot)
    """
    if name is None:
        name = _identifier(str(modality))
        if not name.isidentifier() or name in RESERVED or name in WORDS:
            name = f"only_{name}"
    return Latent(name, _everyone, dim, prior=prior, modalities=(modality,))


def private(
    dim: int = 10,
    name: str | None = None,
    foreign: ForeignPrior = Dirac(),
    prior: dist.TorchDistribution | None = None,
    modalities: Sequence[str] | None = None,
) -> Latent:
    """Return one copy per group: membership is the identity.

    In a model whose groups several columns make up, it stands for :func:`per` of each column. Of
    data with several modalities, it reaches all of them, or those that are named: then it is called
    after them, as in ``t_rna``.

    Examples
    --------
    >>> private(2).over(("ileum", "jejunum")).keys
    ('t_ileum', 't_jejunum')
    """
    name = _named("t", name, modalities)
    return Latent(name, one_per_group, dim, foreign, prior, modalities=modalities)


def one_per_group(groups: Iterable[str]) -> Subsets:
    """Return each group as a subset of its own."""
    return tuple((group,) for group in groups)


def by_column(latent: Latent, design: Design) -> tuple[Latent, ...]:
    """Return a latent as it is, or a family for each column if it has one copy per group.

    Groups of several columns are combinations of levels; what is asked for is what the levels do.

    Examples
    --------
    >>> design = Design(("tissue", "drug"), (("ileum", "no"), ("ileum", "yes"), ("colon", "no")))
    >>> [each.name for each in by_column(private(2), design)]
    ['t_tissue', 't_drug']
    """
    if latent.subsets is not one_per_group or len(design.keys) == 1:
        return (latent,)
    names = [f"{latent.name}_{_identifier(key)}" for key in design.keys]
    return tuple(
        per(key, latent.dim, name, latent.foreign, latent.prior, latent.modalities)
        for key, name in zip(design.keys, names)
    )


def _identifier(column: str) -> str:
    return re.sub(r"\W", "_", column)


def per(
    columns: str | Sequence[str],
    dim: int = 10,
    name: str | None = None,
    foreign: ForeignPrior = Dirac(),
    prior: dist.TorchDistribution | None = None,
    modalities: Sequence[str] | None = None,
) -> Latent:
    """Return one copy per level of a column, or per combination of levels of several.

    Parameters
    ----------
    columns
        One of the columns of ``group_key``; or several, for their interaction: what a level of
        one does only together with a level of another.
    dim, foreign, prior, modalities
        As for :class:`Latent`.
    name
        Of the family; by default ``t_<column>``, so that a copy is ``t_tissue_Ileum``.

    Raises
    ------
    SettingsError
        When the groups are known: if a column is none of theirs, or one is nested in another, so
        that their combinations are the levels of the inner one.

    Warns
    -----
    DataWarning
        Of combinations that no cell has: there is no copy for them.

    Examples
    --------
    >>> design = Design(("tissue", "drug"), (("ileum", "no"), ("ileum", "yes"), ("colon", "no")))
    >>> per("tissue", 2).over(design).keys
    ('t_tissue_ileum', 't_tissue_colon')
    >>> per("tissue", 2).over(design).membership(design).int()
    tensor([[1, 1, 0],
            [0, 0, 1]], dtype=torch.int32)
    """
    chosen: tuple[str, ...] = (columns,) if isinstance(columns, str) else ()
    if isinstance(columns, Iterable) and not chosen:
        chosen = tuple(columns)
    if not chosen or not all(isinstance(column, str) for column in chosen):
        raise SettingsError(f"per takes the name of a column, or several, not {columns!r}")
    if len(set(chosen)) < len(chosen):
        raise SettingsError(f"per names a column twice: {chosen}")
    name = "_".join(["t", *map(_identifier, chosen)]) if name is None else name
    levels = partial(_levels, chosen)
    return Latent(name, levels, dim, foreign, prior, modalities=modalities)


def _levels(columns: tuple[str, ...], design: Design) -> Named:
    unknown = [column for column in columns if column not in design.keys]
    if unknown:
        raise SettingsError(
            f"per({unknown[0]!r}) is of no column of the groups, which are of "
            f"{', '.join(map(repr, design.keys))}: name it in group_key, too"
        )
    for inner, outer in permutations(columns, 2):
        if design.nested(inner, outer):
            raise SettingsError(
                f"each level of {inner!r} is within one of {outer!r}: their interaction is "
                f"per({inner!r}) itself; leave {outer!r} out of {columns}"
            )
    absent = design.absent(columns) if len(columns) > 1 else []
    if absent:
        some = ", ".join(" with ".join(levels) for levels in absent[:5])
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        warn(
            f"no cell is of {some}{more}: per{columns} has no copy for them, and what is special "
            "in these combinations cannot be estimated; what each level adds can",
            DataWarning,
        )
    return design.levels(columns)


def pairwise(
    dim: int = 10,
    name: str | None = None,
    foreign: ForeignPrior = Dirac(),
    prior: dist.TorchDistribution | None = None,
    modalities: Sequence[str] | None = None,
) -> Latent:
    """Return one copy for every two groups: two ones in each membership row.

    Examples
    --------
    >>> pairwise(2).over(("a", "b", "c")).membership(("a", "b", "c")).int()
    tensor([[1, 1, 0],
            [1, 0, 1],
            [0, 1, 1]], dtype=torch.int32)
    """
    name = _named("pair", name, modalities)
    return Latent(name, _pairs, dim, foreign, prior, modalities=modalities)


def _pairs(groups: Iterable[str]) -> Subsets:
    return tuple(combinations(groups, 2))


def subsets(
    name: str,
    groups: Iterable[Iterable[str]] | Mapping[str, Iterable[str]],
    dim: int = 10,
    foreign: ForeignPrior = Dirac(),
    prior: dist.TorchDistribution | None = None,
    modalities: Sequence[str] | None = None,
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
    return Latent(name, tuple(map(tuple, listed)), dim, foreign, prior, names, modalities)
