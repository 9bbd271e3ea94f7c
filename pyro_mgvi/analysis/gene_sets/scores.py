"""A signed number for each gene of a table: how much it belongs to a dimension, or to a group."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from pyro_mgvi.data.checks import some
from pyro_mgvi.errors import DataError

OF_PROGRAMS = ("latent", "dimension", "gene", "effect", "information", "z_score")
OF_RANKINGS = ("bayes_factor", "log_fold_change", "z_score")


class GeneScores(NamedTuple):
    """Signed scores of the genes of one dimension, or of a ranking.

    Attributes
    ----------
    key
        The latent and the dimension; for a ranking, the label within which it is, if any.
    ranked_by
        The column that they come from.
    score_g
        By gene, positive where it rises.
    """

    key: dict[str, object]
    ranked_by: str
    score_g: pd.Series


def gene_scores(table: pd.DataFrame) -> list[GeneScores]:
    """Return the scores of each dimension of a table of programs, or of a ranking.

    Parameters
    ----------
    table
        What ``programs`` or ``rank_genes`` returned, or what was read of it from a file.

    Raises
    ------
    DataError
        If it is neither, names a gene twice, or lacks the name of a gene, latent or label; or if a
        score is infinite.
    """
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"a table of programs or a ranking is needed, not a {type(table).__name__}")
    if set(OF_PROGRAMS) <= set(table.columns):
        dimensions = _parts(table, ["latent", "dimension"])
        return [_finite(_key(rows), *_of_dimension(_by_gene(rows))) for rows in dimensions]
    if set(OF_RANKINGS) <= set(table.columns):
        within = table.reset_index() if table.index.nlevels > 1 else table
        if "label" not in within:
            return [_finite({}, *_of_ranking(_by_gene(table)))]
        return [
            _finite({"label": str(rows["label"].iloc[0])}, *_of_ranking(_by_gene(rows)))
            for rows in _parts(within, ["label"])
        ]
    raise DataError(
        "the table is neither one of programs nor a ranking of genes: pass what programs or "
        f"rank_genes returns; it has the columns {some(table.columns, 12)}"
    )


def _parts(table: pd.DataFrame, columns: list[str]) -> list[pd.DataFrame]:
    """Return the rows of each dimension, or of each label."""
    for column in columns:
        _refuse_missing(table[column], column)
    return [rows for _, rows in table.groupby(columns, sort=False, observed=True)]


def _refuse_missing(names: pd.Series | pd.Index, what: str) -> None:
    """Refuse rows without a name: read_csv takes some names, such as "NA", for missing values."""
    missing = int(np.sum(names.isna()))
    if missing:
        raise DataError(
            f"{missing} row(s) of the table have no {what}: a {what} called NA or null is lost "
            "where pandas reads a file, unless by pd.read_csv(path, keep_default_na=False, "
            'na_values=[""])'
        )


def _finite(key: dict[str, object], ranked_by: str, score_g: pd.Series) -> GeneScores:
    """Return the scores, and refuse infinite ones."""
    infinite = score_g.index[~np.isfinite(score_g)]
    if len(infinite):
        raise DataError(
            f"the {ranked_by} of gene {some(infinite)} is not finite: correct it, or leave the "
            "gene out"
        )
    return GeneScores(key, ranked_by, score_g)


def _key(rows: pd.DataFrame) -> dict[str, object]:
    """Return the latent and the dimension of rows that are of one."""
    first = rows.iloc[0]
    return {"latent": str(first["latent"]), "dimension": int(first["dimension"])}


def _by_gene(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the genes as index, each once."""
    rows = table.set_index("gene") if "gene" in table else table
    _refuse_missing(rows.index, "gene")
    rows = rows.set_axis(rows.index.astype(str))
    if not rows.index.is_unique:
        twice = rows.index[rows.index.duplicated()].unique()
        raise DataError(f"the table names genes twice: {some(twice)}")
    return rows


def _of_dimension(rows: pd.DataFrame) -> tuple[str, pd.Series]:
    """Return z-scores on unseen cells; without them, the signed root of the information."""
    if rows["z_score"].notna().any():
        return "z_score", rows["z_score"].fillna(0.0)
    return "information", (np.sign(rows["effect"]) * np.sqrt(rows["information"])).fillna(0.0)


def _of_ranking(rows: pd.DataFrame) -> tuple[str, pd.Series]:
    """Return z-scores with the fold change's sign; without them, signed roots of likelihood ratios.

    A negative z-score says that unseen cells do not show the effect: the gene counts as unchanged.
    """
    sign_g = np.sign(rows["log_fold_change"].fillna(0.0))
    if rows["z_score"].notna().any():
        return "z_score", sign_g * rows["z_score"].fillna(0.0).clip(lower=0)
    likelihood_g = rows["bayes_factor"].fillna(0.0).clip(lower=0)  # none of genes it has not got
    return "bayes_factor", sign_g * np.sqrt(2 * likelihood_g)
