"""Names of cells and genes, for tables that a user looks things up in, and labels of cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.core.copies import Latents
from pyro_mgvi.data.checks import column, some
from pyro_mgvi.data.grouped_counts import GroupedCounts
from pyro_mgvi.data.modalities import labelled
from pyro_mgvi.data.schema import Schema
from pyro_mgvi.errors import DataError

Labels = Sequence[Any] | np.ndarray | pd.Series | pd.Categorical


def cell_index(data: GroupedCounts) -> pd.Index:
    """Return the names of the cells, or their positions where these are not known."""
    names = data.cells if data.names is None else data.names[data.cells]
    index: pd.Index = pd.Index(names, name="cell")
    return index


def gene_positions(
    schema: Schema, genes: str | Sequence[str] | None
) -> tuple[list[str], np.ndarray]:
    """Return the genes' names and where they are in the model; all genes for None.

    Raises
    ------
    DataError
        Naming those that the model does not know.
    """
    if genes is None:
        return list(schema.genes), np.arange(len(schema.genes))
    names = (
        [genes] if isinstance(genes, str) else list(genes) if isinstance(genes, Iterable) else []
    )
    if not names:
        raise DataError(f"genes={genes!r}: give the name of a gene, or a list of names")
    place = {gene: i for i, gene in enumerate(schema.genes)}
    unknown = [name for name in names if not isinstance(name, str) or name not in place]
    if unknown:
        raise DataError(f"genes not in the model: {some(unknown)}")
    return names, np.array([place[name] for name in names])


class NamedGroups(NamedTuple):
    """One group, or several that have a name in common, such as a level of a column.

    Attributes
    ----------
    name
        What they were called.
    codes
        Their codes.
    columns
        The columns of which they are a level, where several make up the groups.
    latents
        Families of latents of which a copy is named so; None for those of ``columns``, or all.
    """

    name: str
    codes: np.ndarray
    columns: tuple[str, ...] = ()
    latents: tuple[str, ...] | None = None

    def own(self, group_n: np.ndarray) -> np.ndarray:
        """Return which cells are of these groups, boolean."""
        mine: np.ndarray = np.isin(group_n, self.codes)
        return mine


def named_groups(families: Latents, name: object) -> NamedGroups:
    """Return the groups that a name means; names are text, so 1 is "1".

    It is the name of a group; of a level of a column, where several make up the groups; or of a
    copy of a latent (``"condition_stim"``, or ``"stim"`` alone), for the groups that own it.

    Raises
    ------
    DataError
        If the model does not know it, or it means several sets of groups.

    Examples
    --------
    >>> from pyro_mgvi.core import Design, shared, subsets
    >>> design = Design(("tissue", "drug"), (("gut", "no"), ("gut", "yes"), ("skin", "yes")))
    >>> named_groups(Latents(shared(2), design), "yes")[:3]
    ('yes', array([1, 2]), ('drug',))
    """
    design, text = families.design, str(name)
    if text in design.groups:
        return NamedGroups(text, np.array([design.groups.index(text)]))
    found: dict[frozenset[str], NamedGroups] = {}
    several = design.keys if len(design.keys) > 1 else ()
    for key in several:
        groups = design.levels(key).get(text)
        if groups is not None:
            found.setdefault(
                frozenset(groups), NamedGroups(text, _codes(design.groups, groups), (key,))
            )
    copies = [copy for copy in families.copies if not copy.shared]
    named = [copy for copy in copies if copy.key == text]
    for copy in named or [copy for copy in copies if copy.label == text]:
        of_family = None if copy.columns else (copy.latent,)
        owners = NamedGroups(text, _codes(design.groups, copy.groups), copy.columns, of_family)
        found.setdefault(frozenset(copy.groups), owners)
    if len(found) == 1:
        return next(iter(found.values()))
    keys = [copy.key for copy in copies if frozenset(copy.groups) in found]
    if found:
        raise DataError(
            f"{name!r} means several sets of groups: name a latent instead, one of {some(keys, 20)}"
        )
    levels = [level for key in several for level in design.levels(key)]
    known = some([*design.groups, *levels], 40)
    raise DataError(f"group {name!r} is unknown to the model; it knows: {known}")


def _codes(groups: Sequence[str], chosen: Iterable[str]) -> np.ndarray:
    return np.array([groups.index(group) for group in chosen])


def known_labels(labels: Labels, name: str = "labels") -> tuple[np.ndarray, np.ndarray]:
    """Return labels as text, and which of them there are.

    Missing are NaN, None, NA and NaT, in any kind of column; the text "nan" is a label like any
    other.

    Parameters
    ----------
    labels
        One per cell.
    name
        What to call them in an error.

    Examples
    --------
    >>> text, known = known_labels(["a", np.nan, 1, None])
    >>> text[known].tolist(), known.tolist()
    (['a', '1'], [True, False, True, False])
    """
    try:
        column = labels if isinstance(labels, pd.Series) else pd.Series(labels)
    except ValueError as error:
        raise DataError(f"{name} must be one per cell: {error}") from error
    known_n: np.ndarray = column.notna().to_numpy()
    text_n = np.full(len(column), None, object)
    text_n[known_n] = [str(label) for label in column[known_n]]
    return text_n, known_n


def labels_of(
    adata: AnnData | GroupedCounts, labels: Labels | str, data: GroupedCounts, name: str = "labels"
) -> np.ndarray:
    """Return the label of each cell of ``data`` as text; None where it has none.

    Parameters
    ----------
    adata
        What ``data`` were read from.
    labels
        A column of ``obs``, or a label of each cell of ``adata``, or of those that the model has
        kept; a Series is aligned by name, unless it has the numbers that pandas gives by itself.
    data
        The cells that a model uses.
    name
        What to call them in an error.

    Raises
    ------
    DataError
        If there is no such column, or there are not as many labels as cells.
    """
    names = data.names
    if isinstance(labels, str):
        if isinstance(adata, GroupedCounts):
            raise DataError(
                f"{name} {labels!r} is a column of obs, which GroupedCounts has not got: pass "
                "AnnData, or a label of each cell"
            )
        labels = column(labelled(adata, [labels]), labels, name)
    elif isinstance(labels, pd.Series) and names is not None:
        shared = names.isin(labels.index)
        in_order = any(labels.index.equals(cells) for cells in (names, names[data.cells]))
        if shared.all() and labels.index.is_unique:
            labels = labels.reindex(names)  # the same cells, perhaps in another order
        elif not in_order and not isinstance(labels.index, pd.RangeIndex):
            missing = some(names[~shared]) or "none, but some are there twice"
            known = "only some" if shared.any() else "none"
            raise DataError(
                f"{name} is a Series that knows {known} of the cells by name; missing: "
                f"{missing}: these have no single label. Labels in the order of the cells are "
                "given as an array, labels.to_numpy()"
            )
    text_n, _ = known_labels(labels, name)
    if names is not None and len(text_n) == len(names) != len(data):
        text_n = text_n[data.cells]  # without those that the model leaves out
    if text_n.shape != (len(data),):
        raise DataError(
            f"{name} has {len(text_n)} labels, there are {len(data)} cells: give one label for "
            f"each of the {len(data)} cells"
        )
    return text_n
