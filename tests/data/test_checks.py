"""What cannot be used is refused, naming the key, the cell or the gene at fault."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers.cells import G, N, make, read
from scipy import sparse

from pyro_mgvi import DataError, GroupedCounts


def with_count(value, cell=3, gene=2):
    counts = np.ones((N, G))
    counts[cell, gene] = value
    return make(counts)


def nan_label(adata):
    adata.obs["tissue"] = adata.obs["tissue"].where(np.arange(N) != 4)
    return adata


def renamed(adata):
    adata.var_names = ["gene0", "gene1", "gene0", "gene3", "gene4"]
    return adata


BAD = {
    "group key": (make, {"group_key": "organ"}, "organ.*tissue"),
    "batch key": (make, {"batch_key": "donor"}, "batch_key 'donor'"),
    "covariate": (make, {"covariate_keys": ["age"]}, "covariate_keys 'age'"),
    "covariate string": (make, {"covariate_keys": "age"}, r"\['age'\]"),
    "layer": (make, {"layer": "raw"}, "layer 'raw'"),
    "nan label": (lambda: nan_label(make()), {}, "cell4"),
    "one group": (lambda: make(tissue=["a"] * N), {}, "one group only"),
    "tiny group": (lambda: make(tissue=["a"] * 11 + ["b"]), {}, "fewer than 2 cells.*b"),
    "negative": (lambda: with_count(-1), {}, "negative.*cell3.*gene2"),
    "fractional": (lambda: with_count(0.5), {}, "fractional.*cell3.*gene2.*normalised"),
    "nan": (lambda: with_count(np.nan), {}, "not finite.*cell3.*gene2"),
    "infinite": (lambda: with_count(np.inf), {}, "not finite.*cell3.*gene2"),
    "normalised": (lambda: make(np.log1p(np.ones((N, G)))), {}, "normalised data"),
    "empty cell": (lambda: make(np.eye(N, G)), {}, "7 cell.*cell5.*drop_empty=True"),
    "genes": (lambda: renamed(make()), {}, "duplicate gene names: gene0.*var_names_make_unique"),
    "same key": (make, {"batch_key": "tissue"}, "also the group_key"),
    "one batch": (lambda: make(donor=["d"] * N), {"batch_key": "donor"}, "used by nothing"),
    "constant": (lambda: make(age=[3.0] * N), {"covariate_keys": ["age"]}, "used by nothing"),
    "bad age": (lambda: make(age=[1.0, np.inf] * 6), {"covariate_keys": ["age"]}, "cell1"),
    "alike": (lambda: make(tissue=pd.Categorical([1, "1"] * 6)), {}, "same as text"),
    "text": (lambda: ad.AnnData(obs=make().obs), {}, "is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_name(case):
    adata, keys, message = BAD[case][0](), BAD[case][1], BAD[case][2]
    with pytest.raises(DataError, match=f"(?s){message}"):
        read(adata, **keys)


@pytest.mark.parametrize("value", [-1, 0.5, np.nan])
def test_bad_counts_are_found_in_dense_data_and_layers(value):
    adata = with_count(value)
    adata.layers["dense"] = adata.X.toarray()
    adata.X = sparse.csr_matrix(np.ones((N, G)))
    read(adata)
    with pytest.raises(DataError, match=r"layers.*'dense'.*cell3.*gene2"):
        read(adata, layer="dense")


@pytest.mark.parametrize(
    "age, message",
    [([1.0, np.nan] * 6, "'age' is not finite.*cell1"), (["old"] * N, "'age' was numeric")],
)
def test_new_values_of_a_continuous_covariate_are_checked(age, message):
    schema = read(make(age=np.arange(N)), covariate_keys=["age"]).schema
    with pytest.raises(DataError, match=f"(?s){message}"):
        GroupedCounts.for_schema(make(age=age), schema)
