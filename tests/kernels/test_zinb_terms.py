"""One pass over the counts gives what the plain formula and autograd give, compiled or not."""

import numpy as np
import pytest
import torch
from scipy.stats import nbinom

from pyro_mgvi.kernels import zinb_terms
from pyro_mgvi.kernels.compiled import compilation
from pyro_mgvi.kernels.zinb_terms import CellLogProb, gene_log_prob
from pyro_mgvi.likelihoods.measured import NOWHERE


def random_counts(n=37, genes=23, dtype=torch.float32):
    x = torch.poisson(torch.rand(n, genes) * 3) * (torch.rand(n, genes) < 0.5)
    x[0, 0], x[1, 1] = 5000.0, 300.0
    parameters = torch.randn(n, genes), torch.randn(1, genes), torch.randn(n, genes) - 2
    return x.to(dtype), *(p.to(dtype).requires_grad_() for p in parameters)


def value_and_gradients(function, x, *parameters):
    inputs = [p for p in parameters if p is not None]
    log_p = function(x, *parameters)
    weight = torch.linspace(-1, 1, len(x)).to(x)
    return log_p.detach(), *torch.autograd.grad((weight * log_p).sum(), inputs)


def with_total(x, location, theta, gate):
    """Give the same counts a total, which the location then shares out."""
    return x, location, (x.detach().sum(-1, keepdim=True) + 1).log().requires_grad_(), theta, gate


def plain(x, location, log_total, *others):
    log_mean = location if log_total is None else location.log_softmax(-1) + log_total
    return gene_log_prob(x, log_mean, *others).sum(-1)


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("block", [10, 100, 10_000])
def test_one_pass_equals_autograd_through_the_plain_formula(shares, gated, block, monkeypatch):
    monkeypatch.setattr(zinb_terms, "BLOCK", block)
    x, mean, theta, gate = random_counts(dtype=torch.float64)
    args = (x, mean, theta, gate if gated else None)
    args = with_total(*args) if shares else (*args[:2], None, *args[2:])
    for ours, truth in zip(
        value_and_gradients(CellLogProb.apply, *args), value_and_gradients(plain, *args)
    ):
        torch.testing.assert_close(ours, truth, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("theta", [0.1, 2.0, 100.0, 1e4, 1e6])
@pytest.mark.parametrize("mean", [0.1, 10.0, 1e3, 1e5, 1e7])
def test_single_precision_keeps_large_counts_and_large_theta(theta, mean):
    """Against SciPy in double precision; the error allowed is that of a cell of 30 genes."""
    rng = np.random.default_rng(0)
    x = rng.poisson(mean * rng.gamma(theta, 1 / theta, (50, 30)))
    log_mean, log_theta = torch.tensor(mean).log().expand(50, 30), torch.tensor([[theta]]).log()
    log_total = (log_mean[:, :1] + torch.tensor(30.0).log()).contiguous()
    shape = float(log_theta.double().exp())
    x_ng, log_theta = torch.tensor(x).float(), log_theta.expand(1, 30)
    for location, total, found in [
        (log_mean.contiguous(), None, CellLogProb.apply),
        (torch.zeros(50, 30), log_total, CellLogProb.apply),
        (log_mean.contiguous(), None, plain),
    ]:
        of_gene = (location if total is None else location.log_softmax(-1) + total).double().exp()
        truth = nbinom.logpmf(x, shape, shape / (shape + of_gene.numpy())).sum(1)
        log_p = found(x_ng, location, total, log_theta, None).double().numpy()
        np.testing.assert_allclose(log_p, truth, rtol=1e-6, atol=1e-3 + 3e-5 * min(theta, mean))
    inputs = [each.clone().requires_grad_() for each in (log_mean, log_theta)]
    single = CellLogProb.apply(x_ng, inputs[0], None, inputs[1], None)
    double = [each.detach().double().requires_grad_() for each in inputs]
    exact = CellLogProb.apply(x_ng.double(), double[0], None, double[1], None)
    for ours, its in zip(
        torch.autograd.grad(single.sum(), inputs), torch.autograd.grad(exact.sum(), double)
    ):
        assert (ours.double() - its).abs().max() < 1e-4 * (its.abs().max() + min(theta, mean))


def test_extreme_shares_are_finite():
    location = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    args = location, torch.zeros(1, 1), torch.tensor([[-60.0, 60.0, 0.0]]), torch.zeros(1, 3)
    log_p = CellLogProb.apply(torch.tensor([[1.0, 0.0, 0.0]]), *args)
    (gradient,) = torch.autograd.grad(log_p.sum(), location)
    assert log_p.isfinite().all() and gradient.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_compiled_equals_uncompiled(shares, gated):
    x, mean, theta, gate = random_counts()
    args = (x, mean, theta, gate if gated else None)
    args = with_total(*args) if shares else (*args[:2], None, *args[2:])
    expected = value_and_gradients(CellLogProb.apply, *args)
    with compilation(True):
        found = value_and_gradients(CellLogProb.apply, *args)
    for ours, truth in zip(found, expected):
        torch.testing.assert_close(ours, truth, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_a_mean_of_zero_gives_what_its_limit_gives(shares, gated):
    x, mean, theta, gate = random_counts()
    with torch.no_grad():
        mean[:, 5], x[:, 5] = -torch.inf, 0.0
    args = (x, mean, theta, gate if gated else None)
    args = with_total(*args) if shares else (*args[:2], None, *args[2:])
    zero = value_and_gradients(CellLogProb.apply, *args)
    with torch.no_grad():
        mean[:, 5] = -80.0
    for ours, limit in zip(zero, value_and_gradients(CellLogProb.apply, *args)):
        torch.testing.assert_close(ours, limit)
    x[0, 5] = 1.0
    with torch.no_grad():
        mean[:, 5] = -torch.inf
    assert CellLogProb.apply(*args)[0] == -torch.inf


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("total", [False, True])
@pytest.mark.parametrize("gated", [False, True])
def test_what_is_absent_is_exactly_nothing(compiled, total, gated):
    """A location of nowhere and no drop-out: a log-probability of 0, and gradients of 0."""
    x, location, theta, gate = random_counts()
    absent = torch.rand(x.shape) < 0.3
    absent[:, 0] = True  # in all cells
    absent[:, 1] = False
    x = x.where(~absent, 0.0)
    location, theta = location.detach().where(~absent, NOWHERE), theta.detach()
    gate = gate.detach().where(~absent, 0.0) if gated else None
    log_total = torch.log(x.sum(-1, keepdim=True) + 1) if total else None
    inputs = [v.requires_grad_() for v in (location, log_total, theta, gate) if v is not None]
    with compilation(compiled):
        log_p = CellLogProb.apply(x, location, log_total, theta, gate)
        gradients = dict(zip(map(id, inputs), torch.autograd.grad(log_p.sum(), inputs)))
    assert (gradients[id(location)][absent] == 0).all()
    assert gradients[id(theta)][0, 0] == 0
    if gate is not None:
        assert (gradients[id(gate)][absent] == 0).all()
    # The cells' log-probability is that of the genes that they have.
    for cell in (0, 5, 11):
        has = ~absent[cell]
        log_mean = location[cell, has]
        if log_total is not None:
            log_mean = log_mean.log_softmax(-1) + log_total[cell]
        of_gate = None if gate is None else gate[cell, has]
        alone = gene_log_prob(x[cell, has], log_mean, theta[0, has], of_gate).sum()
        torch.testing.assert_close(log_p[cell], alone, rtol=1e-4, atol=1e-3)
