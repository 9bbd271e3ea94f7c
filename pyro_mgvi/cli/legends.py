"""What the columns of printed tables mean, said once below each table."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pyro_mgvi.mgvi import MGVI

_Z = "how far the effect shows in cells that the refits have not seen; standard normal without one"
_Q = "expected share of false genes among those with a q-value as small"
RANKING = {
    "bayes_factor": "how much better the group's own variation explains the counts, in nats",
    "per_cell": "the same per cell; 1 nat is 1.44 bits",
    "fraction_in_favour": "share of the cells whose count of the gene speaks for it",
    "mean_all": "expected counts per 10,000, with what belongs to the group",
    "mean_shared": "the same without it",
    "log_fold_change": "log2 of mean_all to mean_shared",
    "z_score": _Z,
    "q_value": _Q,
    "z_sd": "standard deviation of z_score between splits (--splits)",
}
PROGRAMS = {
    "effect": "change of log2 expression when the dimension rises by one standard deviation",
    "mean": "expected counts per 10,000 (or value) in the cells that own the latent",
    "z_score": _Z,
    "q_value": _Q,
}
GENE_SETS = {
    "genes": "how many genes of the set are among those of the table",
    "score": "t statistic of the set's genes against all others; positive where they rise",
    "q_value": "expected share of false sets among those with a q-value as small, if genes were "
    "independent",
    "first_genes": "those that go furthest in the direction of the score",
}


def print_legend(columns: Mapping[str, str]) -> None:
    """Print what each column means, one a line."""
    for name, meaning in columns.items():
        print(f"  {name}: {meaning}")


def about_q_values(mgvi: MGVI, table: pd.DataFrame) -> str:
    """Return how many genes of a ranking are called and for whom, or why none has a q-value."""
    if table["q_value"].isna().all():
        lacking = "cells" if mgvi.schema.sample_key is None else "samples"
        few = f"too few {lacking} of the group, or of others to compare with"
        return f"q_value is missing: {table.attrs.get('genes_without_q', few)}"
    n, of = int((table["q_value"] < 0.1).sum()), table.attrs["q_value_of"]
    return f"{n} gene{'s' * (n != 1)} at q < 0.1; q-values speak of {of}"


def called(genes: pd.DataFrame) -> str:
    """Return how many genes of a dimension are called, in words."""
    if genes["q_value"].isna().all():
        return ""
    if genes["z_score"].fillna(0.0).eq(0.0).all():
        return ": no refit has found it again, so that no gene can be called; do not interpret it"
    return f", {(genes['q_value'] < 0.1).sum()} genes at q < 0.1"
