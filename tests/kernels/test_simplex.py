"""Shares of genes in a cell's simplex, beside plain sums."""

import torch

from pyro_mgvi.kernels.simplex import log_proportions, log_share


def test_the_share_of_some_genes_is_the_sum_of_their_proportions():
    torch.manual_seed(0)
    parts = [(torch.randn(3, 6, dtype=torch.float64),) for _ in range(2)]
    has_ng = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 0, 1], [0, 0, 1, 1, 0, 0]]).bool()
    among_ng = has_ng & torch.tensor([1, 0, 1, 1, 1, 0]).bool()
    for some in (parts[:1], parts):
        truth = (log_proportions(some, has_ng).exp() * among_ng).sum(-1)
        torch.testing.assert_close(log_share(some, among_ng, has_ng).exp(), truth)
