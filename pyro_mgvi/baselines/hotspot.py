"""Hotspot: genes whose counts are alike in cells that are neighbours in a latent."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from pyro_mgvi.baselines.attribution import ranked
from pyro_mgvi.errors import DataError
from pyro_mgvi.support.optional import require

NEIGHBOURS = 30


def hotspot(
    adata: AnnData,
    latent: np.ndarray | pd.DataFrame,
    cells: np.ndarray | None = None,
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
        (:meth:`MGVI.latents <pyro_mgvi.MGVI.latents>`), are left out.
    cells
        Boolean mask over all cells: which to use; all by default.
    layer
        Layer that holds the counts; ``X`` by default.

    Returns
    -------
    One row per gene, highest score first: ``score``, Hotspot's Z. It is NaN, at
    the end, for genes with the same count in all these cells.

    Raises
    ------
    DataError
        If latent or mask do not fit the cells, there are too few cells for the neighbourhoods,
        or the latent is the same in all of them.
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
    latent = np.asarray(latent, float)
    if latent.ndim != 2 or len(latent) != adata.n_obs:
        raise DataError(
            f"latent must be an array of {adata.n_obs} cells x dims, not of shape {latent.shape}"
        )
    mask = np.ones(adata.n_obs, bool) if cells is None else np.asarray(cells)
    if mask.dtype != bool or mask.shape != (adata.n_obs,):
        raise DataError(f"cells must be a boolean mask over the {adata.n_obs} cells")
    mask = mask & np.isfinite(latent).all(1)
    if mask.sum() <= NEIGHBOURS:
        raise DataError(
            f"{mask.sum()} cell(s) are chosen and have a finite latent; Hotspot compares each "
            f"with {NEIGHBOURS} neighbours and needs more"
        )
    if (latent[mask] == latent[mask][0]).all():
        raise DataError("the latent is the same in all chosen cells: no cell has neighbours")
    x = (adata.X if layer is None else adata.layers[layer])[mask]
    low_g, high_g = (
        np.asarray(side.toarray() if sparse.issparse(side) else side).ravel()
        for side in (x.min(0), x.max(0))
    )
    varying = low_g < high_g
    found = AnnData(
        x[:, varying].tocsc() if sparse.issparse(x) else np.asarray(x[:, varying]),
        var=pd.DataFrame(index=adata.var_names[varying]),
        obsm={"latent": latent[mask]},
    )
    found.obs["counts"] = np.asarray(x.sum(1)).ravel().astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a package that is no longer kept up with pandas
        model = require("hotspot", "benchmark").Hotspot(
            found, model="danb", latent_obsm_key="latent", umi_counts_obs_key="counts"
        )
        model.create_knn_graph(weighted_graph=False, n_neighbors=NEIGHBOURS, approx_neighbors=False)
        z = model.compute_autocorrelations()["Z"]
    return ranked(adata.var_names, z.reindex(adata.var_names).to_numpy(float))
