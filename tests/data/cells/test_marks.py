"""Marks of cells: the same in any form of the counts, others for other cells, orders and labels."""

import numpy as np
import pytest
from scipy import sparse

from pyro_mgvi import GroupedCounts
from pyro_mgvi.data.cells.marks import KINDS, differing, marks, reordered


@pytest.fixture(scope="module")
def whole(adata):
    adata = adata.copy()
    adata.obs["donor"] = [f"d{i % 4}" for i in range(120)]
    adata.obs["age"] = np.linspace(20.0, 80.0, 120)
    return adata


def read(adata):
    keys = {"batch_key": "celltype", "covariate_keys": ["age"], "sample_key": "donor"}
    return GroupedCounts.from_anndata(adata, "group", **keys)


def test_the_form_of_the_counts_does_not_matter(whole):
    dense, csc = whole.copy(), whole.copy()
    dense.X = whole.X.toarray().astype(np.float64)
    csc.X = sparse.csc_matrix(whole.X)
    data = read(whole)
    forms = [read(dense), read(csc), data.view(np.arange(120)), data.unpacked(), read(whole.copy())]
    assert all(differing(marks(data), marks(form)) == [] for form in forms)
    assert marks(data).shape == (120, len(KINDS))


@pytest.mark.parametrize("kind", KINDS)
def test_each_difference_is_told(whole, kind):
    other = whole.copy()
    if kind == "counts":
        x = other.X.toarray()
        x[7, 3] += 1
        other.X = x
    else:
        name = dict(groups="group", batches="celltype", covariates="age", samples="donor")[kind]
        values = other.obs[name].to_numpy(copy=True)
        there = np.flatnonzero(values != values[0])[0]
        values[[0, there]] = values[[there, 0]]  # the levels and their moments stay
        other.obs[name] = values
    told = differing(marks(read(whole)), marks(read(other)))
    # Of the batch, the covariates hold a column for each level, too.
    assert told == ([kind, "covariates"] if kind == "batches" else [kind])


def test_orders_of_cells_and_genes_are_told(whole):
    rng = np.random.default_rng(0)
    cells, genes = whole[rng.permutation(120)].copy(), whole[:, rng.permutation(60)].copy()
    known = marks(read(whole))
    assert "counts" in differing(known, marks(read(cells))) and reordered(known, marks(read(cells)))
    assert differing(known, marks(read(genes))) == ["counts"]
    assert not reordered(known, marks(read(genes)))
    assert differing(known, known[:50]) == [*KINDS]
