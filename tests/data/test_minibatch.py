"""Each cell once, each group in its share: orders and splits of the cells."""

import numpy as np
import pytest
from helpers.cells import make, read
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from pyro_mgvi import GroupedCounts, SettingsError


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
