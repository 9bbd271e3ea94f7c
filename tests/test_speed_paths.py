"""No fast path changes a result: sparse, compiled and blocked against the plain formulas."""

from functools import partial

import numpy as np
import pyro
import pytest
import torch

import pyro_mgvi
from pyro_mgvi import (
    MGVI,
    JointDecoder,
    LogLinearDecoder,
    WassersteinTraceELBO,
    compiled,
    zinb_terms,
)
from pyro_mgvi.kernels.compiled import compilation
from pyro_mgvi.networks.layers import dropout, log_cauchy
from pyro_mgvi.training.trainer import Objective
from pyro_mgvi.kernels.zinb_terms import CellLogProb, gene_log_prob

LATENTS = (pyro_mgvi.shared(3), pyro_mgvi.private(2))


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


def test_single_precision_keeps_large_counts():
    x, mean, theta, gate = random_counts(dtype=torch.float64)
    x[:, 0] = torch.logspace(0, 6, len(x)).round()
    truth = plain(x, mean, None, theta, gate)
    single = CellLogProb.apply(x.float(), mean.float(), None, theta.float(), gate.float())
    torch.testing.assert_close(single.double(), truth, rtol=1e-5, atol=1e-3)


def test_extreme_shares_are_finite():
    location = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    args = location, torch.zeros(1, 1), torch.tensor([[-60.0, 60.0, 0.0]]), torch.zeros(1, 3)
    log_p = CellLogProb.apply(torch.tensor([[1.0, 0.0, 0.0]]), *args)
    (gradient,) = torch.autograd.grad(log_p.sum(), location)
    assert log_p.isfinite().all() and gradient.isfinite().all()


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


def test_without_a_compiler_the_plain_code_runs(monkeypatch):
    def no_compiler(*args, **kwargs):
        def fail(*args):
            raise RuntimeError("no compiler")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    monkeypatch.setattr(compiled, "_broken", False)
    function = compiled.compilable(plain=lambda x: x + 1)(lambda x: x + 1)
    with compilation(True):
        assert function(torch.tensor(1.0)) == 2
    assert compiled._broken


@pytest.mark.parametrize("encoder", [pyro_mgvi.SeparateEncoders, pyro_mgvi.SharedTrunk])
@pytest.mark.parametrize("batch_key", [None, "celltype"])
def test_a_sparse_minibatch_gives_the_dense_loss_and_gradients(adata, encoder, batch_key):
    mgvi = MGVI.from_anndata(adata, "group", batch_key=batch_key, latents=LATENTS, encoder=encoder)
    data = mgvi.read(adata)
    objective = Objective(mgvi.model, mgvi.guide, WassersteinTraceELBO())
    found = []
    for keep_sparse in (False, True):
        batch = data.rows(np.arange(50), keep_sparse=keep_sparse)
        assert (batch.counts.layout == torch.sparse_csr) == keep_sparse
        torch.manual_seed(0)
        objective.zero_grad()
        with pyro_mgvi.training.trainer.pyro.settings.context(module_local_params=True):
            sum(objective(*batch).values()).backward()
        found.append({k: p.grad for k, p in objective.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        scale = gradient.abs().max().clamp(min=1)
        torch.testing.assert_close(found[1][name] / scale, gradient / scale, rtol=1e-4, atol=1e-5)


def test_latents_of_mostly_zero_counts_are_those_of_dense_ones(adata, monkeypatch):
    mgvi = MGVI.from_anndata(adata, "group", latents=LATENTS)
    dense = mgvi.latents(adata)
    monkeypatch.setattr("pyro_mgvi.data.grouped_counts.DENSITY", 1.1)
    assert mgvi.read(adata).mostly_zero
    for key, value in mgvi.latents(adata).items():
        np.testing.assert_allclose(value, dense[key], rtol=1e-4, atol=1e-5)


def loss_and_gradients(mgvi, batch):
    torch.manual_seed(0)
    parameters = dict(mgvi.model.named_parameters()) | dict(mgvi.guide.named_parameters())
    loss = sum(WassersteinTraceELBO().terms(mgvi.model, mgvi.guide, *batch).values())
    values = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    return loss.item(), dict(zip(parameters, values))


@pytest.mark.parametrize(
    "decoder",
    [
        partial(JointDecoder, response=0.1),
        LogLinearDecoder,
        partial(JointDecoder, hidden=0, response=0.1),
        partial(JointDecoder, linear=False, response=0.1),
        partial(JointDecoder, offset=False, response=0.1),
        partial(JointDecoder, response=0.0),
        partial(JointDecoder, linear=False, offset=False, response=0.0),
    ],
)
@pytest.mark.parametrize("families", [("z", "t"), ("t", "z", "pair"), ("t", "some")])
def test_each_group_s_own_columns_give_the_dense_product(adata, monkeypatch, decoder, families):
    some = pyro_mgvi.subsets("some", [["group1", "group3"], ["group3"]], 2)
    known = {"z": LATENTS[0], "t": LATENTS[1], "pair": pyro_mgvi.pairwise(2), "some": some}
    mgvi = MGVI.from_anndata(
        adata,
        "group",
        batch_key="celltype",
        latents=[known[name] for name in families],
        decoder=decoder,
    )
    for parameter in mgvi.model.decoder.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    data = mgvi.read(adata)
    for cells in (np.arange(50), np.flatnonzero(data.group_n != 1)[:30]):  # or without a group
        batch = data.rows(cells)
        dense_loss, dense = loss_and_gradients(mgvi, batch)
        with monkeypatch.context() as patch:
            patch.setattr("pyro_mgvi.networks.joint_decoder.GROUP_BY_GROUP", 1)
            loss, found = loss_and_gradients(mgvi, batch)
        assert loss == pytest.approx(dense_loss, rel=1e-6)
        for name, gradient in dense.items():
            scale = gradient.abs().max().clamp(min=1)
            torch.testing.assert_close(found[name] / scale, gradient / scale, rtol=1e-4, atol=1e-5)


def test_many_groups_take_their_own_columns_only_for_their_own_offsets(adata, monkeypatch):
    """Averaged offsets use every group's; several draws at once keep the dense product."""
    mgvi = MGVI.from_anndata(adata, "group", latents=LATENTS)
    mgvi.model.decoder.response.data.normal_()
    expected = mgvi.normalized_expression(adata, latents=["z"])
    monkeypatch.setattr("pyro_mgvi.networks.joint_decoder.GROUP_BY_GROUP", 1)
    found = mgvi.normalized_expression(adata, latents=["z"])
    np.testing.assert_array_equal(found, expected)
    batch = mgvi.read(adata).rows(np.arange(20))
    losses = []
    for threshold in (1, 99):
        monkeypatch.setattr("pyro_mgvi.networks.joint_decoder.GROUP_BY_GROUP", threshold)
        torch.manual_seed(0)
        elbo = WassersteinTraceELBO(num_particles=2, vectorize_particles=True)
        losses.append(elbo.loss(mgvi.model, mgvi.guide, *batch))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_unscored_latent_sites_leave_the_loss_as_it_is(mgvi, batch, weight):
    found = []
    for validate in (True, False):  # validation scores all sites, as stock Pyro does
        with pyro.validation_enabled(validate):
            torch.manual_seed(0)
            elbo = WassersteinTraceELBO(own_weight={"t": weight})
            found.append(elbo.terms(mgvi.model, mgvi.guide, *batch))
    torch.testing.assert_close(*found, rtol=0, atol=0)


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


def test_drop_out_keeps_the_share_and_the_mean_of_what_it_is_given():
    torch.manual_seed(0)
    h = torch.ones(7, 301, 203, requires_grad=True)  # not a multiple of four
    dropped = dropout(h, 0.1, training=True)
    kept = (dropped > 0).float()
    assert abs(kept.mean() - 0.9) < 5 * (0.09 / h.numel()) ** 0.5
    torch.testing.assert_close(dropped, kept / 0.9)
    excess = kept.flatten() - 0.9
    for lag in (1, 4):  # the bits of one draw, and two draws, are independent
        assert abs((excess[lag:] * excess[:-lag]).mean()) < 5 * 0.09 / h.numel() ** 0.5
    (gradient,) = torch.autograd.grad(dropped.sum(), h)
    torch.testing.assert_close(gradient, kept / 0.9)
    assert dropout(h, 0.1, training=False) is h
    assert not torch.equal(dropped, dropout(h, 0.1, training=True))


def test_the_prior_of_loadings_and_its_gradient_are_those_of_the_formula():
    weight = torch.randn(5, 4, dtype=torch.float64)[:, :3].requires_grad_()  # not contiguous
    value = log_cauchy(weight, 0.2)
    plain = -torch.log1p((weight / 0.2).square()).sum()
    torch.testing.assert_close(value, plain)
    ours, truth = (torch.autograd.grad(3 * each, weight)[0] for each in (value, plain))
    torch.testing.assert_close(ours, truth)
