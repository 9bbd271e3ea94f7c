"""Two species in one AnnData: genes that are the same, and genes that one of them has alone."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from pyro_mgvi.data.checks import annotated, some
from pyro_mgvi.data.checks import names as unique_genes
from pyro_mgvi.errors import DataError

ONE_TO_ONE, SEVERAL, NONE = "one-to-one", "several orthologs", "no ortholog"


def pair_species(
    first: ad.AnnData,
    second: ad.AnnData,
    orthologs: pd.DataFrame,
    species: tuple[str, str] = ("human", "mouse"),
    group_key: str = "species",
) -> ad.AnnData:
    """Join the cells of two species, in which one-to-one orthologs are one gene.

    Which genes are orthologs is what the table says and nothing else: names that are alike, or
    differ in upper and lower case (INS, Ins), mean nothing. A gene with several orthologs in the
    table, and one with none, stays a gene of its species alone.

    Parameters
    ----------
    first, second
        Counts of each species, cells x genes, with the names of the genes as in the table.
    orthologs
        A row for each pair of orthologs, with a column for each species, called as in ``species``:
        the gene's name there. Further columns, and genes that the data have not got, do not matter.
    species
        Names of the two: of the groups, and of the columns of the table.
    group_key
        Column of ``obs`` to write the species to.

    Returns
    -------
    All cells and all genes. A pair of orthologs is called as in the first species; a gene of the
    second alone, whose name a gene of the first has, too, gets ``-<species>`` at its end.
    ``var["in_<species>"]`` are the masks for ``feature_masks``, ``var["<species>"]`` the names
    there, and ``var["orthologs"]`` the kind of gene. ``uns["orthologs"]`` says how many genes
    there are of each kind, by species. Entries of genes that a species has not got are zeros.

    Raises
    ------
    DataError
        If the table has not the columns, holds a missing name or a pair twice, or knows no gene of
        a species; if no pair is in the data; or if names of genes or cells repeat.

    Examples
    --------
    >>> human = ad.AnnData(np.ones((2, 3)), var=pd.DataFrame(index=["INS", "GCG", "KRT6A"]))
    >>> mouse = ad.AnnData(np.ones((1, 3)), var=pd.DataFrame(index=["Gcg", "Ins1", "Ins2"]))
    >>> human.obs_names, mouse.obs_names = ["h1", "h2"], ["m1"]
    >>> pairs = {"human": ["GCG", "INS", "INS"], "mouse": ["Gcg", "Ins1", "Ins2"]}
    >>> both = pair_species(human, mouse, pd.DataFrame(pairs))
    >>> both.var["orthologs"].to_dict()["GCG"], both.n_vars
    ('one-to-one', 5)
    >>> masks = {"human": "in_human", "mouse": "in_mouse"}
    >>> both.var.index[both.var[masks["mouse"]]].tolist()
    ['GCG', 'Ins1', 'Ins2']
    """
    names = _names(species)
    parts = [_checked(part, name, group_key) for part, name in zip((first, second), names)]
    both = parts[0].obs_names.intersection(parts[1].obs_names)
    if len(both) or not all(part.obs_names.is_unique for part in parts):
        raise DataError(
            f"names of cells repeat ({some(both) or 'within a species'}): make them unique, as in "
            "adata.obs_names = ['mouse-' + name for name in adata.obs_names]"
        )
    pairs = _pairs(orthologs, names)
    genes = [part.var_names for part in parts]
    for name, known in zip(names, genes):
        if not pairs[name].isin(known).any():
            raise DataError(
                f"no gene of {name} is in the column {name!r} of orthologs, such as "
                f"{some(pairs[name], 3)}; the data have {some(known, 3)}: use the same kind of "
                "names in both (symbols of that species, or Ensembl identifiers)"
            )
    counts = [pairs[name].map(pairs[name].value_counts()) for name in names]
    alone = (counts[0] == 1) & (counts[1] == 1)
    there = pairs[names[0]].isin(genes[0]) & pairs[names[1]].isin(genes[1])
    matched = pairs[alone & there]
    if not len(matched):
        raise DataError(
            f"no one-to-one pair of orthologs has both its genes in the data: look whether the "
            f"columns {names[0]!r} and {names[1]!r} are the right way round"
        )
    renamed = dict(zip(matched[names[1]], matched[names[0]]))
    taken, new = set(genes[0]), []
    for gene in genes[1]:
        called = renamed.get(gene, f"{gene}-{names[1]}" if gene in taken else gene)
        new.append(called)
    if len(set(new)) < len(new) or (set(new) - set(renamed.values())) & taken:
        twice = pd.Index(new)[pd.Index(new).duplicated()]
        raise DataError(
            f"names of genes repeat once species are joined: {some(twice)}: rename them"
        )
    tables = []
    for part, name, called in zip(parts, names, (list(genes[0]), new)):
        part.var = pd.DataFrame(index=pd.Index(called))
        part.obs[group_key] = name
        tables.append(pd.Series(genes[names.index(name)], called, dtype=object))
    joined = ad.concat(parts, join="outer", fill_value=0)
    order = [*genes[0], *(gene for gene in new if gene not in taken)]
    joined = joined[:, order].copy()
    joined.obs[group_key] = joined.obs[group_key].astype("category")
    for name, table in zip(names, tables):
        joined.var[f"in_{name}"] = joined.var_names.isin(table.index)
        joined.var[name] = table.reindex(joined.var_names).fillna("").to_numpy(str)
    kind = np.full(joined.n_vars, NONE, dtype=object)
    for name in names:
        several = joined.var[name].isin(pairs[name][~alone])
        kind[several.to_numpy() & (joined.var[name] != "").to_numpy()] = SEVERAL
    kind[(joined.var[f"in_{names[0]}"] & joined.var[f"in_{names[1]}"]).to_numpy()] = ONE_TO_ONE
    joined.var["orthologs"] = pd.Categorical(kind, [ONE_TO_ONE, SEVERAL, NONE])
    joined.uns["orthologs"] = {
        name: joined.var["orthologs"][joined.var[f"in_{name}"]].value_counts().to_dict()
        for name in names
    }
    return joined


def _names(species: object) -> list[str]:
    """Return the names of two species."""
    names = list(species) if isinstance(species, (tuple, list)) else []
    if len(names) != 2 or not all(isinstance(n, str) and n for n in names) or names[0] == names[1]:
        raise DataError(
            f"species must be the names of two, such as ('human', 'mouse'): {species!r}"
        )
    return names


def _checked(adata: ad.AnnData, name: str, group_key: str) -> ad.AnnData:
    """Return a copy of one species' cells: their counts and labels."""
    annotated(adata)
    try:
        unique_genes(adata.var_names)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    if group_key in adata.obs:
        raise DataError(
            f"obs of {name} has a column {group_key!r} already: name another group_key for the "
            "species, or drop it"
        )
    part = ad.AnnData(adata.X, obs=adata.obs.copy(), var=pd.DataFrame(index=adata.var_names))
    for layer in adata.layers:
        part.layers[layer] = adata.layers[layer]
    return part


def _pairs(orthologs: object, names: list[str]) -> pd.DataFrame:
    """Return the two columns of a table of orthologs as text."""
    if not isinstance(orthologs, pd.DataFrame):
        raise DataError(
            f"orthologs is a {type(orthologs).__name__}: give a DataFrame with the columns "
            f"{names[0]!r} and {names[1]!r}, a row for each pair"
        )
    missing = [name for name in names if name not in orthologs.columns]
    if missing:
        raise DataError(
            f"orthologs has no column {some(map(repr, missing))}; it has "
            f"{some(orthologs.columns, 20) or 'none'}: rename its columns to {names}"
        )
    pairs = orthologs[names]
    unknown = pairs.isna().any(axis=1) | (pairs == "").any(axis=1)
    if unknown.any():
        raise DataError(
            f"orthologs has {int(unknown.sum())} row(s) without a name, such as row "
            f"{orthologs.index[unknown][0]}: leave them out (dropna)"
        )
    pairs = pairs.astype(str)
    twice = pairs[pairs.duplicated()]
    if len(twice):
        pair = " and ".join(twice.iloc[0])
        raise DataError(
            f"orthologs holds {len(twice)} pair(s) twice, such as {pair}: drop_duplicates first"
        )
    return pairs
