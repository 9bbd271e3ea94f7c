"""The divergence of a posterior from each prior, against formulas and samples."""

import math

import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad
from torch.distributions import kl_divergence

from pyro_mgvi.core import Absent, Dirac, SameAsOwn, divergence

numbers = st.floats(-5, 5, allow_nan=False)
positive = st.floats(0.01, 5)


@given(numbers, positive, numbers)
@settings(max_examples=50, deadline=None)
def test_dirac_is_the_squared_wasserstein_distance(mean, scale, at):
    q = dist.Normal(torch.tensor([mean]), torch.tensor([scale])).to_event(1)
    value = divergence(dist.Delta(torch.tensor([at]), event_dim=1), q)
    assert math.isclose(value.item(), (mean - at) ** 2 + scale**2, rel_tol=1e-4, abs_tol=1e-5)


def test_dirac_distance_by_optimal_transport_of_samples():
    # All mass moves to one point, so the transport cost is the mean squared distance to it.
    q = dist.LogNormal(torch.tensor([0.1]), torch.tensor([0.3])).to_event(1)
    cost = ((q.sample((400_000,)) - 2.0) ** 2).mean()
    value = divergence(dist.Delta(torch.tensor([2.0]), event_dim=1), q)
    assert value.item() == pytest.approx(cost.item(), rel=0.01)


def test_dirac_with_a_full_covariance_posterior():
    covariance = torch.tensor([[2.0, 0.7], [0.7, 1.0]])
    q = dist.MultivariateNormal(torch.tensor([1.0, -2.0]), covariance)
    expected = 1.0 + 4.0 + covariance.trace()
    for prior in (dist.Delta(torch.zeros(2), event_dim=1), dist.Delta(torch.zeros(2)).to_event(1)):
        assert divergence(prior, q).item() == pytest.approx(expected.item())


def test_normal_prior_with_a_full_covariance_posterior():
    covariance = torch.tensor([[2.0, 0.7], [0.7, 1.0]])
    mean = torch.tensor([1.0, -2.0])
    q = dist.MultivariateNormal(mean, covariance)
    prior = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    expected = 0.5 * (covariance.trace() + mean @ mean - 2 - covariance.logdet())
    assert divergence(prior, q).item() == pytest.approx(expected.item(), rel=1e-5)


def test_normal_prior_is_torch_s_kl():
    q = dist.Normal(torch.randn(4, 3), torch.rand(4, 3) + 0.1).to_event(1)
    prior = dist.Normal(torch.zeros(3), 1.0).to_event(1)
    torch.testing.assert_close(divergence(prior, q), kl_divergence(q, prior))


MEMBER = torch.tensor([[True, False, True], [False, True, False]])


def posterior():
    return dist.Normal(torch.randn(2, 3, 4), torch.rand(2, 3, 4) + 0.1).to_event(1)


@pytest.mark.parametrize("expand", [False, True])
def test_masked_mixture_chooses_per_cell(expand):
    own = dist.Normal(torch.zeros(4), 1.0).to_event(1)
    q, prior = posterior(), Dirac()(own, MEMBER)
    if expand:
        prior = prior.expand((2, 3))
    squared = (q.mean**2 + q.variance).sum(-1)
    expected = torch.where(MEMBER, kl_divergence(q, own.expand((2, 3))), squared)
    torch.testing.assert_close(divergence(prior, q), expected)


def test_absent_leaves_foreign_copies_out_and_same_as_own_keeps_them():
    own = dist.Normal(torch.zeros(4), 1.0).to_event(1)
    q = posterior()
    kl = kl_divergence(q, own.expand((2, 3)))
    torch.testing.assert_close(divergence(Absent()(own, MEMBER), q), kl * MEMBER)
    torch.testing.assert_close(divergence(SameAsOwn()(own, MEMBER), q), kl)


def test_users_register_their_own_prior():
    class Wide(dist.Normal):
        pass

    @divergence.register
    def _(prior: Wide, posterior):
        return posterior.mean.abs().sum(-1)

    q = dist.Normal(torch.tensor([[1.0, -2.0]]), 1.0).to_event(1)
    assert divergence(Wide(torch.zeros(2), 1.0), q).item() == 3.0


def test_a_registered_prior_may_be_one_of_independent_dimensions():
    class Near(dist.Normal):
        pass

    @divergence.register
    def _(prior: Near, posterior):
        assert isinstance(posterior, dist.Normal)
        return (posterior.mean - prior.mean).abs()

    q = dist.Normal(torch.tensor([[1.0, -2.0]]), 1.0).to_event(1)
    prior = Near(torch.zeros(2), 1.0).to_event(1)
    assert divergence(prior, q).tolist() == [3.0]
    mixed = Dirac()(prior, torch.tensor([[True], [False]]))
    torch.testing.assert_close(divergence(mixed, q), torch.tensor([[3.0], [1.0 + 4.0 + 2.0]]))


@pytest.mark.parametrize(
    "prior, by_scipy",
    [
        (dist.StudentT(4.0, 0.0, 1.0), stats.t(4.0)),
        (dist.Cauchy(1.0, 2.0), stats.cauchy(1.0, 2.0)),
        (dist.Logistic(0.0, 0.5), stats.logistic(0.0, 0.5)),
    ],
)
def test_without_a_closed_form_it_is_the_integral(prior, by_scipy):
    q = dist.Normal(torch.tensor([0.0, 1.0, -3.0, 6.0]), torch.tensor([1.0, 0.1, 0.5, 2.0]))
    expected = []
    for loc, scale in zip(q.loc, q.scale):
        density = stats.norm(float(loc), float(scale))

        def gap(x, density=density):
            return density.pdf(x) * (density.logpdf(x) - by_scipy.logpdf(x))

        expected.append(quad(gap, loc - 12 * scale, loc + 12 * scale, limit=200)[0])
    torch.testing.assert_close(divergence(prior, q), torch.tensor(expected), rtol=1e-3, atol=1e-3)
    q = q.expand((2, 4)).to_event(1)
    own = prior.expand((4,)).to_event(1)
    found = divergence(Dirac()(own, torch.tensor([True, False])), q)
    squared = (q.mean**2 + q.variance).sum(-1)[1]
    expected = torch.stack([torch.tensor(expected).sum(), squared])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    absent = divergence(Absent()(own, torch.tensor([True, False])), q)
    torch.testing.assert_close(absent, expected * torch.tensor([1.0, 0.0]), rtol=1e-3, atol=1e-3)
