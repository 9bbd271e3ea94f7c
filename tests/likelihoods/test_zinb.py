import numpy as np
import pytest
import torch
from helpers.by_hand import scipy_log_prob
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit

from pyro_mgvi import ZeroInflatedNegativeBinomial

shape = (4, 3)
floats = arrays(float, shape, elements=st.floats(-4, 4))


@given(arrays(int, shape, elements=st.integers(0, 300)), floats, floats, floats)
@settings(max_examples=60, deadline=None)
@pytest.mark.slow
def test_log_prob_equals_scipy(x, log_mean, log_theta, gate_logits):
    tensors = [torch.tensor(v, dtype=torch.float64) for v in (log_mean, log_theta, gate_logits)]
    counts = torch.tensor(x, dtype=torch.float64)
    mean, theta, gate = np.exp(log_mean), np.exp(log_theta), expit(gate_logits)
    zinb = ZeroInflatedNegativeBinomial(*tensors)
    expected = scipy_log_prob(x, mean, theta, gate)
    np.testing.assert_allclose(zinb.gene_log_prob(counts), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(zinb.log_prob(counts), expected.sum(1), rtol=1e-6, atol=1e-8)
    nb = ZeroInflatedNegativeBinomial(*tensors[:2])
    expected = scipy_log_prob(x, mean, theta)
    np.testing.assert_allclose(nb.gene_log_prob(counts), expected, rtol=1e-6, atol=1e-8)


def test_means_as_shares_of_a_total_equal_means_written_out():
    location, log_theta, gate = torch.randn(5, 3), torch.randn(3), torch.randn(5, 3)
    log_total = torch.randn(4, 5)  # of 4 particles
    x = torch.poisson(torch.full((5, 3), 2.0))
    shares = ZeroInflatedNegativeBinomial(location, log_theta, gate, log_total=log_total)
    log_mean = location.log_softmax(-1) + log_total.unsqueeze(-1)
    written_out = ZeroInflatedNegativeBinomial(log_mean, log_theta, gate)
    assert shares.batch_shape == written_out.batch_shape == (4, 5)
    for name in ("mean", "variance"):
        torch.testing.assert_close(getattr(shares, name), getattr(written_out, name))
    torch.testing.assert_close(shares.log_prob(x), written_out.log_prob(x))
    torch.testing.assert_close(shares.gene_log_prob(x), written_out.gene_log_prob(x))
    wide = shares.expand((2, 4, 5))
    torch.testing.assert_close(wide.log_prob(x), shares.log_prob(x).expand(2, 4, 5))
    assert wide.sample().shape == (2, 4, 5, 3)


@pytest.mark.parametrize("gated", [True, False])
def test_written_out_backward_equals_finite_differences(gated):
    x = torch.tensor([[0.0, 1.0, 7.0], [0.0, 0.0, 120.0]], dtype=torch.float64)
    parameters = [torch.randn(2, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)]
    parameters += [torch.randn(2, 3, dtype=torch.float64)] if gated else []
    for p in parameters:
        p.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *p: ZeroInflatedNegativeBinomial(*p).log_prob(x), tuple(parameters)
    )


def test_samples_have_the_formula_s_mean_variance_and_zeros():
    log_mean, log_theta = torch.tensor([0.5, 2.0, -1.0]), torch.tensor([0.0, 1.0, 2.0])
    gate_logits = torch.tensor([-1.0, 0.5, -3.0])
    zinb = ZeroInflatedNegativeBinomial(log_mean, log_theta, gate_logits)
    x = zinb.sample((200_000,))
    zero = np.exp(scipy_log_prob(0, log_mean.exp().numpy(), log_theta.exp().numpy(),
                                 expit(gate_logits.numpy())))  # fmt: skip
    np.testing.assert_allclose((x == 0).float().mean(0), zero, atol=0.005)
    np.testing.assert_allclose(x.mean(0), zinb.mean, rtol=0.03)
    np.testing.assert_allclose(x.var(0), zinb.variance, rtol=0.06)


def test_expand_and_particles():
    zinb = ZeroInflatedNegativeBinomial(torch.randn(2, 3), torch.randn(3), torch.randn(3))
    wide = zinb.expand((5, 2))
    x = torch.poisson(torch.full((2, 3), 2.0))
    assert wide.batch_shape == (5, 2)
    torch.testing.assert_close(wide.log_prob(x), zinb.log_prob(x).expand(5, 2))
    with pytest.raises(ValueError, match="support"):
        ZeroInflatedNegativeBinomial(torch.zeros(3), torch.zeros(3), validate_args=True).log_prob(
            torch.tensor([0.5, 1.0, 2.0])
        )
