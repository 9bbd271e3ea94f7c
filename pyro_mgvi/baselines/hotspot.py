"""Hotspot: genes whose counts are alike in cells that are neighbours in a latent."""

from __future__ import annotations

import warnings
from contextlib import redirect_stderr
from io import StringIO

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from pyro_mgvi.analysis.metrics.named import cells_with, check_names
from pyro_mgvi.baselines.attribution import ranked
from pyro_mgvi.data.cells.selection import Cells, cell_mask
from pyro_mgvi.data.checks import annotated
from pyro_mgvi.data.counts import matrix
from pyro_mgvi.data.schema import Source
from pyro_mgvi.data.stores.on_disk import taken
from pyro_mgvi.errors import DataError
from pyro_mgvi.kernels.sparse import is_sparse
from pyro_mgvi.support.optional import require

NEIGHBOURS = 30


def hotspot(
    adata: AnnData,
    latent: np.ndarray | pd.DataFrame,
    cells: Cells = None,
    layer: str | None = None,
) -> pd.DataFrame:
    """Score genes by how alike their counts are in cells that are neighbours in a latent.

    Any latent will do, so that models are compared by the same score.

    Parameters
    ----------
    adata
        Annotated data, (n, genes), with raw counts.
    latent
        (n, dim). Cells where it is NaN, as private latents are for other groups' cells
        (:meth:`MGVI.latents <pyro_mgvi.MGVI.latents>`), are left out. A table that names its cells
        must name those of ``adata``, in their order.
    cells
        Which to use: a boolean mask, a Series (aligned by cell name) or cell names; all by default.
    layer
        Layer that holds the counts; ``X`` by default.

    Returns
    -------
    One row per gene, highest score first: ``score``, Hotspot's Z. It is NaN, at
    the end, for genes with the same count in all these cells.

    Raises
    ------
    DataError
        If latent or mask do not fit the cells, there is no such layer, there are too few cells for
        the neighbourhoods, or the latent is the same in all of them.
    SettingsError
        If the extra ``benchmark`` is not installed.

    Notes
    -----
    DeTomaso & Yosef (2021), "Hotspot identifies informative gene modules across modalities of
    single-cell genomics"; depth-adjusted negative binomial, 30 exact neighbours.

    Examples
    --------
    >>> import anndata, numpy
    >>> counts = numpy.random.default_rng(0).poisson(2.0, (100, 5)).astype("float32")
    >>> table = hotspot(anndata.AnnData(counts), counts[:, :1])
    >>> table.index[0]
    '0'
    """
    adata = annotated(adata)
    check_names(latent, adata.obs)
    latent_nk, has_n = cells_with(latent)
    if len(latent_nk) != adata.n_obs:
        raise DataError(f"the latent is of {len(latent_nk)} cells, adata of {adata.n_obs}")
    mask = cell_mask(adata.obs_names, adata.n_obs, cells) & has_n
    if mask.sum() <= NEIGHBOURS:
        raise DataError(
            f"{mask.sum()} cell(s) are chosen and have the latent; Hotspot compares each "
            f"with {NEIGHBOURS} neighbours and needs more"
        )
    latent_nk = latent_nk[mask].astype(float)
    if (latent_nk == latent_nk[0]).all():
        raise DataError("the latent is the same in all chosen cells: no cell has neighbours")
    x = taken(matrix(adata, Source(layer).resolved(adata)), np.flatnonzero(mask))
    low_g, high_g = (
        np.asarray(side.toarray() if sparse.issparse(side) else side).ravel()
        for side in (x.min(0), x.max(0))
    )
    varying = low_g < high_g
    found = AnnData(
        x[:, varying].tocsc() if is_sparse(x) else np.asarray(x[:, varying]),
        var=pd.DataFrame(index=adata.var_names[varying]),
        obsm={"latent": latent_nk},
    )
    found.obs["counts"] = np.asarray(x.sum(1)).ravel().astype(float)
    package = require("hotspot", "benchmark")
    with warnings.catch_warnings(), redirect_stderr(StringIO()):  # its progress bars
        warnings.simplefilter("ignore")  # of a package that is no longer kept up with pandas
        model = package.Hotspot(
            found, model="danb", latent_obsm_key="latent", umi_counts_obs_key="counts"
        )
        model.create_knn_graph(weighted_graph=False, n_neighbors=NEIGHBOURS, approx_neighbors=False)
        z = model.compute_autocorrelations()["Z"]
    return ranked(adata.var_names, z.reindex(adata.var_names).to_numpy(float))
