"""Likelihoods side by side, and those of proteins and chromatin, against independent formulas."""

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_mgvi import NB, ZINB, Bernoulli, Gaussian, Poisson, ProteinNB, SettingsError
from pyro_mgvi.core import InitialValues, Modalities
from pyro_mgvi.likelihoods import ModalityLikelihoods, SideBySide
from pyro_mgvi.likelihoods.measured import log_totals

MODALITIES = Modalities(("rna", "prot"), (4, 3))


def initial(n=7):
    torch.manual_seed(0)
    blank = InitialValues.blank(n, 2, modalities=MODALITIES if n == 7 else None)
    return blank._replace(log_theta_g=torch.randn(n), log_rate_g=torch.randn(n) - 2)


def shares(location):
    return torch.softmax(location, -1).double().numpy()


def nb_log_p(x, mean, theta):
    return stats.nbinom.logpmf(x, theta, theta / (theta + mean))


@pytest.fixture
def outputs():
    torch.manual_seed(1)
    location, gate = torch.randn(5, 7), torch.randn(5, 7) - 1
    counts = torch.poisson(torch.full((5, 7), 3.0))
    return location, gate, counts


def test_a_cell_is_the_sum_of_its_modalities(outputs):
    location, gate, counts = outputs
    start = initial()
    both = ModalityLikelihoods(start, {"rna": ZINB, "prot": NB})
    total_nk = MODALITIES.totals(counts)
    found = both([(location, gate)], log_totals(total_nk)).gene_log_prob(counts)
    theta = start.log_theta_g.exp().double().numpy()
    x, totals = counts.numpy(), total_nk.double().numpy()
    rna = shares(location[:, :4]) * totals[:, :1]
    drop = torch.sigmoid(gate[:, :4]).double().numpy()
    log_p = np.log1p(-drop) + nb_log_p(x[:, :4], rna, theta[:4])
    log_p = np.where(x[:, :4] == 0, np.logaddexp(np.log(drop), log_p), log_p)
    prot = nb_log_p(x[:, 4:], shares(location[:, 4:]) * totals[:, 1:], theta[4:])
    np.testing.assert_allclose(found.detach(), np.hstack([log_p, prot]), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("of_prot", [NB, ZINB, Poisson, Bernoulli, ProteinNB])
def test_a_modality_that_a_cell_has_not_got_is_nothing_to_the_last_bit(outputs, of_prot):
    location, gate, counts = outputs
    counts[2, 4:] = 0.0
    both = ModalityLikelihoods(initial(), {"rna": ZINB, "prot": of_prot})
    location.requires_grad_(), gate.requires_grad_()
    log_library = log_totals(MODALITIES.totals(counts))
    log_p = both([(location, gate)], log_library)
    assert (log_p.gene_log_prob(counts)[2, 4:] == 0).all()
    assert (log_p.mean[2, 4:] == 0).all()
    log_p.log_prob(counts)[2].backward()
    assert (location.grad[2, 4:] == 0).all() and (gate.grad[2, 4:] == 0).all()
    assert (location.grad[2, :4] != 0).all()
    for name, weight in both.parts["prot"].named_parameters():
        assert (weight.grad == 0).all(), name


def test_log_prob_is_the_sum_over_features(outputs):
    location, gate, counts = outputs
    both = ModalityLikelihoods(initial(), {"rna": ZINB, "prot": Poisson})
    found = both([(location, gate)], log_totals(MODALITIES.totals(counts)))
    total = found.gene_log_prob(counts).sum(-1)
    torch.testing.assert_close(found.log_prob(counts), total, rtol=1e-4, atol=1e-4)
    assert found.sample().shape == found.mean.shape == found.variance.shape == (5, 7)


def test_expression_adds_up_to_one_within_each_modality(outputs):
    location, gate, _ = outputs
    both = ModalityLikelihoods(initial(), {"rna": ZINB, "prot": NB})
    share = both.expression([(location, gate)])
    torch.testing.assert_close(MODALITIES.totals(share), torch.ones(5, 2))
    measured = torch.ones(5, 7, dtype=torch.bool)
    measured[0, 4:] = False  # no protein: a prediction, among proteins
    torch.testing.assert_close(both.expression_of_measured([(location, gate)], measured), share)


def test_regions_are_open_by_their_expected_fragments(outputs):
    location, _, counts = outputs
    size = torch.full((5,), 3.0).log()
    found = Bernoulli(initial())([(location,)], size)
    p_open = 1 - np.exp(-3.0 * shares(location))
    expected = np.where(counts.numpy() > 0, np.log(p_open), np.log1p(-p_open)).sum(1)
    np.testing.assert_allclose(found.log_prob(counts), expected, rtol=1e-4)
    np.testing.assert_allclose(found.mean, p_open, rtol=1e-4)


def test_proteins_are_foreground_on_a_background(outputs):
    location, gate, counts = outputs
    start, size = initial(), torch.full((5,), 40.0).log()
    likelihood = ProteinNB(start)
    found = likelihood([(location, gate)], size)
    theta, pi = start.log_theta_g.exp().double().numpy(), torch.sigmoid(gate).double().numpy()
    background = 40 * likelihood.log_background.exp().detach().double().numpy()
    parts = [nb_log_p(counts.numpy(), mean, theta) for mean in (background, 40 * shares(location))]
    expected = np.logaddexp(np.log(pi) + parts[0], np.log1p(-pi) + parts[1])
    np.testing.assert_allclose(
        found.base_dist.log_prob(counts).detach(), expected, rtol=2e-4, atol=2e-5
    )


@pytest.mark.slow
def test_moments_of_proteins_are_those_of_draws(outputs):
    location, gate, _ = outputs
    found = ProteinNB(initial())([(location, gate)], torch.full((5,), 5.0))
    torch.manual_seed(0)
    drawn = torch.stack([found.sample() for _ in range(4000)])
    error = (found.variance / 4000).sqrt()
    assert ((drawn.mean(0) - found.mean).abs() < 5 * error).all()
    assert (drawn.var(0) / found.variance).log().abs().median() < 0.1


def test_likelihoods_of_other_names_or_of_values_are_refused():
    with pytest.raises(SettingsError, match=r"likelihoods of \['rna'\].*\['rna', 'prot'\]"):
        ModalityLikelihoods(initial(), {"rna": NB})
    with pytest.raises(SettingsError, match="'prot': Gaussian is of transformed values"):
        ModalityLikelihoods(initial(), {"rna": NB, "prot": Gaussian})
    with pytest.raises(SettingsError, match="library sizes"):
        ModalityLikelihoods(initial(), {"rna": NB, "prot": NB})([(torch.zeros(1, 7),)], None)


def test_side_by_side_expands():
    parts = [torch.distributions.Poisson(torch.ones(3)), torch.distributions.Poisson(torch.ones(2))]
    import pyro.distributions as dist

    cells = SideBySide([dist.Poisson(part.rate).to_event(1) for part in parts]).expand([4])
    assert cells.batch_shape == (4,) and cells.log_prob(torch.zeros(4, 5)).tolist() == [-5.0] * 4
