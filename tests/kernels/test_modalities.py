"""Sparse counts of several modalities, against dense ones."""

import numpy as np
import pytest
import torch
from scipy import sparse

from pyro_mgvi.kernels.modalities import columns_of, hidden, scaled_log_of, totals_of
from pyro_mgvi.kernels.sparse import SparseInput, to_dense, to_torch

CODE = torch.tensor([0, 0, 0, 1, 1])


@pytest.fixture
def counts():
    return np.random.default_rng(0).poisson(0.7, (30, 5)).astype(np.float32)


def test_totals_are_those_of_each_modality(counts):
    expected = np.column_stack([counts[:, :3].sum(1), counts[:, 3:].sum(1)])
    for given in (torch.from_numpy(counts), to_torch(sparse.csr_matrix(counts))):
        np.testing.assert_array_equal(totals_of(given, CODE, 2), expected)


def test_each_modality_has_its_own_depth(counts):
    factor = torch.rand(30, 2)
    found = to_dense(scaled_log_of(to_torch(sparse.csr_matrix(counts)), factor, CODE))
    expected = np.log1p(counts * factor.numpy()[:, CODE.numpy()])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("grouped", [False, True])
def test_columns_and_what_is_hidden_are_those_of_dense_inputs(counts, grouped):
    torch.manual_seed(0)
    group = torch.randint(0, 2, (30,)) if grouped else None
    centre = torch.rand(2, 5) if grouped else torch.rand(5)
    x = SparseInput(to_torch(sparse.csr_matrix(counts)), centre, group)
    chosen = np.array([1, 3, 4])
    torch.testing.assert_close(to_dense(columns_of(x, chosen)), x.to_dense()[:, [1, 3, 4]])
    keep = torch.rand(30, 2) < 0.5
    found = to_dense(hidden(x, keep, CODE))
    torch.testing.assert_close(found, hidden(x.to_dense(), keep, CODE))
    assert (found[~keep[:, 0], :3] == 0).all() and (found[keep[:, 1], 3:] != 0).all()


def test_a_part_that_is_hardly_zero_becomes_dense(counts):
    counts[:, :3] *= counts[:, :3] > 2
    x = SparseInput(to_torch(sparse.csr_matrix(counts)), torch.rand(5))
    genes, proteins = columns_of(x, np.arange(3)), columns_of(x, np.arange(3, 5))
    assert isinstance(genes, SparseInput) and isinstance(proteins, torch.Tensor)
    torch.testing.assert_close(proteins, x.to_dense()[:, 3:])
