"""Which gene sets rise or fall along a dimension, or in a group."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pyro_mgvi.analysis.gene_sets.reading import read_gene_sets
from pyro_mgvi.analysis.gene_sets.scores import GeneScores, gene_scores
from pyro_mgvi.data.checks import some
from pyro_mgvi.errors import DataError
from pyro_mgvi.support.optional import require
from pyro_mgvi.support.values import whole_number

COLUMNS = ("gene_set", "genes", "score", "q_value", "first_genes", "ranked_by")
NAMED = 8  # genes of a set
MIN_GENES, MAX_GENES = 5, 500  # of a set, among those of the table


def enrichment(
    table: pd.DataFrame,
    gene_sets: Mapping[str, Iterable[str]] | str | Path,
    min_genes: int = MIN_GENES,
    max_genes: int = MAX_GENES,
) -> pd.DataFrame:
    r"""Return which gene sets rise or fall along each dimension, or in the group of a ranking.

    The genes of a set are compared with all other genes of the table, by decoupler's univariate
    linear model: the t statistic of a gene's score, regressed on whether it is in the set. The
    score of a gene is its ``z_score`` in cells that the refits have not seen; without z-scores it
    is the signed root of its ``information`` (programs) or of twice its ``bayes_factor``
    (rankings). In a ranking it has the sign of the fold change, and a gene whose effect unseen
    cells contradict has a score of 0.

    Parameters
    ----------
    table
        What :func:`~pyro_mgvi.programs` or :func:`~pyro_mgvi.rank_genes` returned, or what was
        read of it from a file.
    gene_sets
        Genes by the name of the set, or a GMT file (MSigDB, Enrichr and WikiPathways offer them).
        Nothing is downloaded.
    min_genes, max_genes
        How many genes a set must have, and may have, among those of the table.

    Returns
    -------
    A row per dimension and set, the largest absolute score of a dimension first: ``latent`` and
    ``dimension`` (for rankings within labels, ``label``); ``gene_set``; ``genes``, how many of the
    set are in the table; ``score``, a t statistic, positive where the set's genes rise along the
    dimension times its ``orientation``, or in the group; ``q_value`` (Benjamini and Hochberg, over
    the sets of a dimension or label); ``first_genes``, those that go furthest in the direction of
    the score; and ``ranked_by``, the column that the genes' scores come from. Where all scores are
    the same, as where no refit has found a dimension again, the score is 0 and the q-value 1.

    Raises
    ------
    DataError
        If the table or the sets are invalid, or no set has enough genes of the table.
    SettingsError
        If a size is invalid, or decoupler is not installed.

    Notes
    -----
    The null hypothesis is that of genes drawn at random from the table. Genes of a set are often
    correlated for reasons of their own, so that q-values of sets are too small for "this set has
    nothing to do with the dimension": use them to order sets. If the model has only seen variable
    genes, sets are compared with these, and not with all genes of the genome.

    Source: Badia-i-Mompel et al. 2022, "decoupleR", Bioinformatics Advances 2:vbac016.

    Examples
    --------
    >>> import pandas as pd
    >>> genes = [f"gene{i}" for i in range(40)]
    >>> score = [5.0 - i % 2 if i < 8 else float(i % 3 - 1) for i in range(40)]
    >>> table = pd.DataFrame({"latent": "t_stim", "dimension": 1, "gene": genes, "z_score": score})
    >>> table = table.assign(effect=0.1, information=1.0)
    >>> sets = {"response": genes[:8], "other": genes[20:30]}
    >>> found = enrichment(table, sets)
    >>> found.loc[found["q_value"] < 0.1, "gene_set"].tolist()
    ['response']
    """
    min_genes = whole_number("min_genes", min_genes, least=2)
    max_genes = whole_number("max_genes", max_genes, least=min_genes)
    sets = read_gene_sets(gene_sets)
    scored = gene_scores(table)
    parts = [
        _tested(one, sets_among(sets, one.score_g.index, min_genes, max_genes)) for one in scored
    ]
    key = [] if scored and not scored[0].key else ["latent", "dimension"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*key, *COLUMNS])


def sets_among(
    gene_sets: Mapping[str, Sequence[str]],
    genes: Iterable[str],
    min_genes: int = MIN_GENES,
    max_genes: int = MAX_GENES,
) -> dict[str, list[str]]:
    """Return the sets that have enough genes and not too many, with these genes alone.

    Parameters
    ----------
    gene_sets
        Genes by the name of the set.
    genes
        Those that there are; a set of all of them leaves none to compare with. Features of several
        modalities, such as ``"rna:CD3E"``, are found by their name alone, too.
    min_genes, max_genes
        How many of them a set must and may have.

    Raises
    ------
    DataError
        If there is no such set.
    """
    known = dict.fromkeys(genes)
    of_modalities = all(":" in gene for gene in known)
    called: dict[str, list[str]] = {}
    for gene in known:
        for name in {gene, gene.partition(":")[2]} if of_modalities else {gene}:
            called.setdefault(name, []).append(gene)
    among = {
        name: [*dict.fromkeys(gene for each in names for gene in called.get(each, ()))]
        for name, names in gene_sets.items()
    }
    most = min(max_genes, len(known) - 1)
    kept = {name: names for name, names in among.items() if min_genes <= len(names) <= most}
    if kept:
        return kept
    sizes = f"none of {len(among)} gene sets has between {min_genes} and {most} genes of the table"
    largest = max(among, key=lambda name: len(among[name]))
    if among[largest]:
        raise DataError(
            f"{sizes}: {largest} has {len(among[largest])}; pass other sets, or change min_genes "
            "or max_genes"
        )
    theirs = next((names for names in gene_sets.values() if names), ())
    raise DataError(
        f"{sizes}: they name genes such as {some(theirs, 3)}, and the table such as "
        f"{some(known, 3)}; use names of one kind and of one species"
    )


def _tested(scores: GeneScores, sets: Mapping[str, list[str]]) -> pd.DataFrame:
    """Return the sets of one dimension."""
    score_g, names = scores.score_g, list(sets)
    t_s, q_s = np.zeros(len(names)), np.ones(len(names))
    if score_g.nunique() > 1:
        t_s, q_s = _linear_models(score_g, sets)
    rows = pd.DataFrame(
        {
            **scores.key,
            "gene_set": names,
            "genes": [len(sets[name]) for name in names],
            "score": t_s,
            "q_value": q_s,
            "first_genes": [_first(score_g[sets[name]], t) for name, t in zip(names, t_s)],
            "ranked_by": scores.ranked_by,
        }
    )
    return rows.iloc[np.argsort(-np.abs(t_s), kind="stable")]


def _linear_models(
    score_g: pd.Series, sets: Mapping[str, Sequence[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the t statistic and the q-value of each set."""
    decoupler = require("decoupler", "enrich")
    pairs = [(name, gene) for name, genes in sets.items() for gene in genes]
    net = pd.DataFrame(pairs, columns=["source", "target"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Genes of a score of 0 are genes to compare with: empty=True would leave them out.
        t, q = decoupler.mt.ulm(score_g.to_frame().T.astype(float), net, tmin=2, empty=False)
    return t[list(sets)].to_numpy()[0], q[list(sets)].to_numpy()[0]


def _first(score_g: pd.Series, t: float) -> str:
    """Return the genes that go furthest in the direction of the set's score."""
    towards = score_g * (np.sign(t) or 1.0)
    furthest = towards[towards > 0].sort_values(ascending=False, kind="stable").index[:NAMED]
    return ", ".join(furthest)
