import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from pyro_mgvi import DataError, GroupedCounts, SettingsError

N, G = 12, 5


def make(counts=None, **obs):
    if counts is None:
        counts = np.random.default_rng(0).poisson(3.0, (N, G)) + 1.0
    table = {"tissue": ["b"] * 5 + ["a"] * 7} | obs
    cells = [f"cell{i}" for i in range(len(counts))]
    genes = [f"gene{i}" for i in range(counts.shape[1])]
    obs = pd.DataFrame(table, index=cells)
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=genes))


def read(adata, **kwargs):
    return GroupedCounts.from_anndata(adata, **{"group_key": "tissue"} | kwargs)


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, np.array])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16, np.float32, np.float64])
def test_every_storage_form_gives_the_same_minibatches(form, dtype):
    adata = make()
    expected = adata.X.toarray()
    adata.X = form(expected.astype(dtype))
    before = adata.copy()
    data = read(adata)
    batches = list(data.minibatches(4, shuffle=False))
    np.testing.assert_array_equal(np.vstack([b.counts for b in batches]), expected)
    assert all(b.counts.dtype.is_floating_point for b in batches)
    assert data.schema.groups == ("a", "b") and list(data.group_n) == [1] * 5 + [0] * 7
    assert type(adata.X) is type(before.X)
    pd.testing.assert_frame_equal(adata.obs, before.obs)


def test_groups_keep_the_order_of_a_categorical():
    adata = make()
    adata.obs["tissue"] = pd.Categorical(adata.obs["tissue"], categories=["b", "unused", "a"])
    assert read(adata).schema.groups == ("b", "a")


def test_a_large_dataset_is_never_made_dense():
    wide = sparse.csr_matrix(([1.0], ([0], [7])), shape=(N, 10**9))
    data = read(make())
    data.x = wide  # 96 GB if it were dense
    assert sparse.issparse(data.subset(np.arange(5)).x)
    assert data.unpacked() is data


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.float64])
def test_unpacked_counts_give_the_same_minibatches(dtype, monkeypatch):
    adata = make()
    adata.X = adata.X.astype(dtype)
    data = read(adata)
    part = data.view(np.arange(2, 9))
    for packed in (data, part):
        dense = packed.unpacked()
        assert isinstance(dense.x, np.ndarray) and sparse.issparse(packed.x)
        for got, expected in zip(dense.minibatches(4, seed=0), packed.minibatches(4, seed=0)):
            for a, b in zip(got, expected):
                torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert dense.unpacked() is dense  # dense already
    monkeypatch.setattr("pyro_mgvi.data.grouped_counts.DENSITY", 1.1)
    assert data.unpacked() is data  # mostly zero
    monkeypatch.undo()
    monkeypatch.setattr("pyro_mgvi.data.grouped_counts.UNPACKED", 4 * N * G - 1)
    assert data.unpacked() is data and part.unpacked() is not part


@given(
    sizes=st.lists(st.integers(2, 40), min_size=1, max_size=4),
    size=st.integers(2, 50),
    balanced=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_minibatches_hold_each_cell_once_and_never_a_single_one(sizes, size, balanced):
    group_n = np.repeat(np.arange(len(sizes)), sizes)
    n = len(group_n)
    x = sparse.csr_matrix(np.arange(n)[:, None])
    data = GroupedCounts(x, group_n, group_n * 0, np.zeros((n, 0)), None, np.arange(n))
    batches = list(data.minibatches(size, seed=1, balanced=balanced))
    seen = np.concatenate([b.index for b in batches])
    assert sorted(seen) == list(range(n))
    lengths = [len(b.index) for b in batches]
    assert min(lengths) >= 2 and max(lengths) - min(lengths) <= 1 and max(lengths) < 2 * size
    for b in batches:
        np.testing.assert_array_equal(b.counts[:, 0], b.index)
        if balanced:  # every group in its share, up to rounding at both ends
            for group, total in enumerate(sizes):
                share = total * len(b.index) / n
                assert abs((b.group == group).sum() - share) <= 2


def test_minibatches_are_drawn_afresh_and_repeat_with_the_seed():
    data = read(make())
    first, again, other = ([list(b.index) for b in data.minibatches(4, seed)] for seed in (0, 0, 1))
    assert first == again != other
    with pytest.raises(SettingsError, match="at least 2"):
        list(data.minibatches(1))


@given(st.floats(0, 0.9), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_validation_split_is_stratified(fraction, seed):
    data = read(make(np.ones((60, 2)), tissue=["a"] * 40 + ["b"] * 18 + ["c"] * 2))
    train, held_out = data.split(fraction, seed)
    assert sorted([*train, *held_out]) == list(range(60))
    np.testing.assert_array_equal(data.split(fraction, seed)[1], held_out)
    counts = np.bincount(data.group_n[held_out], minlength=3)
    assert list(counts) == [round(40 * fraction), min(round(18 * fraction), 16), 0]


def test_start_is_the_moments_written_out():
    rng = np.random.default_rng(0)
    theta, n = np.tile([0.5, 2.0, 5.0], 20), 20_000
    library = rng.lognormal(7.0, 0.3, n)
    share = np.full(60, 1 / 60)  # many genes: the drawn depth follows the library
    mean = library[:, None] * share
    x = rng.poisson(rng.gamma(theta, mean / theta))
    adata = make(x, tissue=np.where(np.arange(n) % 3 == 0, "a", "b"))
    start = read(adata, drop_empty=True).start()
    assert start.n_cells == n
    start = start._replace(
        **{k: v.numpy() for k, v in start._asdict().items() if hasattr(v, "numpy")}
    )
    np.testing.assert_allclose(np.exp(start.log_rate_g), x.sum(0) / x.sum(), rtol=1e-3)
    np.testing.assert_allclose(np.exp(start.log_theta_g), theta, rtol=0.25)
    np.testing.assert_allclose(start.offset_bg, 0, atol=0.05)
    totals = x.sum(1)
    expected = [[np.log(totals).mean(), np.log(totals).std()]]
    np.testing.assert_allclose(start.log_library_b2, expected, rtol=1e-4)
    scaled = np.log1p(x / totals[:, None] * np.median(totals))
    np.testing.assert_allclose(start.input_g, scaled.mean(0), rtol=1e-4)


def test_batch_and_covariates_become_columns():
    adata = make(donor=["d1", "d2"] * 6, age=np.arange(N), sex=["f"] * 4 + ["m"] * 8)
    data = read(adata, batch_key="donor", covariate_keys=["age", "sex"])
    assert data.schema.n_covariates == data.covariate_nc.shape[1] == 5
    np.testing.assert_array_equal(data.covariate_nc[:, :2].argmax(1), data.batch_n)
    np.testing.assert_allclose(data.covariate_nc[:, 4].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(data.covariate_nc[:, 4].std(), 1, rtol=1e-5)
    assert data.start().log_library_b2.shape == (2, 2)


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


def test_empty_cells_are_dropped_on_request():
    data = read(make(np.eye(N, G)[np.arange(N) % 8]), drop_empty=True)
    assert len(data) == 9 and list(data.cells) == [0, 1, 2, 3, 4, 8, 9, 10, 11]


def test_new_data_of_a_model_are_reordered_or_refused():
    adata = make()
    schema = read(adata).schema
    shuffled = GroupedCounts.for_model(adata[:, ::-1], schema)
    np.testing.assert_array_equal(shuffled.x.toarray(), adata.X.toarray())
    one_group = GroupedCounts.for_model(adata[:3], schema)
    assert set(one_group.group_n) == {1}
    with pytest.raises(DataError, match="lack 2 of its genes: gene3, gene4"):
        GroupedCounts.for_model(adata[:, :3], schema)
    genes = pd.DataFrame(index=[*adata.var_names, "novel"])
    extra = ad.AnnData(sparse.csr_matrix(np.ones((N, G + 1))), obs=adata.obs, var=genes)
    with pytest.raises(DataError, match="not trained on: novel"):
        GroupedCounts.for_model(extra, schema)
    adata.obs["tissue"] = ["b"] * 5 + ["lung"] * 7
    with pytest.raises(DataError, match=r"unknown to the model: lung; it knows: a, b"):
        GroupedCounts.for_model(adata, schema)


@pytest.mark.parametrize(
    "age, message",
    [([1.0, np.nan] * 6, "'age' is not finite.*cell1"), (["old"] * N, "'age' was numeric")],
)
def test_new_values_of_a_continuous_covariate_are_checked(age, message):
    schema = read(make(age=np.arange(N)), covariate_keys=["age"]).schema
    with pytest.raises(DataError, match=f"(?s){message}"):
        GroupedCounts.for_model(make(age=age), schema)


@pytest.mark.parametrize("dense", [False, True])
def test_a_view_gives_what_a_subset_gives_without_a_copy(adata, dense):
    adata = adata.copy()
    adata.X = adata.X.toarray() if dense else sparse.csr_matrix(adata.X)
    data = GroupedCounts.from_anndata(adata, "group")
    cells = np.random.default_rng(0).permutation(len(data))[:70]
    view, subset = data.view(cells), data.subset(cells)
    assert view.x is data.x and len(view) == len(subset) == 70
    part = np.arange(5, 40)
    for ours, theirs in (
        (view, subset),
        (view.subset(part), subset.subset(part)),
        (view.view(part), subset.subset(part)),
    ):
        np.testing.assert_array_equal(ours.cells, theirs.cells)
        plans = [each.minibatches(16, seed=3, balanced=True) for each in (ours, theirs)]
        for a, b in zip(*plans, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
