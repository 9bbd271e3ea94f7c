"""What cannot be used is refused, naming the key, the cell or the gene at fault."""

from decimal import Decimal
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers.cells import G, N, make, read
from scipy import sparse

from pyro_mgvi import DataError, DataWarning, GroupedCounts


def whole(adata):
    adata.X = adata.X.astype(np.int32)
    return adata


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


def called(names):
    adata = make()
    adata.var.index = pd.Index(names, dtype=object)
    return adata


def with_two_columns(adata, key):
    adata.obs.columns = [key] * adata.obs.shape[1]
    return adata


BAD = {
    "group key": (make, {"group_key": "organ"}, "organ.*tissue"),
    "batch key": (make, {"batch_key": "donor"}, "batch_key 'donor'"),
    "covariate": (make, {"covariate_keys": ["age"]}, "covariate_keys 'age'"),
    "covariate string": (make, {"covariate_keys": "age"}, r"\['age'\]"),
    "layer": (make, {"layer": "raw"}, "layer 'raw'"),
    "key list": (make, {"group_key": ["tissue", "sex"]}, "group_key 'sex' is not a column"),
    "batch list": (make, {"batch_key": ["donor"]}, "batch_key must be the name of one column"),
    "covariate lists": (make, {"covariate_keys": [["age"]]}, "covariate_keys must be the name of"),
    "covariate none": (make, {"covariate_keys": None}, "covariate_keys must be a list of columns"),
    "no covariate": (make, {"covariate_keys": [None]}, "covariate_keys None is not a column"),
    "number": (make, {"group_key": 3}, "group_key 3 is not a column"),
    "two columns": (lambda: with_two_columns(make(sex=["f"] * N), "tissue"), {}, "several columns"),
    "lists": (lambda: make(tissue=[["a"], ["b"]] * 6), {}, "'tissue'.*no labels"),
    "no cell": (lambda: make()[:0].copy(), {}, "holds no cell"),
    "nan label": (lambda: nan_label(make()), {}, "cell4"),
    "one group": (lambda: make(tissue=["a"] * N), {}, "one group only"),
    "tiny group": (lambda: make(tissue=["a"] * 11 + ["b"]), {}, "fewer than 2 cells.*b"),
    "negative": (lambda: with_count(-1), {}, "negative.*cell3.*gene2"),
    "negative, of integers": (lambda: whole(with_count(-1)), {}, "negative.*cell3.*gene2"),
    "fractional": (lambda: with_count(0.5), {}, "fractional.*cell3.*gene2.*normalised"),
    "nan": (lambda: with_count(np.nan), {}, "not finite.*cell3.*gene2"),
    "infinite": (lambda: with_count(np.inf), {}, "not finite.*cell3.*gene2"),
    "normalised": (lambda: make(np.log1p(np.ones((N, G)))), {}, "normalised data"),
    "empty cell": (lambda: make(np.eye(N, G)), {}, "7 cell.*cell5.*drop_empty=True"),
    "genes": (lambda: renamed(make()), {}, "duplicate gene names: gene0.*var_names_make_unique"),
    "nameless": (lambda: called([None, np.nan, *"abc"]), {}, r"var_names lacks 2 name.*0, 1"),
    "bytes genes": (lambda: called([b"p", *"abcd"]), {}, r"bytes, not text.*name.decode\(\) for"),
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


NUMBERS = {7: ["p", "q"] * 6, np.int64(8): np.arange(N) / 2, ("age", 1): np.arange(N) / 2}


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize(
    "option, wrap",
    [
        ("group_key", lambda key: [key]),
        ("batch_key", lambda key: key),
        ("sample_key", lambda key: key),
        ("covariate_keys", lambda key: [key]),
    ],
)
def test_a_model_keeps_no_column_whose_name_is_no_text(key, option, wrap):
    adata = make()
    adata.obs[key] = NUMBERS[key]
    with pytest.raises(DataError, match=rf"{option} .* is no text.*obs.columns.map\(str\)"):
        read(adata, **{option: wrap(key)})
    adata.obs.columns = adata.obs.columns.map(str)
    assert str(key) in read(adata, covariate_keys=[str(key)]).schema.covariate_keys


@pytest.mark.parametrize("kind", ["complex64", object])
@pytest.mark.parametrize("option", ["group_key", "batch_key", "sample_key", "covariate_keys"])
def test_complex_numbers_are_refused_by_name(kind, option):
    adata = make(x=(np.arange(N) % 2 + 1j).astype(kind))
    key = ["x"] if option == "covariate_keys" else "x"
    with pytest.raises(DataError, match=f"{option} 'x' holds complex numbers: take a real part"):
        read(adata, **{option: key})


def mudata():
    mudata_ = pytest.importorskip("mudata")
    return mudata_.MuData({"rna": make(), "prot": make()})


@pytest.mark.filterwarnings("ignore")  # those of mudata about itself
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: "cells.h5ad", r"anndata.read_h5ad\('cells.h5ad'\)"),
        (lambda: Path("cells.h5ad"), r"anndata.read_h5ad\('cells.h5ad'\)"),
        (mudata, r"one modality of rna, prot: adata = mdata\['rna'\]"),
        (lambda: np.ones((N, G)), "ndarray.*wrap it"),
        (lambda: sparse.csr_matrix(np.ones((N, G))), "csr_matrix.*wrap it"),
        (lambda: make().to_df(), "DataFrame.*wrap it"),
        (lambda: None, "NoneType"),
    ],
)
def test_what_is_no_annotated_data_is_refused_with_the_way_to_get_them(build, message, known):
    schema = read(make()).schema
    with pytest.raises(DataError, match=f"not an AnnData.*{message}|{message}"):
        GroupedCounts.for_schema(build(), schema) if known else read(build())


def plates(kind):
    return pd.array(np.arange(N) % 4, dtype=kind)


@pytest.mark.parametrize("kind", ["int64", "uint8", "Int64"])
def test_integers_that_may_be_codes_are_named(kind):
    said = r"'plate' holds 4 .*0, 1, 2, 3.*adata.obs\['plate'\].astype\('category'\)"
    with pytest.warns(DataWarning, match=said) as caught:
        read(make(plate=plates(kind)), covariate_keys=["plate"])
    assert [warning.category for warning in caught].count(DataWarning) == 1


@pytest.mark.parametrize(
    "plate",
    [plates("float64"), plates("int64") % 2, np.arange(N), pd.Categorical(np.arange(N) % 4)],
    ids=["floats", "two levels", "many levels", "categorical"],
)
def test_what_is_no_code_is_taken_without_a_word(plate):
    read(make(plate=plate), covariate_keys=["plate"])


TIMES = {
    "dates": pd.date_range("2020", periods=N),
    "zone": pd.date_range("2020", periods=N, tz="Europe/Berlin"),
    "spans": pd.to_timedelta(np.arange(N), unit="D"),
    "periods": pd.period_range("2020", periods=N, freq="D"),
    "objects": list(pd.date_range("2020", periods=N).date),
    "decimals": [Decimal(i) for i in range(N)],
    "beyond int64": [10**30 + i for i in range(N)],
}


@pytest.mark.filterwarnings("ignore::pyro_mgvi.DataWarning")  # of a level for each cell
@pytest.mark.parametrize("kind", TIMES)
def test_times_are_no_levels_of_a_covariate(kind):
    adata = make()
    adata.obs["visit"] = pd.Series(TIMES[kind], adata.obs_names)
    with pytest.raises(DataError, match=r"'visit' holds \w+ values.*a number.*astype\(str\)"):
        read(adata, covariate_keys=["visit"])
    adata.obs["visit"] = pd.Series(TIMES[kind], adata.obs_names).astype(str)
    assert len(read(adata, covariate_keys=["visit"]).schema.categories["visit"]) == N


@pytest.mark.parametrize("value", [1e300, -1e300, 1e31])
def test_numbers_that_are_too_large_to_compute_with_are_refused(value):
    adata = make(x=[value, *range(1, N)])
    with pytest.raises(DataError, match=r"'x' is beyond 1e\+30 for cell.s. cell0"):
        read(adata, covariate_keys=["x"])
    schema = read(make(x=np.arange(N)), covariate_keys=["x"]).schema
    with pytest.raises(DataError, match="'x' is beyond"):
        GroupedCounts.for_schema(adata, schema)


@pytest.mark.parametrize("kind", ["int64", "uint64", "float64"])
def test_numbers_that_differ_too_little_for_their_size_are_not_called_the_same(kind):
    adata = make(x=(2**60 + 1024 * np.arange(N)).astype(kind))
    with pytest.raises(DataError, match=r"'x'.*differ too little for their size \(1\.?152921504"):
        read(adata, covariate_keys=["x"])
    same = read(make(x=np.arange(N)), covariate_keys=["x"])
    adata.obs["x"] -= adata.obs["x"].min()
    np.testing.assert_allclose(read(adata, covariate_keys=["x"]).covariate_nc, same.covariate_nc)


@pytest.mark.parametrize("size", [1e-13, 1e-100, 1e25])
def test_numbers_of_any_size_are_taken(size):
    data = read(make(x=np.arange(N) * size), covariate_keys=["x"])
    same = read(make(x=np.arange(N)), covariate_keys=["x"])
    np.testing.assert_allclose(data.covariate_nc, same.covariate_nc, rtol=1e-5, atol=1e-6)


TISSUE = np.array(["b"] * 5 + ["a"] * 7)
NESTED = {
    "same": (np.char.add("d", TISSUE), "batch_key 'donor' is the same as the groups of 'tissue'"),
    "nested": (np.char.add(TISSUE, ["1", "2"] * 6), "'donor' is nested in 'tissue'.*shift of a"),
}


@pytest.mark.parametrize("case", NESTED)
@pytest.mark.parametrize("option", ["batch_key", "covariate"])
def test_batches_within_groups_are_used_and_what_they_hide_is_said_once(case, option):
    donor, message = NESTED[case]
    keys = {"batch_key": "donor"} if option == "batch_key" else {"covariate_keys": ["donor"]}
    adata = make(donor=donor)
    with pytest.warns(DataWarning, match=message.replace("batch_key", option)) as caught:
        data = read(adata, **keys)
    assert len(caught) == 1 and caught[0].filename.endswith("cells.py")
    assert data.schema.n_covariates == len(set(donor))
    GroupedCounts.for_schema(adata, data.schema)  # not said again of the same model


def test_crossed_batches_are_used_without_a_word():
    read(
        make(donor=["d1", "d2"] * 6, sex=["f", "m", "m"] * 4),
        batch_key="donor",
        covariate_keys=["sex"],
    )
