"""From a MuData to one AnnData: the features of its modalities side by side, all cells once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.core.modalities import Modalities
from pyro_mgvi.data import checks
from pyro_mgvi.data.checks import some
from pyro_mgvi.data.counts import checked, matrix
from pyro_mgvi.data.modalities.columns import column_of, rows_of
from pyro_mgvi.data.schema import Modality, Schema
from pyro_mgvi.data.stores.annotations import native
from pyro_mgvi.data.stores.on_disk import OnDisk
from pyro_mgvi.errors import DataError

EXTRA = 'pip install "pyro-mgvi[mudata]"'


def is_mudata(data: object) -> bool:
    """Return whether something is a MuData; mudata is not imported for that."""
    module = sys.modules.get("mudata")  # there, if anybody has made one
    return module is not None and isinstance(data, module.MuData)


def joined(mdata: Any, modalities: Sequence[Modality], keys: Iterable[str | None]) -> AnnData:
    """Return the counts of some modalities side by side, with zeros where a cell has not got one.

    Cells and their order are those of the MuData: the union of its modalities' cells. Of several
    modalities, a feature is called ``modality:name``.

    Parameters
    ----------
    mdata
        The MuData.
    modalities
        Which modalities, and where their counts are.
    keys
        Columns of ``obs`` that are needed: from the ``obs`` of the MuData, or, where this has
        them not, of its modalities, which must agree; None is left out.

    Raises
    ------
    DataError
        Naming the modality that does not exist, cells of one name, a column that is missing or
        contradicts itself, counts that are none, or features of one name.
    """
    if not is_mudata(mdata):
        raise DataError(
            f"mdata is a {type(mdata).__name__}, not a MuData: read one with mudata.read_h5mu "
            f"({EXTRA}), or take MGVI.from_anndata for one modality"
        )
    if mdata.axis == 1:
        raise DataError(
            "the modalities of mdata have features in common, not cells (axis=1): make it of "
            "modalities of the same cells, mudata.MuData({...}), or join them by anndata.concat"
        )
    unknown = [each.name for each in modalities if each.name not in mdata.mod]
    if unknown:
        raise DataError(f"modalities not in the data: {some(unknown)}; they have {list(mdata.mod)}")
    cells = pd.Index([str(name) for name in mdata.obs_names], dtype=object)
    blocks, names = [], []
    for each in modalities:
        adata = mdata.mod[each.name]
        blocks.append(_block(adata, each, cells))
        prefix = f"{each.name}:" if len(modalities) > 1 else ""
        names += [prefix + str(name) for name in adata.var_names]
    x = sparse.hstack(blocks, format="csr") if len(blocks) > 1 else blocks[0]
    obs = pd.DataFrame(index=cells)
    for key in keys:
        if key is not None:
            obs[key] = column_of(mdata, [each.name for each in modalities], key, cells)
    return AnnData(x, obs=native(obs), var=pd.DataFrame(index=pd.Index(names, dtype=object)))


def _block(adata: AnnData, modality: Modality, cells: pd.Index) -> sparse.csr_matrix:
    """Return the counts of one modality, a row for each cell of all."""
    name, source = modality.name, modality.source
    if not isinstance(adata, AnnData):
        raise DataError(f"modality {name!r} is a {type(adata).__name__}, not an AnnData")
    twice = adata.obs_names[adata.obs_names.duplicated()]
    if len(twice):
        raise DataError(
            f"modality {name!r} has different cells of one name: {some(twice.unique())}; rename "
            "them, alike in all modalities"
        )
    features = checks.texts(adata.var_names, f"mdata[{name!r}].var_names")
    if features.has_duplicates:
        raise DataError(
            f"modality {name!r} has features of one name: "
            f"{some(features[features.duplicated()].unique())}; call var_names_make_unique() of it"
        )
    if not adata.n_vars:
        raise DataError(f"modality {name!r} has no feature: leave it out")
    try:
        x = matrix(adata, source.resolved(adata))
        if isinstance(x, OnDisk):
            raise DataError("it stays in its file: read the whole MuData into memory")
        x = checked(x, adata, features, source, DataKind.COUNTS, known=False)
    except DataError as error:
        raise DataError(f"modality {name!r}: {_without_advice(str(error))}") from error
    row = rows_of(adata.obs_names, name, cells)
    at = sparse.csr_matrix(x).tocoo()
    shape = len(cells), adata.n_vars
    return sparse.csr_matrix((at.data, (row[at.row], at.col)), shape=shape)


def _without_advice(text: str) -> str:
    """Return what is wrong with counts, and not what helps with one modality alone."""
    for advice in ("; if these are counts that were corrected", "; normalised data cannot"):
        found, cut, _ = text.partition(advice)
        if cut:
            return f"{found}; several modalities are of raw counts: name the layer that holds them"
    return text


def measured_by_group(
    adata: AnnData, modalities: Modalities, group_keys: Sequence[str]
) -> dict[str, np.ndarray] | None:
    """Return which features each group has: none of a modality that no cell of it has.

    Returns
    -------
    Feature masks for :meth:`GroupedCounts.from_anndata <pyro_mgvi.GroupedCounts.from_anndata>`;
    None where every group has every modality.

    Raises
    ------
    DataError
        If no cell has a modality, or groups of several columns lack one.
    """
    checks.keys(adata, tuple(group_keys))
    columns_n = [checks.labels(adata, key).astype(str) for key in group_keys]
    group = pd.Series(list(zip(*columns_n)), adata.obs_names).map(" with ".join).astype("category")
    has_kn = {
        name: np.asarray(adata.X[:, columns].sum(1)).ravel() > 0
        for name, columns in modalities.columns.items()
    }
    nowhere = [name for name, has_n in has_kn.items() if not has_n.any()]
    if nowhere:
        raise DataError(f"no cell has a count in {some(nowhere)}: leave these modalities out")
    masks = {}
    for name in group.cat.categories:
        mine = (group == name).to_numpy()
        masks[name] = np.concatenate(
            [
                np.full(size, bool(has_n[mine].any()))
                for has_n, size in zip(has_kn.values(), modalities.sizes)
            ]
        )
    if all(mask.all() for mask in masks.values()):
        return None
    if len(group_keys) > 1:
        lacking = [name for name, mask in masks.items() if not mask.all()]
        raise DataError(
            f"no cell of {some(lacking)} has every modality, and groups that lack one must be of "
            "one column: join the columns into one"
        )
    return masks


def features_by_group(
    mdata: Any,
    modalities: Sequence[Modality],
    given: Mapping[str, str],
    having: Mapping[str, np.ndarray] | None,
) -> dict[str, np.ndarray]:
    """Return which features each group has, of the modalities that it has.

    Parameters
    ----------
    mdata, modalities
        The MuData, and which of its modalities.
    given
        By group, a column of ``var``.
    having
        What :func:`measured_by_group` has found.

    Raises
    ------
    DataError
        If no column is given, or one is in no modality.
    """
    if not isinstance(given, Mapping) or not all(isinstance(each, str) for each in given.values()):
        raise DataError(
            "feature_masks of a MuData are a column of the modalities' var for each group, as in "
            "{'p1': 'in_p1', 'p2': 'in_p2'}"
        )
    tables = [mdata.mod[each.name].var for each in modalities]
    masks = {}
    for group, column in given.items():
        if not any(column in var for var in tables):
            known = sorted({str(name) for var in tables for name in var})
            raise DataError(
                f"the feature mask of {group!r}, {column!r}, is a column of no modality's var; "
                f"they have: {some(known, 20) or 'no column'}"
            )
        parts = [var[column] if column in var else np.ones(len(var), bool) for var in tables]
        masks[str(group)] = np.concatenate([np.asarray(part, object) for part in parts])
        if having is not None and str(group) in having:
            masks[str(group)][~having[str(group)]] = False
    return masks


def joined_known(mdata: Any, schema: Schema) -> AnnData:
    """Return the AnnData of a MuData that a model is of, with what its schema asks for."""
    if not schema.modalities:
        raise DataError("the model is of one AnnData, not of a MuData: pass one modality of it")
    return joined(mdata, schema.modalities, schema.columns_of_obs)


def as_modalities(
    mdata: Any, names: Iterable[str], layers: Mapping[str, str] | None
) -> tuple[Modality, ...]:
    """Return the modalities that a model is to be of.

    Raises
    ------
    DataError
        If one does not exist, there is none, or a layer is of none of them.
    """
    listed = list(names)
    if not is_mudata(mdata):
        joined(mdata, (), ())  # says what it is
    if not listed:
        example = next(iter(mdata.mod), "rna")
        raise DataError(
            f"no modality is given: name them with a likelihood each, as in modalities="
            f"{{{example!r}: ZINB}}; the data have {list(mdata.mod)}"
        )
    unknown = [name for name in listed if name not in mdata.mod]
    if unknown:
        raise DataError(f"modalities not in the data: {some(unknown)}; they have {list(mdata.mod)}")
    if layers is not None and not isinstance(layers, Mapping):
        raise DataError(
            f"layers={layers!r}: name the layer of each modality, as in {{{listed[0]!r}: 'counts'}}"
        )
    layers = {} if layers is None else dict(layers)
    other = [name for name in layers if name not in listed]
    if other:
        raise DataError(f"layers are named of modalities that are not asked for: {some(other)}")
    return tuple(Modality(name, int(mdata.mod[name].n_vars), layers.get(name)) for name in listed)
