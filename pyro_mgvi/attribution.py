"""Gene scores to compare a ranking with: integrated gradients of a latent, and Hotspot."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import torch

from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.extras import extra
from pyro_mgvi.genes import select

STEPS = 50  # of the Gauss-Legendre rule along the path
CELLS = 32  # explained at a time
EVALUATIONS = 1024  # inputs held at a time: a gene's gradients for that many cells and steps
NEIGHBOURS = 30


def integrated_gradients(mgvi, adata, group: str, cells=None) -> pd.DataFrame:
    r"""Score genes by how much a group's own latents are attributed to them.

    Label-free integrated gradients: of :math:`F_x(u) = \langle h(x), h(u) \rangle` at
    :math:`u = x`, where h is the posterior mean of all group-specific latents that the group
    owns and h(x) is held fixed, along the straight path from zero in the encoders' input
    space, which is a cell of mean log expression.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`), (n, genes).
    group
        Name of the group.
    cells
        Boolean mask over all cells: which to use; all by default. Only those of the group count.

    Returns
    -------
    One row per gene, highest score first: ``gene`` and ``score``, the mean over cells of the
    absolute attribution (in squared units of the latents).

    Raises
    ------
    DataError
        If the group is unknown, or no cell of it is chosen.
    SettingsError
        If no latent is the group's own, or the extra ``benchmark`` is not installed.

    Notes
    -----
    Crabbe & van der Schaar (2022), "Label-Free Explainability for Unsupervised Models"; the
    path integral is captum's.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> list(integrated_gradients(mgvi, adata, "group1"))
    ['gene', 'score']
    """
    data = mgvi.read(adata)
    _, own = select(data, group, cells)
    total_g = np.zeros(len(mgvi.schema.genes))
    for attribution_ng, _ in _attributions(mgvi, data.subset(own), group):
        total_g += attribution_ng.abs().sum(0).numpy()
    return _ranked(mgvi.schema.genes, total_g / len(own))


def _attributions(mgvi, data, group: str):
    """Yield attributions (n, genes) and encoder inputs of minibatches of a group's cells."""
    captum = extra("captum.attr")
    code = mgvi.schema.groups.index(group)
    families = [x for x in mgvi.model.latents if not x.covers(mgvi.schema.groups)]
    owned = {x: x.membership(mgvi.schema.groups)[:, code] for x in families}
    if not any(own_s.any() for own_s in owned.values()):
        raise SettingsError(f"no latent of the model belongs to {group!r} but not to all groups")

    def h(x, covariates):
        posteriors = mgvi.guide.encode(x, covariates)
        means = [
            posteriors[latent.name][0].reshape(latent.n_subsets, len(x), -1)[own_s]
            for latent, own_s in owned.items()
        ]
        return torch.cat([mean.movedim(0, 1).flatten(1) for mean in means], -1)

    def similarity(x, fixed, covariates):
        return (h(x, covariates) * fixed).sum(-1)

    method = captum.IntegratedGradients(similarity)
    mgvi.guide.eval()
    for batch in data.minibatches(CELLS, shuffle=False):
        x = mgvi.guide.inputs(batch.counts)
        with torch.no_grad():
            fixed = h(x, batch.covariates)
        attribution_ng = method.attribute(
            x,
            additional_forward_args=(fixed, batch.covariates),
            n_steps=STEPS,
            internal_batch_size=EVALUATIONS,
        )
        yield attribution_ng.detach(), x


def hotspot(adata, latent, cells=None, layer: str | None = None) -> pd.DataFrame:
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
    One row per gene, highest score first: ``gene`` and ``score``, Hotspot's Z. It is NaN, at
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
    >>> table["gene"][0]
    '0'
    """
    import anndata

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
        np.asarray(side.toarray() if hasattr(side, "toarray") else side).ravel()
        for side in (x.min(0), x.max(0))
    )
    varying = low_g < high_g
    found = anndata.AnnData(
        x[:, varying].tocsc() if hasattr(x, "tocsc") else np.asarray(x[:, varying]),
        var=pd.DataFrame(index=adata.var_names[varying]),
        obsm={"latent": latent[mask]},
    )
    found.obs["counts"] = np.asarray(x.sum(1)).ravel().astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a package that is no longer kept up with pandas
        model = extra("hotspot").Hotspot(
            found, model="danb", latent_obsm_key="latent", umi_counts_obs_key="counts"
        )
        model.create_knn_graph(weighted_graph=False, n_neighbors=NEIGHBOURS, approx_neighbors=False)
        z = model.compute_autocorrelations()["Z"]
    return _ranked(adata.var_names, z.reindex(adata.var_names).to_numpy(float))


def _ranked(genes, score_g: np.ndarray) -> pd.DataFrame:
    table = pd.DataFrame({"gene": list(genes), "score": score_g})
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)
