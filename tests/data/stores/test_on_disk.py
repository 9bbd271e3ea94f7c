"""Counts that stay in their file are those of memory; a file that changes is refused."""

import os

import h5py
import numpy as np
import pytest
from helpers.stored import G, backed, counts, in_the_same_order, plain, written
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mgvi import MGVI, DataError, TrainingPlan, private, shared
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.minibatch import BLOCK, near_orders
from pyro_mgvi.data.stores import on_disk
from pyro_mgvi.data.stores.in_memory import canonical
from pyro_mgvi.data.stores.on_disk import OnDisk, _batched, _runs, cell_totals
from pyro_mgvi.training import Trainer

N = 90


@pytest.fixture(autouse=True)
def nothing_fits_in_memory(monkeypatch):
    monkeypatch.setattr(on_disk, "IN_MEMORY", 0.0)


@pytest.mark.parametrize("form", ["csr", "dense"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_rows_are_those_of_memory(tmp_path, form, compression):
    x = counts()
    written(tmp_path / "x.h5ad", x, form, compression=compression)
    data = GroupedCounts.from_anndata(backed(tmp_path / "x.h5ad"), "group")
    assert data.buffer is not None
    rng = np.random.default_rng(1)
    for cells in (np.arange(N), rng.permutation(N), np.array([5, 5, 3]), np.array([], int)):
        np.testing.assert_array_equal(plain(data.counts(cells)), x[cells])
    view = data.view(np.arange(0, N, 2))
    np.testing.assert_array_equal(plain(view.counts(np.array([3, 1]))), x[[6, 2]])
    np.testing.assert_array_equal(plain(view.x), x[::2])


def test_columns_are_composed(tmp_path):
    x = counts()
    written(tmp_path / "x.h5ad", x)
    found = OnDisk.of(backed(tmp_path / "x.h5ad"))
    some = found.with_columns(np.array([3, -1, 0])).with_columns(np.array([2, 1, 0]))
    np.testing.assert_array_equal(
        plain(some.take(np.arange(N))), np.stack([x[:, 0], 0 * x[:, 0], x[:, 3]], 1)
    )
    assert found.with_columns(None) is found and some.shape == (N, 3)


def test_a_small_file_is_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "IN_MEMORY", 2.0**30)
    written(tmp_path / "x.h5ad", counts())
    assert GroupedCounts.from_anndata(backed(tmp_path / "x.h5ad"), "group").buffer is None


def test_a_file_that_is_no_longer_where_it_was_opened(tmp_path, monkeypatch):
    written(tmp_path / "x.h5ad", counts())
    monkeypatch.chdir(tmp_path)
    adata = backed("x.h5ad")
    data = GroupedCounts.from_anndata(adata, "group")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    np.testing.assert_array_equal(plain(data.x), counts())  # it was found before
    with pytest.raises(DataError, match=r"the file of adata, x.h5ad, is no longer at .*sub"):
        GroupedCounts.from_anndata(adata, "group")


def test_genes_in_another_order(tmp_path):
    x = counts()
    memory = written(tmp_path / "x.h5ad", x)
    mgvi = MGVI.from_anndata(memory[:, ::-1].copy(), "group", latents=shared(2))
    data = mgvi.read(backed(tmp_path / "x.h5ad"))
    np.testing.assert_array_equal(plain(data.counts(np.arange(N))), x[:, ::-1])


BAD = {"negative": -1.0, "fractional": 0.5, "not finite": np.nan}


@pytest.mark.parametrize("said", BAD)
def test_a_bad_value_is_named(tmp_path, monkeypatch, said):
    monkeypatch.setattr(OnDisk, "buffer", 20)
    x = counts()
    x[47, 3] = BAD[said]
    written(tmp_path / "x.h5ad", x)
    with pytest.raises(DataError, match=rf"{said} value .* in cell 'cell47', gene 'gene3'"):
        GroupedCounts.from_anndata(backed(tmp_path / "x.h5ad"), "group")


def test_empty_cells_and_rounding(tmp_path):
    x = counts()
    x[[4, 70]] = 0
    written(tmp_path / "x.h5ad", x)
    with pytest.raises(DataError, match="2 cell"):
        GroupedCounts.from_anndata(backed(tmp_path / "x.h5ad"), "group")
    data = GroupedCounts.from_anndata(backed(tmp_path / "x.h5ad"), "group", drop_empty=True)
    np.testing.assert_array_equal(plain(data.x), np.delete(x, [4, 70], 0))
    rng = np.random.default_rng(0)
    corrected = np.where(rng.random(x.shape) < 0.3, np.maximum(x - 0.3, 0), x) + (x[:, :1] == 0)
    written(tmp_path / "y.h5ad", corrected.astype(np.float32))
    data = GroupedCounts.from_anndata(backed(tmp_path / "y.h5ad"), "group", round_counts=True)
    np.testing.assert_array_equal(plain(data.x), np.rint(corrected))


@pytest.mark.parametrize("form", ["csr", "dense"])
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_what_is_rounded_is_what_memory_holds(tmp_path, form, dtype):
    corrected = np.maximum(counts() - np.random.default_rng(0).uniform(0, 0.9, (N, G)), 0)
    memory = written(
        tmp_path / "x.h5ad", np.append(corrected, np.ones((N, 1)), 1).astype(dtype), form
    )
    data = GroupedCounts.from_anndata(backed(tmp_path / "x.h5ad"), "group", round_counts=True)
    same = GroupedCounts.from_anndata(memory, "group", round_counts=True)
    found = data.counts(np.arange(N))
    assert found.dtype == same.x.dtype
    np.testing.assert_array_equal(plain(found), plain(same.x))
    if form == "csr":
        assert found.nnz == same.x.nnz  # no stored zero


def test_normalised_values_are_not_rounded(tmp_path):
    x = counts()
    written(tmp_path / "x.h5ad", np.log1p(1e4 * x / x.sum(1, keepdims=True)))
    with pytest.raises(DataError, match="looks normalised"):
        GroupedCounts.from_anndata(backed(tmp_path / "x.h5ad"), "group", round_counts=True)


@pytest.mark.parametrize("form", ["csr", "dense"])
def test_half_precision_is_widened_before_anything_is_added_up(tmp_path, form):
    x = counts() * 8192  # sums of a cell are above the largest, 65504
    memory = written(tmp_path / "x.h5ad", x, form)
    with h5py.File(tmp_path / "x.h5ad", "r+") as file:
        name = "X/data" if form == "csr" else "X"
        stored, attributes = file[name][:].astype(np.float16), dict(file[name].attrs)
        del file[name]
        file[name] = stored
        file[name].attrs.update(attributes)
    found = OnDisk.of(backed(tmp_path / "x.h5ad"))
    np.testing.assert_array_equal(cell_totals(found), x.sum(1))
    if form == "csr":
        memory.X.data = memory.X.data.astype(np.float16)
        np.testing.assert_array_equal(canonical(memory.X).sum(1).A1, x.sum(1))


def test_counts_stored_by_genes_are_refused(tmp_path):
    written(tmp_path / "x.h5ad", counts(), "csc")
    with pytest.raises(DataError, match="stored by genes"):
        GroupedCounts.from_anndata(backed(tmp_path / "x.h5ad"), "group")


class TestOrders:
    @settings(deadline=None, max_examples=40)
    @given(
        st.integers(4, 900),
        st.integers(1, 6),
        st.integers(2, 300),
        st.integers(128, 400),
        st.booleans(),
    )
    def test_each_cell_once_in_even_minibatches(self, n, groups, size, buffer, stratified):
        group_n = np.random.default_rng(n).integers(0, groups, n)
        orders = near_orders(group_n, size, 0, buffer, stratified=bool(n % 2))
        np.testing.assert_array_equal(np.sort(np.concatenate(orders)), np.arange(n))
        sizes = [len(cells) for cells in orders]
        assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 2

    def test_a_buffer_holds_each_group_in_its_share(self):
        group_n = np.repeat([0, 1, 2], [6000, 3000, 1000])  # a file that is sorted by group
        cells = np.concatenate(near_orders(group_n, 100, 0, buffer=2000))
        for start in range(0, 10_000, 2000):
            shares = np.bincount(group_n[cells[start : start + 2000]]) / 2000
            np.testing.assert_allclose(shares, [0.6, 0.3, 0.1], atol=1.5 * BLOCK / 2000)

    def test_a_buffer_is_read_in_few_runs(self):
        group_n = np.arange(20_000) % 3  # interleaved in the file
        cells = np.concatenate(near_orders(group_n, 100, 0, buffer=4000))[:4000]
        assert len(_runs(np.sort(cells))) < 2 * 4000 / BLOCK

    def test_epochs_differ_and_a_seed_repeats(self):
        group_n = np.zeros(1000, int)
        one, other, again = (np.concatenate(near_orders(group_n, 50, s, 256)) for s in (0, 1, 0))
        assert (one != other).mean() > 0.9 and (one == again).all()

    def test_batched(self):
        parts = [np.arange(n) for n in (5, 5, 5, 20, 1)]
        found = [[len(part) for part in several] for several in _batched(iter(parts), 10)]
        assert found == [[5, 5], [5], [20], [1]]


LATENTS = (shared(2), private(2))
PLAN = TrainingPlan(max_epochs=3, batch_size=30)


@pytest.mark.parametrize("form", ["csr", "dense"])
@pytest.mark.slow
def test_a_fit_equals_one_in_memory(tmp_path, monkeypatch, form):
    monkeypatch.setattr(OnDisk, "buffer", 140)
    x = counts(n=300, n_genes=40)
    memory = written(tmp_path / "x.h5ad", x, form)
    on_file = backed(tmp_path / "x.h5ad")
    one = MGVI.from_anndata(on_file, "group", latents=LATENTS)
    one.fit(on_file, PLAN, progress=False)
    with monkeypatch.context() as patch:
        in_the_same_order(patch, 140)
        other = MGVI.from_anndata(memory, "group", latents=LATENTS)
        other.fit(memory, PLAN, progress=False)
    np.testing.assert_allclose(one.history["train"], other.history["train"], rtol=1e-5)
    np.testing.assert_allclose(one.history["validation"], other.history["validation"], rtol=1e-5)
    for key, value in other.latents(memory).items():
        np.testing.assert_allclose(one.latents(on_file)[key], value, rtol=1e-3, atol=1e-4)
    one.write_latents(on_file)
    assert "X_mgvi_z" in on_file.obsm
    shares, expected = (m.normalized_expression(c) for m, c in ((one, on_file), (other, memory)))
    np.testing.assert_allclose(shares, expected, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("how", ["changed", "truncated", "gone"])
def test_a_file_that_changes_in_training_is_refused(tmp_path, monkeypatch, how):
    path = tmp_path / "x.h5ad"
    written(path, counts(n=300, n_genes=40))
    on_file = backed(path)
    mgvi = MGVI.from_anndata(on_file, "group", latents=LATENTS)
    real = Trainer._epoch

    def epoch(self, n):
        if n == 1 and how == "gone":
            path.unlink()
        elif n == 1:
            size = path.stat().st_size
            os.truncate(path, size // 2 if how == "truncated" else size)
            os.utime(path, (1, 1))  # another time of change, at least
        real(self, n)

    monkeypatch.setattr(Trainer, "_epoch", epoch)
    with pytest.raises(DataError, match=r"x\.h5ad (has changed|is no longer there)"):
        mgvi.fit(on_file, PLAN, progress=False)
    assert len(mgvi.history) == 1  # the best weights so far are kept


def test_a_file_that_was_cut_off_before_is_refused(tmp_path):
    path = tmp_path / "x.h5ad"
    written(path, counts(n=300, n_genes=40))
    adata = backed(path)
    found = OnDisk.of(adata)
    adata.file.close()  # an open file is not looked at anew
    os.truncate(path, path.stat().st_size // 2)
    stamped = OnDisk(found.path, on_disk._stamp(path), found.shape, found.indptr, found.rows)
    with pytest.raises(DataError, match=r"cannot be read .*damaged or truncated"):
        stamped.take(np.arange(300))


def test_other_genes_are_refused(tmp_path):
    written(tmp_path / "x.h5ad", counts())
    mgvi = MGVI.from_anndata(written(tmp_path / "y.h5ad", counts(n_genes=20)), "group")
    with pytest.raises(DataError, match="lack 8 of its genes"):
        mgvi.read(backed(tmp_path / "x.h5ad"))
