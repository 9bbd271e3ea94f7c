import torch

from pyro_mgvi.kernels.log_cauchy import log_cauchy


def test_the_prior_of_loadings_and_its_gradient_are_those_of_the_formula():
    weight = torch.randn(5, 4, dtype=torch.float64)[:, :3].requires_grad_()  # not contiguous
    value = log_cauchy(weight, 0.2)
    plain = -torch.log1p((weight / 0.2).square()).sum()
    torch.testing.assert_close(value, plain)
    ours, truth = (torch.autograd.grad(3 * each, weight)[0] for each in (value, plain))
    torch.testing.assert_close(ours, truth)
