"""Counts that are read already are coded anew by name, as a new reading would."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers.cells import G, N, make, read
from scipy import sparse

from pyro_mgvi import DataError, GroupedCounts

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
    "group": (lambda: read(donors(tissue=["a", "lung"] * 6), **KEYS), "lung; it knows: a, b, c"),
    "donor": (lambda: read(donors(donor=["d1", "d9"] * 6), **KEYS), "batch.*d9; it knows: d1, d2"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_counts_of_other_data_are_refused_by_name(case):
    build, message = OTHERS[case]
    schema = read(donors(), **KEYS).schema
    with pytest.raises(DataError, match=f"(?s){message}"):
        build().matching(schema)


def test_a_gene_more_is_refused():
    genes = pd.DataFrame(index=[*make().var_names, "novel"])
    more = ad.AnnData(sparse.csr_matrix(np.ones((N, G + 1))), obs=make().obs, var=genes)
    with pytest.raises(DataError, match="not trained on: novel"):
        read(more).matching(read(make()).schema)


def test_other_groups_of_the_same_cells():
    data = read(make())
    other = data.with_groups(1 - data.group_n)
    np.testing.assert_array_equal(other.group_n, 1 - data.group_n)
    np.testing.assert_array_equal(other.x.toarray(), data.x.toarray())
    assert other.schema is data.schema
