"""Each cell once, each group in its share: orders and splits of the cells."""

import pickle

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from helpers.cells import make, read
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import SVI, Trace_ELBO
from scipy import sparse

from pyro_mgvi import MGVI, GroupedCounts, Minibatch, SettingsError


@given(
    sizes=st.lists(st.integers(2, 40), min_size=1, max_size=4),
    size=st.integers(2, 50),
    stratified=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_minibatches_hold_each_cell_once_and_never_a_single_one(sizes, size, stratified):
    group_n = np.repeat(np.arange(len(sizes)), sizes)
    n = len(group_n)
    x = sparse.csr_matrix(np.arange(n)[:, None])
    data = GroupedCounts(x, group_n, group_n * 0, np.zeros((n, 0)), None, np.arange(n))
    batches = list(data.minibatches(size, seed=1, stratified=stratified))
    seen = np.concatenate([b.index for b in batches])
    assert sorted(seen) == list(range(n))
    lengths = [len(b.index) for b in batches]
    assert min(lengths) >= 2 and max(lengths) - min(lengths) <= 1 and max(lengths) < 2 * size
    for b in batches:
        np.testing.assert_array_equal(b.counts[:, 0], b.index)
        if stratified:  # every group in its share, up to rounding at both ends
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


@pytest.mark.parametrize("has_samples", [False, True])
def test_a_minibatch_is_a_named_tuple_that_holds_samples_only_where_there_are_some(has_samples):
    from lightning_fabric.utilities import move_data_to_device

    codes = torch.arange(3)
    sample = {"sample": codes} if has_samples else {}
    batch = Minibatch(torch.ones(3, 4), codes, 0 * codes, torch.zeros(3, 0), codes, 9, **sample)
    assert len(batch) == 6 + has_samples and next(iter(batch)) is batch.counts
    for copy in (
        pickle.loads(pickle.dumps(batch)),
        move_data_to_device(batch, torch.device("cpu")),
        batch.to("cpu"),
        batch._replace(n_cells=9),
    ):
        assert isinstance(copy, Minibatch) and len(copy) == len(batch) and copy.n_cells == 9
        assert torch.equal(copy.counts, batch.counts) and torch.equal(copy.index, codes)
        assert (copy.sample is None) != has_samples


def test_a_program_of_ones_own_takes_six_arguments_without_samples(adata):
    def own(counts, group, batch, covariates, index, n_cells):
        rate_g = pyro.param("rate", torch.ones(counts.shape[1]), dist.constraints.positive)
        with pyro.plate("cells", n_cells, subsample=index):
            pyro.sample("counts", dist.Poisson(rate_g).to_event(1), obs=counts)

    setup = MGVI.from_anndata(adata, "group").training_setup(adata)
    svi = SVI(own, lambda *_: None, pyro.optim.Adam({"lr": 0.1}), loss=Trace_ELBO())
    with pyro.get_param_store().scope():
        losses = [svi.step(*batch) for epoch in range(3) for batch in setup.minibatches(epoch)]
    assert losses[-1] < losses[0]
