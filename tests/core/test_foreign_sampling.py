"""Sampled foreign encoders: the loss and its gradient keep their expectation."""

from functools import partial

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO

from pyro_mgvi import (
    MGVI,
    SameAsOwn,
    SeparateEncoders,
    SettingsError,
    SharedTrunk,
    TrainingPlan,
    WassersteinTraceELBO,
    divergence,
    pairwise,
    private,
    shared,
    subsets,
)
from pyro_mgvi.core.foreign_sampling import ForeignSample

FAMILIES = {
    "private": private(2),
    "pairwise": pairwise(2, name="t"),
    "a single copy of some groups": subsets("t", [["group2"]], 2),
    "overlapping": subsets("t", [["group1"], ["group1", "group3"]], 2),
}


ENCODERS = (SeparateEncoders, SharedTrunk)


def build(adata, family=FAMILIES["private"], foreign_sample=None, kind=SeparateEncoders, **keys):
    """Return a model in training mode, without noise from drop-out; the weights are the same."""
    mgvi = MGVI.from_anndata(
        adata,
        "group",
        latents=(shared(3), family),
        encoder=partial(kind, dropout=0.0),
        foreign_sample=foreign_sample,
        **keys,
    )
    mgvi.model.train(), mgvi.guide.train()
    return mgvi


def rows(mgvi, adata, keep_sparse=False):
    return mgvi.read(adata).rows(np.arange(40), keep_sparse=keep_sparse)


@pytest.fixture
def draws(monkeypatch):
    """Let the choice of cells leave the random state alone, and return all choices."""
    seen, draw = [], ForeignSample.draw

    def recorded(member_sn, n_foreign):
        with torch.random.fork_rng():
            seen.append(draw(member_sn, n_foreign))
        return seen[-1]

    monkeypatch.setattr(ForeignSample, "draw", recorded)
    return seen


def terms(mgvi, batch, elbo=None, seed=3):
    torch.manual_seed(seed)
    return (elbo or WassersteinTraceELBO()).terms(mgvi.model, mgvi.guide, *batch)


def gradients(mgvi, term):
    parameters = [*mgvi.guide.parameters(), *mgvi.model.parameters()]
    return torch.autograd.grad(term, parameters, materialize_grads=True, retain_graph=True)


def assert_same_gradients(found, expected):
    for ours, truth in zip(found, expected, strict=True):
        scale = truth.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(ours / scale, truth / scale, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 6), st.integers(2, 20), st.integers(1, 25), st.integers(0, 2**31))
def test_owners_are_encoded_and_the_others_stand_for_all(n_copies, n, n_foreign, seed):
    torch.manual_seed(seed)
    member = torch.rand(n_copies, n) < torch.rand(n_copies, 1)
    sample = ForeignSample.draw(member, n_foreign)
    most = int(member.sum(1).max())
    assert sample.index_sk.shape == (n_copies, min(n, most + n_foreign))
    assert (sample.encoded_sn.sum(1) == sample.index_sk.shape[1]).all()
    assert sample.encoded_sn[member].all()
    assert (sample.weight_sn[member] == 1).all()
    stood_for = (sample.weight_sn * (sample.encoded_sn & ~member)).sum(1)
    torch.testing.assert_close(stood_for, (~member).sum(1).float())


def test_each_foreign_cell_is_chosen_equally_often():
    member = torch.tensor([[True] * 3 + [False] * 9, [False] * 11 + [True]])
    draws = 4000
    counted = torch.zeros(2, 12)
    for _ in range(draws):
        sample = ForeignSample.draw(member, 2)
        counted += sample.encoded_sn * sample.weight_sn
    p = 1 / sample.weight_sn  # the chance of a foreign cell to be encoded
    standard_error = ((1 - p) / p / draws).sqrt()
    assert ((counted / draws - 1).abs() <= 5 * standard_error).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("keep_sparse", [False, True])
@pytest.mark.parametrize("kind", ENCODERS)
def test_a_sample_of_all_cells_gives_the_full_loss(adata, draws, family, keep_sparse, kind):
    found = []
    for foreign_sample in (None, 1000):
        mgvi = build(adata, FAMILIES[family], foreign_sample, kind, batch_key="celltype")
        values = terms(mgvi, rows(mgvi, adata, keep_sparse))
        found.append((values, gradients(mgvi, sum(values.values()))))
    (plain, truth), (ours, gradient) = found
    assert len(draws) == 1
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-3)
    assert_same_gradients(gradient, truth)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ENCODERS)
def test_a_small_sample_weighs_the_penalty_of_its_cells(adata, draws, family, kind):
    """By hand from the full posteriors; all other terms are those of the full loss."""
    full, sampled = (build(adata, FAMILIES[family], m, kind) for m in (None, 2))
    batch = rows(full, adata)
    plain, ours = terms(full, batch), terms(sampled, batch)
    (sample,) = draws
    latent = full.families["t"]
    moments = full.guide.moments(batch.counts, batch.covariates)["t"]
    q = dist.Normal(*(full.guide.at_site(latent, part) for part in moments)).to_event(1)
    gap = divergence(full.model.prior(latent, batch.group), q).reshape(sample.weight_sn.shape)
    expected = (gap * sample.weight_sn * sample.encoded_sn).sum()
    assert not sample.encoded_sn.all()
    torch.testing.assert_close(ours["t"], expected)
    assert_same_gradients(gradients(sampled, ours["t"]), gradients(full, expected))
    rest, truth = (sum(v for k, v in x.items() if k != "t") for x in (ours, plain))
    # the owners' draws are the same ones
    torch.testing.assert_close(rest, truth, rtol=1e-5, atol=1e-3)
    assert_same_gradients(gradients(sampled, rest), gradients(full, truth))


@pytest.mark.slow
def test_the_penalty_is_right_on_average(adata):
    full, sampled = (build(adata, foreign_sample=m) for m in (None, 2))
    batch = rows(full, adata)
    truth = terms(full, batch)["t"].item()
    found = [terms(sampled, batch, seed=seed)["t"].item() for seed in range(200)]
    assert np.std(found) > 0
    assert abs(np.mean(found) - truth) < 4 * np.std(found) / 200**0.5


@pytest.mark.parametrize("validate", [True, False])
def test_stock_pyro_weighs_a_sample_as_we_do(adata, validate):
    mgvi = build(adata, private(2, foreign=SameAsOwn()), foreign_sample=2)
    batch = rows(mgvi, adata)
    losses = []
    with pyro.validation_enabled(validate):
        for elbo in (WassersteinTraceELBO(), TraceMeanField_ELBO()):
            torch.manual_seed(3)
            losses.append(elbo.loss(mgvi.model, mgvi.guide, *batch))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


class HeavyTailed:
    """A prior of foreign copies whose divergence has no closed form."""

    def __call__(self, own, member):
        wide = dist.StudentT(5.0, torch.zeros(2), 0.1).to_event(1)
        return dist.MaskedMixture(member, wide.expand(member.shape), own)


def test_a_divergence_without_a_closed_form_is_weighted_too(adata, draws):
    mgvi = build(adata, private(2, foreign=HeavyTailed()), foreign_sample=2)
    batch = rows(mgvi, adata)
    ours = terms(mgvi, batch)["t"]
    torch.manual_seed(3)
    site = poutine.trace(mgvi.guide).get_trace(*batch).nodes["t"]
    q = site["fn"].base_dist
    own = torch.distributions.kl_divergence(q, dist.Normal(0.0, 1.0)).sum(-1)
    node = torch.linspace(-8, 8, 2001).reshape(-1, 1, 1, 1)  # the integral, written out
    at = q.loc + q.scale * node
    gap = q.log_prob(at) - dist.StudentT(5.0, 0.0, 0.1).log_prob(at)
    foreign = torch.trapezoid(q.log_prob(at).exp() * gap * q.scale, node, dim=0).sum(-1)
    gap = torch.where(mgvi.model.member(mgvi.families["t"], batch.group), own, foreign)
    sample = draws[0]
    # Which cells are chosen is random, and the draws are not: the same state in both runs.
    assert (sample.encoded_sn == draws[1].encoded_sn).all()
    expected = (gap * sample.weight_sn).where(sample.encoded_sn, 0).sum()
    torch.testing.assert_close(ours, expected, rtol=0.01, atol=0.0)


def test_evaluation_encodes_all_cells(adata):
    full, sampled = (build(adata, foreign_sample=m) for m in (None, 2))
    expected, found = (mgvi.latents(adata, foreign="encode") for mgvi in (full, sampled))
    for key, value in found.items():
        pd.testing.assert_frame_equal(value, expected[key], check_exact=True)


def test_the_setting_trains_and_is_saved(adata, tmp_path):
    latents = (shared(3), private(2))
    mgvi = MGVI.from_anndata(adata, "group", latents=latents, foreign_sample=4)
    mgvi.fit(adata, TrainingPlan(batch_size=32), max_epochs=3, progress=False)
    assert np.isfinite(mgvi.history.to_numpy(float)).all()
    assert mgvi.history["train"].iloc[-1] < mgvi.history["train"].iloc[0]
    mgvi.save(tmp_path / "m")
    loaded = MGVI.load(tmp_path / "m")
    assert loaded.guide.foreign_sample == 4
    assert loaded.fresh(mgvi.read(adata), seed=1).guide.foreign_sample == 4


def test_a_setting_that_means_nothing_is_refused(adata):
    with pytest.raises(SettingsError, match="foreign_sample must be at least 1"):
        build(adata, foreign_sample=0)
