"""Latents as short texts, for a command line and for the record of a fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from pyro_mgvi.core.latents.families import modality, pairwise, per, private, shared, subsets
from pyro_mgvi.core.latents.latent import Latent
from pyro_mgvi.errors import SettingsError

ESCAPED = r"[+,:=\\]"  # what a backslash goes before in names of groups and copies
PER = "per:"
MODALITY = "modality:"
FAMILIES: dict[str, Callable[..., Latent]] = {"z": shared, "t": private, "pair": pairwise}


def parse(spec: str) -> Latent:
    r"""Return the latent that a short text stands for.

    Parameters
    ----------
    spec
        ``z:10`` (shared), ``t:10`` (one per group), ``pair:5`` (one per two groups),
        ``per:tissue:10`` (one per level of a column) and ``per:tissue+treatment:5``, or subsets
        of your own with a name: ``small=Ileum+Jejunum:5``, several separated by commas. Copies
        may be named, too: ``part=small=Ileum+Jejunum,large=Colon:5``. In names, a backslash goes
        before ``+``, ``,``, ``:`` and ``=``. Of data with several modalities, ``modality:prot:5``
        is a latent of one, and ``t:5@rna+atac`` reaches two alone.

    Raises
    ------
    SettingsError
        If the text is none of these.

    Examples
    --------
    >>> parse("small=Ileum+Jejunum,Colon:5").subsets
    (('Ileum', 'Jejunum'), ('Colon',))
    >>> parse(r"both=CD4\++CD8\+:3").subsets
    (('CD4+', 'CD8+'),)
    >>> parse("part=small=Ileum+Jejunum,large=Colon:5").copy_names
    ('small', 'large')
    """
    head, colon, dim = spec.rpartition(":")
    dim, at, reach = dim.partition("@")
    if at and re.fullmatch("[0-9]+", dim):
        names = [_plain(name) for name in _parts(reach, "+")]
        if head in FAMILIES:
            return FAMILIES[head](int(dim), modalities=names)
        return replace(parse(f"{head}:{dim}"), modalities=names)
    if head.startswith(MODALITY) and re.fullmatch("[0-9]+", dim):
        return modality(_plain(head.removeprefix(MODALITY)), int(dim))
    if head.startswith(PER) and re.fullmatch("[0-9]+", dim):
        return per([_plain(column) for column in _parts(head.removeprefix(PER), "+")], int(dim))
    name, equals, groups = head.partition("=")
    if not colon or not re.fullmatch("[0-9]+", dim) or not (equals or name in FAMILIES):
        raise SettingsError(
            f"latent {spec!r} is not understood: write z:10, t:10, pair:5, per:COLUMN:10, or "
            "NAME=A+B:5 for a latent of the groups A and B"
        )
    if not equals:
        return FAMILIES[name](int(dim))
    named = [_named(part) for part in _parts(groups, ",")]
    if not all(group for _, owners in named for group in owners):
        raise SettingsError(
            f"latent {spec!r} names a group without a name: write NAME=A+B:5, with a backslash "
            r"before every + , : and = that belongs to a name, as in 'both=CD4\++CD8\+:5'"
        )
    labels = [label for label, _ in named if label is not None]
    if not labels:
        return subsets(name, [owners for _, owners in named], int(dim))
    if len(set(labels)) < len(named):
        raise SettingsError(f"latent {spec!r}: name all of its copies, each differently, or none")
    return subsets(name, {str(label): owners for label, owners in named}, int(dim))


def as_text(latent: Latent, groups: Sequence[str]) -> str:
    r"""Return a text that :func:`parse` understands; priors are not in it.

    Examples
    --------
    >>> as_text(private(3), ("a", "b")), as_text(subsets("u", [["T+", "B"]], 2), ("T+", "B", "c"))
    ('t:3', 'u=T\\++B:2')
    """
    if latent.modalities is not None:
        reach = "+".join(map(_escaped, latent.modalities))
        return f"{_of_subsets(latent.over(groups))}@{reach}"
    bound = latent.over(groups)
    family = FAMILIES.get(latent.name)
    names = bound.copy_names
    if names is None and family and family(latent.dim).over(groups).owners == bound.owners:
        return f"{latent.name}:{latent.dim}"
    return _of_subsets(bound)


def _of_subsets(bound: Latent) -> str:
    names = bound.copy_names
    parts = ["+".join(map(_escaped, owners)) for owners in bound.owners]
    if names is not None:
        parts = [f"{_escaped(label)}={part}" for label, part in zip(names, parts, strict=True)]
    return f"{bound.name}={','.join(parts)}:{bound.dim}"


def _escaped(name: str) -> str:
    return re.sub(ESCAPED, r"\\\g<0>", name)


def _named(text: str) -> tuple[str | None, list[str]]:
    """Return the name of a copy, if it has one, and its groups."""
    *label, owners = _parts(text, "=")
    if len(label) > 1:
        raise SettingsError(f"latent {text!r}: a backslash goes before every = of a name")
    return (_plain(label[0]) if label else None), [_plain(group) for group in _parts(owners, "+")]


def _parts(text: str, separator: str) -> list[str]:
    """Split a text at a separator that no backslash precedes."""
    parts = [""]
    for token in re.findall(rf"\\{ESCAPED}|.", text, re.DOTALL):
        if token == separator:
            parts.append("")
        else:
            parts[-1] += token
    return parts


def _plain(text: str) -> str:
    return re.sub(rf"\\({ESCAPED})", r"\1", text)
