"""Priors of a decoder's weights: of loadings, and of how groups respond differently."""

import numpy as np
import pytest
import torch

from pyro_mgvi import JointDecoder, LogLinearDecoder
from pyro_mgvi.core import InitialValues, Latents, private, shared, subsets

GROUPS = ("a", "b", "c")
SOME = Latents((shared(2), private(1), subsets("some", [["a", "b"]], 2)), GROUPS)


def test_the_prior_of_loadings_is_a_cauchy():
    initial = InitialValues.blank(7, 3, n_covariates=1)
    decoder = JointDecoder(SOME, initial, 2, hidden=4, sparsity=0.2, response=0.0)
    weights = [decoder.linear.T, decoder.trunk.weight]
    w = np.concatenate([x.detach().numpy()[:, :-1].ravel() for x in weights])  # not the covariate
    cauchy = -np.log(np.pi * 0.2 * (1 + (w / 0.2) ** 2))
    at_zero = -np.log(np.pi * 0.2) * len(w)
    assert len(w) == (7 + 4) * 7
    assert decoder.log_prior().item() == pytest.approx(cauchy.sum() - at_zero, rel=1e-5)
    linear = LogLinearDecoder(SOME, initial, 1, sparsity=0.2)
    w = linear.heads[0].weight.detach().numpy()[:, :-1]
    expected = -np.log1p((w / 0.2) ** 2).sum()
    assert linear.log_prior().item() == pytest.approx(expected, rel=1e-5)


def test_how_far_groups_may_respond_differently_follows_from_how_far_their_means_differ():
    offset_bg = torch.tensor([[-1.0, 0.1, 0.2], [0.0, -0.3, 2.0], [0.5, 0.1, 0.2]])
    initial = InitialValues.blank(3, 3)._replace(offset_bg=offset_bg)
    decoder = JointDecoder(SOME, initial, 1, sparsity=0.0)
    assert decoder.response_scale.item() == pytest.approx(0.3 * 0.2)
    assert decoder.log_prior().item() == 0  # responses start at zero
    torch.nn.init.ones_(decoder.response)
    expected = -0.5 * decoder.response.numel() / 0.06**2
    assert decoder.log_prior().item() == pytest.approx(expected, rel=1e-5)
    alike = JointDecoder(SOME, InitialValues.blank(3, 3), 1)
    assert alike.response_scale.item() == pytest.approx(1e-3)
    assert JointDecoder(SOME, initial, 1, response=0.0).response is None
