"""Values as text: the same for what is equal, wherever it lies in memory, and for nothing else."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from scipy import sparse
from torch import nn

from pyro_mgvi import NB, Dirac, JointDecoder, SameAsOwn
from pyro_mgvi.support.described import described


@dataclass(frozen=True)
class Weighted:
    weight: object


class Plain:
    def __init__(self, weight):
        self.weight = weight

    def method(self, own, member):
        return own


def weighted(weight):
    def prior(own, member):
        return own.expand(member.shape * weight)

    return prior


def by_default(weight):
    return lambda own, weight=weight: own


def normal(value, n=1500):
    return dist.Normal(torch.full((n,), float(value)), torch.ones(n))


@pytest.mark.parametrize(
    "make",
    [
        lambda value: partial(JointDecoder, hidden=value),
        lambda value: partial(JointDecoder, act=torch.tanh if value else torch.relu),
        lambda value: partial(JointDecoder, act=nn.functional.relu if value else nn.functional.elu),
        lambda value: partial(JointDecoder, act=nn.ReLU() if value else nn.ELU()),
        lambda value: partial(JointDecoder, act=(lambda x: x + 1) if value else (lambda x: x - 1)),
        lambda value: partial(JointDecoder, inner={"rna": partial(NB, weight=torch.tensor(value))}),
        lambda value: partial(JointDecoder, names={f"{value}", "a", "b", "c"}),
        lambda value: JointDecoder if value else NB,
        lambda value: Dirac() if value else SameAsOwn(),
        lambda value: np.arange(5000.0) == 2500 * value,
        lambda value: torch.arange(5000) == 2500 * value,
        lambda value: sparse.csr_matrix(([value], ([0], [0])), (3, 3)),
        lambda value: pd.DataFrame({"a": np.arange(500) == 250 * value}),
        lambda value: pd.Series(np.arange(500) == 250 * value),
        lambda value: dist.Laplace(0.0, 1.0 + value),
        normal,
        lambda value: Weighted(torch.tensor(1e-9 * value)),
        lambda value: Weighted(normal(value)),
        Plain,
        lambda value: Plain(value).method,
        weighted,
        by_default,
    ],
)
def test_equal_values_have_the_same_text_and_others_another(make):
    kept = [make(1), make(1)]  # side by side: at two addresses
    assert described(kept[0]) == described(kept[1]) != described(make(0))
    assert "0x" not in described(kept[0])


def test_settings_have_no_order_and_numbers_no_library():
    one = partial(JointDecoder, sparsity=0.5, hidden=8)
    assert described(one) == described(partial(JointDecoder, hidden=np.int64(8), sparsity=0.5))
    assert described({"a": 1, "b": 2}) != described({"b": 2, "a": 1})  # of modalities


def test_what_holds_itself_ends():
    def twice(own, member):
        return twice

    assert "itself" in described(twice)
