"""What an AnnData says of its cells beside counts, as pandas can work with it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData


def in_memory(adata: AnnData) -> AnnData:
    """Return cells with ``obs``, ``var``, ``obsm``, ``varm`` and ``uns`` in memory.

    Nearly always they are, and ``adata`` is returned as it is. Else counts stay where they are, but
    for those of a file opened in backed mode, which are left out.

    Parameters
    ----------
    adata
        Annotated data, perhaps read lazily, or with columns of ``obs`` that are not :func:`native`.
    """
    found = adata
    if not isinstance(adata.obs, pd.DataFrame):  # of anndata's read_lazy
        aligned = {"obsm": dict(adata.obsm), "varm": dict(adata.varm)}
        found = AnnData(obs=adata.obs, var=adata.var, uns=dict(adata.uns), **aligned).to_memory()
    obs = native(found.obs)
    if found is adata and obs is adata.obs:
        return adata
    counts = {}
    if not adata.isbacked:
        layers = {key: x for key, x in adata.layers.items() if key is not None}  # None is X
        counts = {"X": adata.X, "layers": layers, "raw": adata.raw}
        counts |= {"obsp": dict(adata.obsp), "varp": dict(adata.varp)}
    aligned = {"obsm": dict(found.obsm), "varm": dict(found.varm)}
    return AnnData(obs=obs, var=found.var, uns=found.uns, **aligned, **counts)


def native(obs: pd.DataFrame) -> pd.DataFrame:
    """Return a table in the byte order of this machine, which pandas needs to choose or sort rows.

    Columns from FITS or HDF5 files may be in another one.

    Examples
    --------
    >>> table = native(pd.DataFrame({"age": np.arange(3, dtype=">f8")}))
    >>> bool(table["age"].dtype.isnative), table["age"].iloc[[2, 0]].tolist()
    (True, [2.0, 0.0])
    """
    kinds = {i: kind for i, kind in enumerate(obs.dtypes) if isinstance(kind, np.dtype)}
    foreign = {i: kind for i, kind in kinds.items() if not kind.isnative}
    if not foreign:
        return obs
    table = obs.copy(deep=False)
    for i, kind in foreign.items():
        table.isetitem(i, obs.iloc[:, i].to_numpy().astype(kind.newbyteorder("=")))
    return table
