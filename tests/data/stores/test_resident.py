"""Minibatches gathered on a device are those of the host, whatever the counts look like."""

import anndata as ad
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.stores.resident import Resident, compact, fits

CPU = torch.device("cpu")


def grouped(x, kind=DataKind.COUNTS):
    groups = ["a", "b"] * (x.shape[0] // 2)
    adata = ad.AnnData(x, obs={"group": groups, "depth": np.arange(len(groups), dtype=float)})
    return GroupedCounts.from_anndata(adata, "group", covariate_keys=["depth"], data_kind=kind)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.0, 1.0), st.sampled_from([1, 300, 40_000]))
def test_rows_are_those_of_the_host(seed, density, largest):
    rng = np.random.default_rng(seed)
    x = rng.integers(1, largest + 1, (12, 7)) * (rng.random((12, 7)) < density)
    x[:, 0] = np.maximum(x[:, 0], 1)  # a cell needs a count
    for counts in (sparse.csr_matrix(x.astype(np.float32)), x.astype(np.float32)):
        data = grouped(counts)
        resident = Resident(data, CPU)
        orders = data.orders(4, seed=seed)
        pairs = zip(data.batches_of(orders), resident.minibatches(orders, scaled=True), strict=True)
        for expected, found in pairs:
            for one, other in zip(expected, found):
                assert torch.equal(one, other) if torch.is_tensor(one) else one == other
        for batch in resident.minibatches(orders, scaled=False):
            assert batch.index is None and batch.n_cells is None


def test_a_view_and_cells_without_a_value():
    x = np.zeros((6, 4), np.float32)
    x[2, 3], x[4, 0] = -2.5, 1.0
    data = grouped(sparse.csr_matrix(x), DataKind.VALUES).view(np.array([5, 4, 2, 0]))
    found = Resident(data, CPU).rows(torch.arange(4))
    np.testing.assert_array_equal(found.counts, x[[5, 4, 2, 0]])


def test_no_value_at_all():
    data = grouped(sparse.csr_matrix(np.zeros((4, 3), np.float32)), DataKind.VALUES)
    assert not Resident(data, CPU).rows(torch.arange(4)).counts.any()


@pytest.mark.parametrize(
    "value, dtype", [(7, np.int16), (-3, np.int16), (2**15, np.float32), (0.5, np.float32)]
)
def test_no_value_is_lost(value, dtype):
    values = np.array([0.0, value])
    assert compact(values).dtype == dtype
    np.testing.assert_array_equal(compact(values), values)


def test_what_does_not_fit_stays(monkeypatch):
    data = grouped(np.ones((4, 3), np.float32))
    assert fits(data, torch.device("mps"))
    monkeypatch.setattr("pyro_mgvi.data.stores.resident.ELSEWHERE", 47)
    assert not fits(data, torch.device("mps"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (96, 1000))
    assert fits(data, torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (95, 1000))
    assert not fits(data, torch.device("cuda"))
