"""Effects of samples, their prior and their posterior, against formulas and exact answers."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro.infer import SVI

from pyro_mgvi import WassersteinTraceELBO
from pyro_mgvi.core.sample_effects import (
    GAIN,
    SITE,
    SPREAD,
    EffectPosterior,
    EffectPrior,
    compared,
    of_cells,
    shifted,
)

SEEDS = st.integers(0, 2**32 - 1)


def drawn_at_random(seed, n_samples=5, n_genes=4, n_groups=2):
    """Return a prior and a posterior with random weights, and who has cells of which group."""
    torch.manual_seed(seed)
    member_sb = torch.rand(n_samples, n_groups) < 0.5
    member_sb[torch.arange(n_samples), torch.randint(n_groups, (n_samples,))] = True
    prior, posterior = EffectPrior(n_samples, n_genes), EffectPosterior(member_sb, n_genes)
    for weight in (*prior.parameters(), *posterior.parameters()):
        weight.data += 0.1 * torch.randn_like(weight)
    return prior, posterior, member_sb


@given(SEEDS)
def test_samples_are_compared_where_groups_connect_them(seed):
    *_, member_sb = drawn_at_random(seed, n_samples=6, n_groups=5)
    path = member_sb.float() @ member_sb.float().T + torch.eye(6)
    connected = torch.linalg.matrix_power(path, 6).numpy() > 0
    block_s = compared(member_sb.numpy())
    np.testing.assert_array_equal(block_s[:, None] == block_s, connected)


@given(SEEDS)
def test_a_shift_that_compared_samples_have_in_common_is_no_effect(seed):
    _, posterior, _ = drawn_at_random(seed)
    before, scale = (x.detach().clone() for x in posterior.moments())
    blocks = posterior.block_s.unique()
    for block in blocks:
        mine = posterior.block_s == block
        assert before[mine].mean(0).abs().max() < 1e-6
        posterior.raw_location_sg.data[mine] += torch.randn(1, before.shape[1])
    after, _ = posterior.moments()
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    assert (scale > 0).all()


def test_a_sample_without_a_gene_has_no_effect_on_it_and_no_say_in_the_mean():
    member_sb = torch.tensor([[True, True], [True, True], [True, False]])
    measured_bg = torch.tensor([[True, False], [True, True]])
    posterior = EffectPosterior(member_sb, 2, measured_bg)
    raw_sg = torch.tensor([[1.0, 4.0], [2.0, 8.0], [6.0, 100.0]]) / GAIN
    posterior.raw_location_sg.data = raw_sg
    location_sg, _ = posterior.moments()
    expected = torch.tensor([[-2.0, -2.0], [-1.0, 2.0], [3.0, 0.0]])
    torch.testing.assert_close(location_sg.detach(), expected)


@given(SEEDS)
def test_the_loss_of_the_effects_is_the_divergence_of_normals(seed):
    prior, posterior, _ = drawn_at_random(seed)
    with torch.no_grad():
        terms = WassersteinTraceELBO().terms(lambda: prior.drawn(None), posterior.drawn)
    location, scale = (x.detach().double().numpy() for x in posterior.moments())
    sigma = np.exp(prior.log_scale_g.detach().double().numpy())
    kl = np.log(sigma / scale) + (scale**2 + location**2) / (2 * sigma**2) - 0.5
    assert float(terms[SITE]) == pytest.approx(kl.sum(), rel=1e-4, abs=1e-4)
    gap = (np.log(sigma) - GAIN * float(prior.raw_typical.detach())) / SPREAD
    assert float(terms["sample_scale_prior"]) == pytest.approx(0.5 * (gap**2).sum(), rel=1e-4)


def test_cells_get_the_effect_of_their_sample_and_unknown_ones_none():
    effect_sg = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    found = of_cells(effect_sg, torch.tensor([1, -1, 0, 1]))
    assert found.tolist() == [[3, 4], [0, 0], [1, 2], [3, 4]]
    particles = torch.stack([effect_sg, -effect_sg]).unsqueeze(1)  # (particles, 1, samples, genes)
    assert of_cells(particles, torch.tensor([1]))[:, 0, 0].tolist() == [[3, 4], [-3, -4]]


def test_additive_parts_grow_by_one_factor():
    parts = [(torch.randn(3, 4), torch.zeros(3, 4)), (torch.randn(3, 4), torch.ones(3, 4))]
    effect_ng = torch.randn(3, 4)
    after = shifted(parts, effect_ng)
    total = sum(location.exp() for location, _ in after)
    torch.testing.assert_close(total, sum(x.exp() for x, _ in parts) * effect_ng.exp())
    assert [gate is before for (_, gate), (_, before) in zip(after, parts)] == [True, True]
    assert shifted(parts, None) is parts


@pytest.mark.slow
def test_a_linear_model_s_effects_and_their_scale_are_the_exact_ones():
    """Values of cells around their sample's effect: empirical Bayes has a closed form."""
    n_samples, n_cells, rng = 40, 5, np.random.default_rng(0)
    sample_n = torch.arange(n_samples).repeat_interleave(n_cells)
    effect_s = rng.normal(scale=0.7, size=n_samples)
    y_n1 = torch.from_numpy(effect_s).float()[sample_n] + torch.randn(len(sample_n))
    mean_s1 = y_n1.view(n_samples, n_cells).mean(1, keepdim=True)
    y_n1 = (y_n1 - mean_s1.mean()).unsqueeze(1)
    mean_s = (mean_s1 - mean_s1.mean()).squeeze(1).double()
    # The marginal of a sample's mean is normal with variance sigma^2 + 1 / n.
    variance = float((mean_s**2).mean()) - 1 / n_cells
    assert variance > 0.1
    prior = EffectPrior(n_samples, 1)
    posterior = EffectPosterior(torch.ones(n_samples, 1, dtype=torch.bool), 1)

    def model():
        pyro.module("prior", prior)
        effect_n1 = prior.drawn(sample_n)
        with pyro.plate("cells", len(y_n1)):
            pyro.sample("y", dist.Normal(effect_n1, 1.0).to_event(1), obs=y_n1)

    def guide():
        pyro.module("posterior", posterior)
        posterior.drawn()

    rates = {"lr": 0.05, "lrd": 0.995}
    elbo = WassersteinTraceELBO(num_particles=20, vectorize_particles=True, max_plate_nesting=1)
    svi = SVI(model, guide, pyro.optim.ClippedAdam(rates), loss=elbo)
    for _ in range(1000):
        svi.step()
    precision = n_cells + 1 / variance
    location_s, scale_s = (x.detach().squeeze(1) for x in posterior.moments())
    assert float(prior.log_scale_g.detach().exp()) == pytest.approx(math.sqrt(variance), rel=0.05)
    np.testing.assert_allclose(location_s, n_cells * mean_s / precision, atol=0.05)
    np.testing.assert_allclose(scale_s, precision**-0.5, rtol=0.1)
