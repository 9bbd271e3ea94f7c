"""Components as plain data, and back: the same class, with the same settings."""

import json
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch

import pyro_mgvi
from pyro_mgvi import NB, Dirac, JointDecoder, ModelFileError
from pyro_mgvi.saving.components import classes_of, describe, plain, rebuild
from pyro_mgvi.support.described import described


class Poisson(pyro_mgvi.Poisson):
    """One of the user's, of the name of one of ours."""


@dataclass(frozen=True)
class Factory:
    width: int
    inner: object = None


def there_and_back(component, own=()):
    text = json.dumps(describe(component), default=plain)
    return rebuild(json.loads(text), {kind.__name__: kind for kind in own})


@pytest.mark.parametrize(
    "component",
    [
        JointDecoder,
        Poisson,
        Dirac(),
        Factory(8, Factory(4)),
        partial(JointDecoder, hidden=np.int64(8)),
        partial(JointDecoder, hidden=(8, [4, (2,)])),
        partial(JointDecoder, weight=np.array([[0.1, np.nan]], np.float32)),
        partial(JointDecoder, weight=np.array(["a", "bc"])),
        partial(JointDecoder, weight=torch.tensor([True, False])),
        partial(JointDecoder, weight=torch.tensor(0.1, dtype=torch.bfloat16)),
        partial(JointDecoder, inner={"rna": partial(Poisson, by=(NB, Factory(2)))}),
    ],
    ids=repr,
)
def test_a_component_comes_back_as_it_was(component):
    own = [Poisson, Factory]
    assert {*classes_of(component)} <= {JointDecoder, NB, Dirac, *own}
    assert described(there_and_back(component, own)) == described(component)


def test_a_class_of_the_user_s_is_not_taken_for_one_of_ours():
    with pytest.raises(ModelFileError, match=r"components=\[Poisson\]"):
        there_and_back(Poisson)
    assert there_and_back(pyro_mgvi.Poisson, [Poisson]) is pyro_mgvi.Poisson
    earlier = {"class": "Poisson", "settings": {}}  # did not say whose it is
    assert rebuild(earlier, {}) is pyro_mgvi.Poisson
    assert rebuild(earlier, {"Poisson": Poisson}) is Poisson


def test_an_array_asks_for_no_more_memory_than_its_numbers():
    huge = {"array": ["a"], "dtype": f"<U{10**8}"}
    with pytest.raises(ModelFileError, match="unknown type <U100000000"):
        rebuild({"class": "JointDecoder", "settings": {"hidden": huge}}, {})
