"""Labels and latents of a MuData as those of one AnnData: for whatever looks at nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from anndata import AnnData

from pyro_mgvi.data.modalities.columns import column_of, rows_of
from pyro_mgvi.data.modalities.joining import is_mudata, joined
from pyro_mgvi.data.schema import Modality
from pyro_mgvi.data.stores.annotations import in_memory, native
from pyro_mgvi.errors import DataError


def labelled(data: Any, asked: Sequence[object] = ()) -> Any:
    """Return a MuData's labels and latents as an AnnData without counts; of others what is theirs.

    Columns of ``obs`` are those of the MuData, and those of its modalities where these agree. In
    ``obsm`` and ``uns`` are the MuData's own entries. All are in memory
    (:func:`~pyro_mgvi.data.stores.annotations.in_memory`).

    Parameters
    ----------
    data
        A MuData or an AnnData; anything else is returned as it is.
    asked
        Columns that somebody asks for by name, which may be one modality's: ``"rna:type"``.

    Raises
    ------
    DataError
        If a column that is asked for contradicts itself, or one modality has not got it; or if
        cells are not those of the modalities.
    """
    if isinstance(data, AnnData):
        return in_memory(data)
    if not is_mudata(data):
        return data
    of_one = tuple(f"{name}:" for name in data.mod)  # no columns of their own; mudata may pull them
    known = set(data.obs).union(*(each.obs for each in data.mod.values()))
    texts = [key for key in asked if isinstance(key, str)]
    needed = [key for key in texts if key.startswith(of_one) or key in known]
    return _labels(data, list(data.mod), needed)


def side_by_side(mdata: Any, modalities: Sequence[Modality], needed: Sequence[str] = ()) -> AnnData:
    """Return what :func:`labelled` does, with the counts of some modalities side by side.

    Parameters
    ----------
    mdata
        A MuData.
    modalities
        Which, and where their counts are.
    needed
        Columns of ``obs`` that must be there.

    Raises
    ------
    DataError
        If a modality or column is nowhere, or contradicts itself.
    """
    whole = joined(mdata, modalities, ())
    labels = _labels(mdata, [each.name for each in modalities], needed)
    whole.obs, whole.uns = labels.obs, labels.uns
    for key in labels.obsm:
        whole.obsm[key] = labels.obsm[key]
    return whole


def _labels(mdata: Any, names: Sequence[str], needed: Sequence[str]) -> AnnData:
    """Return columns of ``obs``, entries of ``obsm`` that are no modality's, and ``uns``."""
    cells = pd.Index([str(name) for name in mdata.obs_names], dtype=object)
    for name in names:
        rows_of(mdata.mod[name].obs_names, name, cells)  # refuses cells that mdata does not know
    pulled = tuple(f"{name}:" for name in mdata.mod)  # copies of the modalities' columns
    known = [column for column in mdata.obs if not str(column).startswith(pulled)]
    known += [column for name in names for column in mdata.mod[name].obs]
    columns = {key: column_of(mdata, names, key, cells) for key in dict.fromkeys(needed)}
    for key in dict.fromkeys(known):
        if key not in columns:
            try:
                columns[key] = column_of(mdata, names, key, cells)
            except DataError:  # the modalities' columns say different things, such as depths
                continue
    obs = native(pd.DataFrame(columns, index=cells))
    obsm = {key: mdata.obsm[key] for key in mdata.obsm if key not in mdata.mod}
    return AnnData(obs=obs, obsm=obsm, uns=dict(mdata.uns))
