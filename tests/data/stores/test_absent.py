"""Masks on counts that stay in their file: what is absent is dropped as rows are read."""

import numpy as np
import pytest
from helpers.stored import backed, counts, in_the_same_order, plain, written
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mgvi import MGVI, DataWarning, TrainingPlan, private, shared
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.stores import on_disk
from pyro_mgvi.data.stores.on_disk import OnDisk

LATENTS = (shared(2), private(2))
PLAN = TrainingPlan(max_epochs=3, batch_size=30)


@pytest.fixture(autouse=True)
def nothing_fits_in_memory(monkeypatch):
    monkeypatch.setattr(on_disk, "IN_MEMORY", 0.0)


MASKS = {"a": np.arange(40) != 7, "b": np.arange(40) > 1, "c": np.arange(40) < 37}


def absent(x):
    """Return what is absent of the cells that :func:`written` makes, by the masks."""
    group_n = np.arange(len(x)) * 3 // len(x)
    return ~np.array([has_g for has_g in MASKS.values()])[group_n]


@pytest.mark.parametrize("form", ["csr", "dense"])
def test_what_a_group_has_not_got_is_dropped_as_it_is_read(tmp_path, form):
    x = counts(n=300, n_genes=40)
    x[absent(x)] = np.nan
    written(tmp_path / "x.h5ad", x, form)
    data = GroupedCounts.from_anndata(backed(tmp_path / "x.h5ad"), "group", feature_masks=MASKS)
    assert data.buffer is not None  # on disk
    truth = np.nan_to_num(x)
    np.testing.assert_array_equal(plain(data.x), truth)
    cells = np.array([250, 3, 3, 140])
    np.testing.assert_array_equal(
        plain(data.view(np.arange(2, 300)).counts(cells)), truth[cells + 2]
    )
    x[absent(x)] = 5
    written(tmp_path / "y.h5ad", x, form)
    with pytest.warns(
        DataWarning, match=r"at least \d+ value\(s\) other than zero .* 'gene7' is 5"
    ):
        again = GroupedCounts.from_anndata(
            backed(tmp_path / "y.h5ad"), "group", feature_masks=MASKS
        )
    np.testing.assert_array_equal(plain(again.x), truth)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.booleans())
def test_masks_columns_and_rows_are_composed(tmp_path_factory, seed, csr):
    rng, path = np.random.default_rng(seed), tmp_path_factory.mktemp("x") / "x.h5ad"
    x = counts(seed, n=40, n_genes=6)
    written(path, x, "csr" if csr else "dense")
    stored, memory = OnDisk.of(backed(path)), x.copy()
    for _ in range(3):
        step, n_genes = rng.integers(3), memory.shape[1]
        if step == 0:
            group_n, has_bg = rng.integers(3, size=len(memory)), rng.random((3, n_genes)) > 0.3
            stored, memory = stored.only_measured(group_n, has_bg), memory * has_bg[group_n]
        elif step == 1:
            position = rng.integers(-1, n_genes, size=5)
            wider = np.hstack([memory, np.zeros((len(memory), 1))])
            stored, memory = stored.with_columns(position), wider[:, position]
        else:
            rows = np.sort(rng.permutation(len(memory))[: len(memory) // 2])
            stored, memory = stored.kept(rows), memory[rows]
    cells = rng.integers(len(memory), size=9)
    np.testing.assert_array_equal(plain(stored.take(cells)), memory[cells])
    assert stored.shape == memory.shape


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csr", "dense"])
def test_a_fit_with_masks_equals_one_in_memory(tmp_path, monkeypatch, form):
    monkeypatch.setattr(OnDisk, "buffer", 140)
    x = counts(n=300, n_genes=40)
    x[absent(x)] = np.nan
    memory = written(tmp_path / "x.h5ad", x, form)
    on_file = backed(tmp_path / "x.h5ad")
    one = MGVI.from_anndata(on_file, "group", latents=LATENTS, feature_masks=MASKS)
    one.fit(on_file, PLAN, progress=False)
    with monkeypatch.context() as patch:
        in_the_same_order(patch, 140)
        other = MGVI.from_anndata(memory, "group", latents=LATENTS, feature_masks=MASKS)
        other.fit(memory, PLAN, progress=False)
    np.testing.assert_allclose(one.history["train"], other.history["train"], rtol=1e-5)
    np.testing.assert_allclose(one.history["validation"], other.history["validation"], rtol=1e-5)
    for key, value in other.latents(memory).items():
        np.testing.assert_allclose(one.latents(on_file)[key], value, rtol=1e-3, atol=1e-4)
    masked, known = one.read(on_file), one.read(memory)
    np.testing.assert_array_equal(plain(masked.x), plain(known.x))
    np.testing.assert_array_equal(plain(masked.x), np.nan_to_num(x))
