"""A training that is killed at any moment goes on, and ends as if it had never been."""

import pytest
import torch

from benchmarks.kill_and_resume import MOMENTS, _equal, kill_and_resume


@pytest.mark.slow
def test_a_killed_training_ends_bit_equal(tmp_path):
    table = kill_and_resume(len(MOMENTS), tmp_path)  # twenty: python -m benchmarks.kill_and_resume
    assert table["equal"].all(), table.to_string()
    assert table["killed"].sum() >= 3, table.to_string()  # the outputs may be faster than the kill
    assert set(table["moment"]) == set(MOMENTS)
    searched = table.loc[table["moment"] == "search", "epochs done"]
    assert searched.between(10, 12).all()


def test_what_is_not_equal_is_seen():
    one = {"a": [torch.tensor([1.0]), 2], "b": {"c": "d"}}
    assert _equal(one, {"a": [torch.tensor([1.0]), 2], "b": {"c": "d"}})
    assert not _equal(one, {"a": [torch.tensor([1.0 + 1e-7]), 2], "b": {"c": "d"}})
    assert not _equal(one, {"a": [torch.tensor([1.0]), 3], "b": {"c": "d"}})
    assert not _equal(one, {"a": [torch.tensor([1.0]), 2], "b": {}})
