"""What to say of genes that a group has not got, where a table has no row or no number for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyro_mgvi.data.checks import some
from pyro_mgvi.data.schema import Schema


def measured_in(schema: Schema, groups: tuple[str, ...]) -> np.ndarray:
    """Return which genes any of some groups has, boolean (genes,).

    Examples
    --------
    >>> schema = Schema("species", None, None, (), ("A", "B"), ("x", "y"), ("all",), {}, {})
    >>> measured_in(schema, ("x",)).tolist()
    [True, True]
    """
    measured_bg = schema.measured_bg
    if measured_bg is None:
        return np.ones(len(schema.genes), bool)
    rows = [schema.groups.index(group) for group in groups]
    has_g: np.ndarray = np.any(measured_bg[rows], axis=0)
    return has_g


def lacking(schema: Schema, gene: str) -> tuple[str, ...]:
    """Return the groups that have not got a gene: what a model says of it there is a prediction."""
    return tuple(group for group in schema.groups if gene in schema.absent.get(group, ()))


def prediction_note(groups: Sequence[str]) -> str:
    """Return the mark of expression that is predicted for some groups; empty for none.

    Examples
    --------
    >>> prediction_note(["human"]), prediction_note([])
    ('predicted in human', '')
    """
    return f"predicted in {some(groups, 3)}" if groups else ""


def notes_of(schema: Schema, groups: tuple[str, ...]) -> dict[str, str]:
    """Return sentences for the ``attrs`` of a table of some groups' genes; none without masks.

    ``absent_genes`` says why genes have no row; ``genes_of_one_group``, what cannot be told of
    genes that no other group has.
    """
    notes: dict[str, str] = {}
    measured_bg = schema.measured_bg
    if measured_bg is None:
        return notes
    has_g, named = measured_in(schema, groups), " and ".join(groups)
    if not has_g.all():
        why = _why(schema, has_g, named)
        notes["absent_genes"] = f"{(~has_g).sum():,} genes have no row: {why}"
    others = [name not in groups for name in schema.groups]
    alone = int((has_g & ~measured_bg[others].any(0)).sum())
    if alone:
        notes["genes_of_one_group"] = (
            f"{alone:,} genes are in no other group than {named}: a shift of their mean cannot be "
            "told, and what is said of them is their variation within it"
        )
    return notes


def _why(schema: Schema, has_g: np.ndarray, named: str) -> str:
    """Return why groups have not got all genes: they lack modalities, or masks say so."""
    columns = {} if schema.several is None else schema.several.columns
    lacks = [name for name, of_it in columns.items() if not has_g[of_it].any()]
    in_others = has_g.copy()
    for name in lacks:
        in_others[columns[name]] = True
    said = [f"{named} has no {some(lacks)}"] if lacks else []
    if not in_others.all():
        rest = "the others" if lacks else "them"
        said.append(f"the feature masks say that {named} has not got {rest}")
    return "; ".join(said)
