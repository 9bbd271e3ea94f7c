"""Loadings and programs of genes, for decoders that have them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.core.interfaces import HasLoadings, HasPrograms
from pyro_mgvi.data import checks
from pyro_mgvi.data.masks.notes import measured_in
from pyro_mgvi.data.matching import gene_columns
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.training.program import Program


def loadings(program: Program, latent: str, adata: AnnData | None = None) -> pd.DataFrame:
    """Return the loadings of genes on a latent.

    Parameters
    ----------
    program
        A trained model whose decoder has loadings.
    latent
        Key of one copy, such as ``"t_Ileum"``, or a family's name for all its copies.
    adata
        Also write each copy to ``varm["X_mgvi_<key>"]`` of this annotated data.

    Returns
    -------
    Genes x dims, columns ``<key>_1``, ...: change of the log mean per unit of the latent
    (up to a constant per dim, which a softmax ignores).

    Raises
    ------
    SettingsError
        If the latent is unknown, or the decoder has no loadings.
    """
    decoder = program.model.decoder
    if not isinstance(decoder, HasLoadings):
        raise SettingsError(
            f"{type(decoder).__name__} has no readable loadings: "
            "train with decoder=LogLinearDecoder"
        )
    program.warn_untrained()
    found, tables = decoder.loadings(), {}
    for copy in program.families.resolve(latent):
        columns = [f"{copy.key}_{i + 1}" for i in range(copy.dim)]
        loading_gk = found[copy.latent][copy.index].cpu().numpy()
        known_g = measured_in(program.schema, copy.groups)  # by some group that owns it
        loading_gk = np.where(known_g[:, None], loading_gk, np.nan)
        tables[copy.key] = pd.DataFrame(loading_gk, list(program.schema.genes), columns)
    if adata is not None:
        checks.names(adata.var_names)
        chosen = program.schema.left_out > 0
        gene_columns(adata.var_names, program.schema.genes, chosen=chosen)
        for key, table in tables.items():
            adata.varm[f"X_mgvi_{key}"] = table.reindex(adata.var_names).to_numpy()
    return pd.concat(tables.values(), axis=1)


def gene_programs(program: Program) -> pd.DataFrame:
    """Return each gene's most probable program: columns ``cluster`` and ``probability``.

    Raises
    ------
    SettingsError
        If the decoder assigns no gene programs.
    """
    decoder = program.model.decoder
    if not isinstance(decoder, HasPrograms):
        raise SettingsError(
            f"{type(decoder).__name__} has no gene programs: train with decoder=BasisDecoder"
        )
    program.warn_untrained()
    probability, cluster = decoder.probabilities.detach().cpu().max(-1)
    index = pd.Index(program.schema.genes, name="gene")
    return pd.DataFrame({"cluster": cluster, "probability": probability}, index)
