"""Counts that are read already are coded anew by name, as a new reading would."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers.cells import N, make, read
from scipy import sparse

from pyro_mgvi import DataError, DataWarning, GroupedCounts, SettingsError

KEYS = {"batch_key": "donor", "covariate_keys": ["sex"]}


def donors(**obs):
    tissue = ["b"] * 4 + ["a"] * 4 + ["c"] * 4
    return make(**{"tissue": tissue, "donor": ["d1", "d2", "d3"] * 4, "sex": ["f", "m"] * 6} | obs)


def reordered(adata):
    """Return the same cells with genes, groups and batches in another order."""
    adata = adata[:, ::-1].copy()
    for key, order in (("tissue", ["c", "a", "b"]), ("donor", ["d3", "d1", "d2"])):
        adata.obs[key] = pd.Categorical(adata.obs[key], categories=order)
    return adata


@pytest.mark.parametrize("cells", [None, np.array([7, 0, 3, 9])])
def test_the_order_of_names_does_not_matter(cells):
    schema = read(donors(), **KEYS).schema
    other = reordered(donors())
    ours, theirs = read(other, **KEYS), GroupedCounts.for_schema(other, schema)
    assert ours.schema.groups != schema.groups and ours.schema.batches != schema.batches
    if cells is not None:
        ours, theirs = ours.view(cells), theirs.view(cells)
    matched = ours.matching(schema)
    assert matched.schema == schema and theirs.matching(schema) is theirs
    np.testing.assert_array_equal(matched.x.toarray(), theirs.x.toarray())
    for name in ("group_n", "batch_n", "covariate_nc", "cells"):
        np.testing.assert_array_equal(getattr(matched, name), getattr(theirs, name), name)


def test_cells_of_some_of_the_groups_and_batches_will_do():
    schema = read(donors(), **KEYS).schema
    some = donors()[[1, 2, 4, 5, 7, 8, 10, 11]]
    some = some[some.obs["donor"] != "d1"]
    matched = read(some, **KEYS).matching(schema)
    theirs = GroupedCounts.for_schema(some, schema)
    np.testing.assert_array_equal(matched.group_n, theirs.group_n)
    np.testing.assert_array_equal(matched.covariate_nc, theirs.covariate_nc)


OTHERS = {
    "key": (lambda: read(donors(), group_key="sex"), "group_key 'sex', the model's is 'tissue'"),
    "batch": (lambda: read(donors(), covariate_keys=["sex"]), "batch_key None"),
    "levels": (lambda: read(donors(sex=["f", "x"] * 6), **KEYS), "categories"),
    "genes": (lambda: read(donors()[:, :3], **KEYS), "lack 2 of its genes: gene3, gene4"),
    "group": (
        lambda: read(donors(tissue=["a", "a", "lung", "lung"] * 3), **KEYS),
        "lung; it knows: a, b, c",
    ),
    "donor": (lambda: read(donors(donor=["d1", "d9"] * 6), **KEYS), "batch.*d9; it knows: d1, d2"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_counts_of_other_data_are_refused_by_name(case):
    build, message = OTHERS[case]
    schema = read(donors(), **KEYS).schema
    with pytest.raises(DataError, match=f"(?s){message}"):
        build().matching(schema)


def widened(n=40, extra=(), missing=(), dense=False):
    """Return N cells with n genes of a model, some of them missing, and others beside them."""
    x = np.random.default_rng(1).poisson(2.0, (N, n)) + 1.0
    table = pd.DataFrame(x, columns=[f"gene{i}" for i in range(n)])
    table = table.drop(columns=list(missing)).assign(**dict.fromkeys(extra, 7.0))
    counts = table.to_numpy() if dense else sparse.csr_matrix(table.to_numpy())
    return ad.AnnData(counts, obs=make().obs, var=pd.DataFrame(index=table.columns))


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("counts", [False, True], ids=["annotated", "read"])
def test_missing_genes_are_zero_and_others_left_out_with_one_warning(dense, counts):
    schema, lost = read(widened()).schema, ["gene30", "gene2", "gene5"]
    adata = widened(extra=["new1", "new2"], missing=lost, dense=dense)[:, ::-1].copy()
    before = adata.copy()
    given = read(adata) if counts else None
    said = r"(?s)lack 3 of .* 40 genes \(7.5%\).*zero: gene2.*have 2 gene.*left out: new1, new2"
    with pytest.warns(DataWarning, match=said) as caught:
        data = given.matching(schema) if counts else GroupedCounts.for_schema(adata, schema)
    assert len(caught) == 1 and caught[0].filename == __file__
    expected = widened().to_df()
    expected[lost] = 0.0
    got = data.x if dense else data.x.toarray()
    np.testing.assert_array_equal(got, expected)
    assert (adata.to_df() == before.to_df()).all().all()


def test_too_few_genes_are_refused_by_name_and_the_limit_can_be_moved():
    adata, schema = widened(missing=[f"gene{i}" for i in range(6)]), read(widened()).schema
    with pytest.raises(
        DataError, match=r"lack 6 .*gene0, .* and 1 more.*up to 10% .*missing_genes"
    ):
        GroupedCounts.for_schema(adata, schema)
    with pytest.warns(DataWarning, match="lack 6 "):
        GroupedCounts.for_schema(adata, schema, missing_genes=0.2)
    with pytest.raises(DataError, match="lack 1 "):
        GroupedCounts.for_schema(widened(missing=["gene3"]), schema, missing_genes=0)
    for share in (-0.1, 1, "few", None):
        with pytest.raises(SettingsError, match="missing_genes must be a share"):
            GroupedCounts.for_schema(adata, schema, missing_genes=share)


def named(names, **var):
    adata = make()
    adata.var_names = names
    for key, values in var.items():
        adata.var[key] = values
    return adata


SYMBOLS = ["CD4", "ACTB", "GAPDH", "ISG15", "IFI6"]
ENSEMBL = [f"ENSG{i:011d}" for i in range(1, 6)]
IDENTIFIERS = {
    "column": (ENSEMBL, named(SYMBOLS, gene_ids=ENSEMBL), r"adata.var\['gene_ids'\] holds them"),
    "ensembl": (ENSEMBL, named(SYMBOLS), "model knows Ensembl identifiers.*others, such as 'CD4'"),
    "symbols": (SYMBOLS, named(ENSEMBL), "data have Ensembl identifiers .'ENSG00000000001'"),
    "mouse": (SYMBOLS, named([s.capitalize() for s in SYMBOLS]), "upper and lower case"),
    "versions": (ENSEMBL, named([f"{e}.{i}" for i, e in enumerate(ENSEMBL)]), "in the version"),
    "spaces": (SYMBOLS, named([f"{s} " for s in SYMBOLS]), "spaces around"),
}


@pytest.mark.parametrize("case", IDENTIFIERS)
def test_other_identifiers_are_recognised(case):
    known, adata, message = IDENTIFIERS[case]
    with pytest.raises(DataError, match=f"lack 5 of its genes.*{message}"):
        GroupedCounts.for_schema(adata, read(named(known)).schema)


def test_other_groups_of_the_same_cells():
    data = read(make())
    other = data.with_groups(1 - data.group_n)
    np.testing.assert_array_equal(other.group_n, 1 - data.group_n)
    np.testing.assert_array_equal(other.x.toarray(), data.x.toarray())
    assert other.schema is data.schema
