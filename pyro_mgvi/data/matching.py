"""Genes, groups and batches of other data, as a model's schema codes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from numbers import Real

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.core.design import Design
from pyro_mgvi.data import checks
from pyro_mgvi.data.checks import some
from pyro_mgvi.data.schema import Schema
from pyro_mgvi.errors import DataError, DataWarning, SettingsError, warn
from pyro_mgvi.support.values import said

MISSING = 0.1  # share of a model's genes that data may lack
ENSEMBL = re.compile(r"ENS[A-Z]*[EGTP]\d{6,}(\.\d+)?")

#: What two names of one gene may differ by: how to say it, and what makes them the same.
SPELLINGS: dict[str, Callable[[str], str]] = {
    "in upper and lower case (symbols of another species?)": str.upper,
    "in the version at their ends (ENSG00000000003.15)": lambda name: re.sub(r"\.\d+$", "", name),
    "in spaces around them": str.strip,
}


def gene_columns(
    var_names: pd.Index,
    genes: Sequence[str],
    missing_genes: float = MISSING,
    var: pd.DataFrame | None = None,
    needed_g: np.ndarray | None = None,
    chosen: bool = False,
) -> np.ndarray | None:
    """Return where the model's genes are among those of the data, or None if in order.

    Parameters
    ----------
    var_names
        Genes of the data.
    genes
        Genes of the model.
    missing_genes
        Share of the latter that may be missing; these are -1.
    var
        What else is known of the genes of the data, to look for their names in.
    needed_g
        Which of the model's genes the cells' groups have, boolean; the others may be missing
        without being missed. All by default.
    chosen
        Whether the model's genes are a choice, so that nothing is said of others.

    Raises
    ------
    DataError
        If more are missing, by name, and with what the names seem to be.

    Warns
    -----
    DataWarning
        If genes are missing, or there are more.
    """
    number = isinstance(missing_genes, Real) and not isinstance(missing_genes, bool)
    if not number or not 0 <= missing_genes < 1:
        raise SettingsError(
            f"missing_genes must be a share of at least 0 and below 1, not {said(missing_genes)}"
        )
    if list(var_names) == list(genes):
        return None
    position: np.ndarray = var_names.get_indexer(pd.Index(genes))
    if needed_g is None:
        needed_g = np.ones(len(genes), bool)
    missing = [genes[int(i)] for i in np.flatnonzero((position < 0) & needed_g)]
    n_needed = int(needed_g.sum())
    share = len(missing) / n_needed
    if len(missing) == n_needed or share > missing_genes:
        raise DataError(
            f"the data do not fit the model's {n_needed} genes: they lack {len(missing)} of its "
            f"genes: {some(missing)}{_other_names(var_names, missing, var)}; pass the genes it was "
            f"trained on (any order); up to {missing_genes:.0%} may be missing (missing_genes of "
            "mgvi.read)"
        )
    extra = var_names.difference(list(genes))
    notes = []
    if missing:
        notes.append(
            f"lack {len(missing)} of the model's {n_needed} genes ({share:.1%}), which count as "
            f"zero: {some(missing)}"
        )
    if len(extra) and not chosen:
        notes.append(
            f"have {len(extra)} gene(s) it was not trained on, which are left out: {some(extra)}"
        )
    if notes:
        warn(f"the data {'; they '.join(notes)}", DataWarning)
    return position


def _other_names(var_names: pd.Index, missing: list[str], var: pd.DataFrame | None) -> str:
    """Return how the names of the data seem to differ from the model's, if they do throughout."""
    theirs, half = [str(name) for name in var_names], len(missing) / 2
    for key, column in () if var is None else var.items():
        if len(set(map(str, column)) & set(missing)) > half:
            return f"; adata.var[{key!r}] holds them: set adata.var_names = adata.var[{key!r}]"
    alone = {name.partition(":")[2] for name in missing}
    if len(set(theirs) & alone) > half:
        return "; these are features of a modality: pass the MuData that it belongs to"
    for how, spelled in SPELLINGS.items():
        if len(set(map(spelled, theirs)) & set(map(spelled, missing))) > half:
            return f"; names of the two differ {how}: for example {missing[0]!r}; rename them"
    ensembl = [sum(bool(ENSEMBL.fullmatch(name)) for name in names) for names in (missing, theirs)]
    if ensembl[0] > half and ensembl[1] <= len(theirs) / 2:
        return f"; the model knows Ensembl identifiers, the data have others, such as {theirs[0]!r}"
    if ensembl[0] <= half and ensembl[1] > len(theirs) / 2:
        return f"; the data have Ensembl identifiers ({theirs[0]!r}), the model knows other names"
    return ""


def matched(
    theirs: Schema, ours: Schema, group_n: np.ndarray, batch_n: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Return the columns of our genes (None if in order), and our codes of groups and batches.

    Raises
    ------
    DataError
        If the counts are of other keys, genes, groups, batches or covariates, by name.
    """
    keys = ("group_key", "layer", "batch_key", "covariate_keys", "sample_key")
    for field in (*keys, "categories", "moments"):
        mine, found = getattr(ours, field), getattr(theirs, field)
        if mine != found:
            raise DataError(
                f"the counts were read with {field} {found!r}, the model's is {mine!r}: pass the "
                "AnnData itself, or counts read with the model's keys"
            )
    used = [theirs.groups[code] for code in np.unique(group_n)]
    for group in used:
        lacking = set(theirs.absent.get(group, ())) - set(ours.absent.get(group, ()))
        if lacking & set(ours.genes):
            raise DataError(
                f"the counts were read without genes that the model has of group {group!r}: "
                f"{some(sorted(lacking & set(ours.genes)))}; read them with the model's feature "
                "masks, mgvi.read(adata)"
            )
    needed_g, measured_bg = None, ours.measured_bg
    if measured_bg is not None:
        needed_g = np.asarray(measured_bg[[group in used for group in ours.groups]].any(0))
    chosen = ours.left_out > 0
    columns = gene_columns(pd.Index(theirs.genes), ours.genes, needed_g=needed_g, chosen=chosen)
    group_n = _recoded(group_n, theirs.groups, ours.groups, f"group(s) of {ours.group_key!r}")
    batch_n = _recoded(batch_n, theirs.batches, ours.batches, "batch(es)")
    return columns, group_n, batch_n


def _recoded(
    code_n: np.ndarray, theirs: tuple[str, ...], ours: tuple[str, ...], what: str
) -> np.ndarray:
    used = [theirs[code] for code in np.unique(code_n)]
    unknown = [name for name in used if name not in ours]
    if unknown:
        raise DataError(
            f"the counts have {what} unknown to the model: {some(unknown)}; "
            f"it knows: {some(ours, 20)}"
        )
    new = np.array([ours.index(name) if name in ours else -1 for name in theirs], np.int64)
    recoded: np.ndarray = new[code_n]
    return recoded


def groups_of(
    adata: AnnData, group_key: str | tuple[str, ...], levels_gc: Sequence[tuple[str, ...]] = ()
) -> tuple[pd.Series, Design]:
    """Return the group of each cell, coded as in the design: each combination that occurs is one.

    Parameters
    ----------
    adata
        The cells.
    group_key
        The column, or columns.
    levels_gc
        The levels of each group that a model knows, in its order; by default those of these cells.

    Raises
    ------
    DataError
        If a label is missing, or the model knows no such combination.
    """
    columns = group_key if isinstance(group_key, tuple) else (group_key,)
    parts, keys = [checks.labels(adata, key) for key in columns], tuple(map(str, columns))
    sizes = [len(part.cat.categories) for part in parts]
    code_n = np.ravel_multi_index([part.cat.codes for part in parts], sizes)
    code_g, group_n = np.unique(code_n, return_inverse=True)  # sorted, column by column
    code_gc = np.column_stack(np.unravel_index(code_g, sizes))
    found = [tuple(p.cat.categories[c] for p, c in zip(parts, codes)) for codes in code_gc]
    design = Design(keys, tuple(levels_gc or found))
    unknown = [" with ".join(levels) for levels in found if levels not in design.levels_gc]
    if unknown:
        known = [" with ".join(levels) for levels in design.levels_gc]
        raise DataError(
            f"the model knows no cell of {some(unknown)} ({' with '.join(keys)}); it was "
            f"trained on {some(known, 20)}"
        )
    place_g = np.array([design.levels_gc.index(levels) for levels in found])
    combined = pd.Categorical.from_codes(place_g[group_n], pd.Index(design.groups))
    return pd.Series(combined, index=adata.obs_names), design


def group_codes(adata: AnnData, schema: Schema) -> np.ndarray:
    """Return the code of each cell's group, as a model codes its groups.

    Raises
    ------
    DataError
        If the model does not know a group.
    """
    if not isinstance(schema.group_key, tuple):
        return checks.codes(adata, schema.group_key, schema.groups)
    group, _ = groups_of(adata, schema.group_key, schema.levels_gc)
    return group.cat.codes.to_numpy(np.int64)


def new_group(adata: AnnData, schema: Schema) -> str:
    """Return the one group of ``adata``, which the model does not know.

    Raises
    ------
    DataError
        If there is no new group, more than one, or cells of known groups beside it.
    """
    adata, key = checks.annotated(adata), schema.group_key
    checks.keys(adata, key, schema.batch_key, schema.covariate_keys)
    assert isinstance(key, str)  # of several columns, a group cannot be added
    sizes = checks.labels(adata, key).value_counts()
    new: list[str] = sorted(level for level in sizes.index if level not in schema.groups)
    known = sorted(set(sizes.index) - set(new))
    if not new:
        raise DataError(
            f"obs[{key!r}] has no new group: the model knows {some(known, 20)}; "
            "pass the cells of one group that it does not know"
        )
    if len(new) > 1:
        raise DataError(
            f"obs[{key!r}] has {len(new)} new groups: {some(new, 20)}; add them one by one"
        )
    if known:
        raise DataError(
            f"obs[{key!r}] has cells of known group(s) beside the new one: "
            f"{some(known, 20)}; pass adata[adata.obs[{key!r}] == {new[0]!r}]"
        )
    if sizes[new[0]] < 2:
        raise DataError(f"the new group {new[0]!r} in obs[{key!r}] has 1 cell: it needs 2 or more")
    return new[0]
