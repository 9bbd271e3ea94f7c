"""Rankings of genes where scanpy's functions look for them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
from anndata import AnnData, ImplicitModificationWarning

from pyro_mgvi.analysis.efficient_scores import p_values
from pyro_mgvi.data.checks import annotated, some
from pyro_mgvi.data.modalities import is_mudata
from pyro_mgvi.data.names import named_groups
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.training.program import Program

KEY = "rank_genes_mgvi"
COLUMNS = ("bayes_factor", "log_fold_change", "z_score", "q_value")


def write_rankings(
    mgvi: Program, adata: AnnData, rankings: Mapping[str, pd.DataFrame], key: str = KEY
) -> None:
    """Write rankings of genes to ``adata.uns`` as scanpy does.

    ``scanpy.get.rank_genes_groups_df(adata, group="Ileum", key="rank_genes_mgvi")`` and
    ``scanpy.pl.rank_genes_groups_dotplot(adata, key="rank_genes_mgvi")`` read them. Scores are
    Bayes factors in nats, in whose order genes are kept; ``logfoldchanges`` are log2 of the
    expectation with all latents to that without the group's own; ``pvals`` are those of the
    z-scores, and ``pvals_adj`` the q-values, NaN where the ranking has none. What scanpy calls the
    reference, "rest", is in truth the same cells with the shared latents alone.

    Where several columns make up the groups, rankings of the levels of one column are read with it.
    Those of combinations are read with a column named after all, such as ``"tissue x drug"``, which
    scanpy's figures need in ``obs``: ``adata.obs["tissue x drug"] =
    adata.obs["tissue"].astype(str) + "_" + adata.obs["drug"].astype(str)``.

    Parameters
    ----------
    mgvi
        The model that ranked.
    adata
        Annotated data to write to.
    rankings
        What :func:`~pyro_mgvi.rank_genes` returned, by group.
    key
        Where in ``uns``.

    Raises
    ------
    DataError
        If a group is unknown, some are of other columns than others, a table is no ranking or one
        by label, or the tables are of different genes.
    SettingsError
        If there is no ranking, or the key is no text without ``/``.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group", latents=["z:2", "t:1"])
    >>> table = mgvi.rank_genes(adata, "group1", calibration=False)
    >>> write_rankings(mgvi, adata, {"group1": table})
    >>> adata.uns["rank_genes_mgvi"]["names"]["group1"][0] == table.index[0]
    True
    """
    if is_mudata(adata):
        raise DataError(
            "write_rankings is for an AnnData: scanpy knows no names of several modalities, such "
            f"as {mgvi.schema.genes[0]!r}; keep the tables, or write them as text (to_csv)"
        )
    annotated(adata)
    if not isinstance(key, str) or not key or "/" in key:
        raise SettingsError(f"key must be a text without '/', not {key!r}")
    if not isinstance(rankings, Mapping) or not rankings:
        raise SettingsError(
            'rankings must be tables by group: {"Ileum": mgvi.rank_genes(adata, "Ileum")}'
        )
    genes: pd.Index | None = None
    columns: dict[str, object] = {}
    for group, table in rankings.items():
        of = named_groups(mgvi.families, group).columns or mgvi.families.design.keys
        columns.setdefault(" x ".join(of), group)
        if table.index.nlevels > 1:
            raise DataError(
                f"the ranking of {group} is of several labels (by=...): pass that of one, "
                f"table.loc[{table.index[0][0]!r}]"
            )
        missing = [column for column in COLUMNS if column not in table]
        if missing:
            raise DataError(
                f"the ranking of {group} has no column {', '.join(missing)}: pass what rank_genes "
                "returns"
            )
        genes = table.index if genes is None else genes
        if len(table) != len(genes) or not genes.isin(table.index).all():
            raise DataError(
                f"the ranking of {group} is of other genes than the first: "
                f"{some(table.index.symmetric_difference(genes))}"
            )
    if len(columns) > 1:
        of_each = ", ".join(f"{group} of {name!r}" for name, group in columns.items())
        raise DataError(
            f"the rankings are of several columns ({of_each}), and scanpy reads them with one: "
            "write those of each with a key of their own"
        )
    source = mgvi.schema.source
    written = {
        "params": {
            "groupby": next(iter(columns)),
            "reference": "rest",
            "method": "pyro_mgvi",
            "use_raw": source.use_raw,
            "layer": source.layer,
            "corr_method": "benjamini-hochberg",
        },
        "names": _records({g: t.index.to_numpy(object) for g, t in rankings.items()}),
        "scores": _records({g: t["bayes_factor"] for g, t in rankings.items()}),
        "pvals": _records({g: p_values(t["z_score"].to_numpy()) for g, t in rankings.items()}),
        "pvals_adj": _records({g: t["q_value"] for g, t in rankings.items()}),
        "logfoldchanges": _records({g: t["log_fold_change"] for g, t in rankings.items()}),
    }
    with warnings.catch_warnings():  # that a view becomes data of its own, as it should
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        adata.uns[key] = written


def _records(columns: Mapping[str, np.ndarray | pd.Series]) -> np.recarray:
    """Return a column of records for each group, in the order of the ranking."""
    parts = {str(group): np.asarray(column) for group, column in columns.items()}
    kinds = np.dtype([(group, part.dtype) for group, part in parts.items()])
    return np.rec.fromarrays(list(parts.values()), dtype=kinds)
