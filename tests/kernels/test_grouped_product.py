"""A group at a time or at once, the terms add up to the plain formula, and so do gradients."""

import pytest
import torch

from pyro_mgvi.kernels.grouped_product import add_products

GROUPS, N, GENES = 4, 11, 7


@pytest.mark.parametrize("particles", [(), (2, 1)])
@pytest.mark.parametrize("by_group", [True, False])
def test_products_and_gradients_are_those_of_the_formula(by_group, particles):
    group = torch.tensor([2, 0, 3, 3, 0, 2, 2, 0, 3, 0, 2])  # none of group 1
    own = torch.rand(GROUPS, 6) < 0.5
    own[:, -1] = True
    free = torch.randn(*particles, N, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, GENES, dtype=torch.float64, requires_grad=True)
    start = torch.randn(*particles, N, GENES, dtype=torch.float64, requires_grad=True)
    gated = free * own[group]
    parts = gated.split([4, 2], -1), weight.split([4, 2])
    codes = group if by_group else None
    found = add_products(start + 0.0, *parts, own, codes)  # a copy: it may be written over
    expected = start + gated @ weight
    torch.testing.assert_close(found, expected)
    grad, inputs = torch.randn_like(expected), (start, free, weight)
    ours = torch.autograd.grad(found, inputs, grad, retain_graph=True)
    torch.testing.assert_close(ours, torch.autograd.grad(expected, inputs, grad))
