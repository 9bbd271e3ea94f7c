"""Absent is not zero: what a group has not got is in no loss, gradient, latent or share."""

import warnings

import numpy as np
import pytest
import torch
from helpers.cells import log_normalised
from helpers.losses import assert_same_bits, assert_same_everywhere, losses, whole
from helpers.masked import masked, masks_of, random_masks
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import gammaln, logsumexp

import pyro_mgvi
from pyro_mgvi import MGVI, DataKind, SettingsError, private, shared
from pyro_mgvi.core import HandlesAbsent
from pyro_mgvi.kernels.sparse import to_torch
from pyro_mgvi.model.component_checks import kind_of

LATENTS = (shared(3), private(2))
LIKELIHOODS = (pyro_mgvi.ZINB, pyro_mgvi.NB, pyro_mgvi.Poisson, pyro_mgvi.Gaussian)
DECODERS = (
    pyro_mgvi.JointDecoder,
    pyro_mgvi.AdditiveDecoder,
    pyro_mgvi.LogLinearDecoder,
    pyro_mgvi.BasisDecoder,
)
ENCODERS = (pyro_mgvi.SeparateEncoders, pyro_mgvi.SharedTrunk)


def model_of(adata, **components):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pyro_mgvi.ComponentWarning)
        mgvi = MGVI.from_anndata(
            adata, "group", latents=LATENTS, feature_masks=masks_of(adata), **components
        )
    for parameter in mgvi.model.decoder.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return mgvi


@pytest.mark.slow
@given(
    st.integers(0, 10_000),
    st.sampled_from(LIKELIHOODS),
    st.sampled_from(DECODERS),
    st.sampled_from(ENCODERS),
    st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_no_bit_depends_on_what_is_written_at_absent_entries(
    adata, seed, likelihood, decoder, encoder, csr
):
    rng = np.random.default_rng(seed)
    if kind_of(likelihood) is DataKind.VALUES:
        adata = log_normalised(adata)
    has_bg = random_masks(rng, 3, adata.n_vars)
    fills = (0.0, np.nan, rng.normal(scale=50, size=adata.shape))
    first, *others = (masked(adata, has_bg, fill, csr) for fill in fills)
    torch.manual_seed(seed)
    mgvi = model_of(first, likelihood=likelihood, decoder=decoder, encoder=encoder)
    assert_same_everywhere(mgvi, first, others)


@pytest.mark.slow
@given(st.integers(0, 10_000), st.sampled_from(LIKELIHOODS), st.booleans())
@settings(max_examples=15, deadline=None)
def test_tensors_of_a_users_own_loop_are_masked_as_well(adata, seed, likelihood, csr):
    rng = np.random.default_rng(seed)
    if kind_of(likelihood) is DataKind.VALUES:
        adata = log_normalised(adata)
    has_bg = random_masks(rng, 3, adata.n_vars)
    mgvi = model_of(masked(adata, has_bg), likelihood=likelihood)
    batch = whole(mgvi, masked(adata, has_bg))
    absent_ng = torch.from_numpy(~has_bg)[batch.group]
    junk = torch.where(absent_ng, torch.randn(batch.counts.shape) * 9, batch.counts)
    junk = torch.where(absent_ng & (junk > 5), torch.nan, junk)
    if csr:
        junk = to_torch(sparse.csr_matrix(junk.numpy()))
        batch = batch._replace(counts=to_torch(mgvi.read(masked(adata, has_bg, csr=True)).x))
    assert_same_bits(losses(mgvi, batch), losses(mgvi, batch._replace(counts=junk)))
    first, second = (mgvi.posterior(batch._replace(counts=x)) for x in (batch.counts, junk))
    for name in first.moments:
        for one, two in zip(first.moments[name], second.moments[name]):
            assert torch.equal(one, two)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_cells_without_a_gene_give_its_parameters_no_gradient(adata, likelihood, decoder):
    if kind_of(likelihood) is DataKind.VALUES:
        adata = log_normalised(adata)
    has_bg = np.ones((3, adata.n_vars), bool)
    has_bg[0, 7], has_bg[1, 9] = False, False
    mgvi = model_of(masked(adata, has_bg), likelihood=likelihood, decoder=decoder)
    batch = whole(mgvi, masked(adata, has_bg))
    own = batch.group == 0
    of_group = batch._replace(
        counts=batch.counts[own],
        group=batch.group[own],
        batch=batch.batch[own],
        covariates=batch.covariates[own],
    )
    mgvi.model.decoder.log_prior = lambda: None  # which is of all weights, whatever the cells
    found = losses(mgvi, of_group)
    n_genes, looked_at = adata.n_vars, 0
    for name, gradient in found.items():
        if gradient is None or n_genes not in gradient.shape or "encoder" in name:
            continue
        axis = gradient.shape.index(n_genes)
        of_gene, of_other = (gradient.select(axis, gene) for gene in (7, 9))
        assert (of_gene == 0).all(), name
        looked_at += int((of_other != 0).any())
    assert looked_at >= 2
    first_layer = found["guide.encoder.first.weight"]
    assert (first_layer[:, 7] == 0).all()
    assert (first_layer[:, 9] != 0).any()


def test_the_likelihood_is_that_of_the_measured_genes_alone(adata):
    """NumPy's formula of the zero-inflated counts of the genes that a cell has."""
    has_bg = random_masks(np.random.default_rng(3), 3, adata.n_vars)
    mgvi = model_of(masked(adata, has_bg), decoder=pyro_mgvi.JointDecoder)
    batch = whole(mgvi, masked(adata, has_bg))
    posterior = mgvi.posterior(batch)
    with torch.no_grad():
        parts = mgvi.model.decode(posterior.means(), batch.group)
        log_size = posterior.log_library()
        found = mgvi.model.distribution(parts, log_size, batch.group)
        log_p = found.log_prob(batch.counts).numpy()
        by_gene = found.gene_log_prob(batch.counts).numpy()
    location, gate = (part.double().numpy() for part in parts[0])
    theta = mgvi.model.likelihood.log_theta.detach().double().exp().numpy()
    x, size = batch.counts.double().numpy(), log_size.double().numpy()
    for cell in range(0, len(x), 17):
        has = has_bg[batch.group[cell]]
        place, g, r, count = location[cell, has], gate[cell, has], theta[has], x[cell, has]
        mean = np.exp(place - logsumexp(location[cell, has_bg.all(0)]) + size[cell])
        nb = gammaln(count + r) - gammaln(r) - gammaln(count + 1)
        nb += r * np.log(r / (r + mean)) + count * np.log(mean / (r + mean))
        zinb = np.where(count > 0, nb, np.logaddexp(g, nb)) - np.logaddexp(0, g)
        assert log_p[cell] == pytest.approx(zinb.sum(), rel=1e-4)
        np.testing.assert_allclose(by_gene[cell, has], zinb, rtol=2e-3, atol=2e-4)
        assert (by_gene[cell, ~has] == 0).all()
        mean_found = found.mean[cell].detach().numpy()
        np.testing.assert_allclose(mean_found[has], mean / (1 + np.exp(g)), rtol=1e-3)
        assert (mean_found[~has] == 0).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS[:3])
@pytest.mark.parametrize("decoder", [pyro_mgvi.JointDecoder, pyro_mgvi.AdditiveDecoder])
def test_a_groups_own_genes_take_nothing_from_the_genes_of_all(adata, likelihood, decoder):
    """Means of common genes are the library's shares, whatever those of the others are."""
    has_bg = np.ones((3, adata.n_vars), bool)
    has_bg[0, 30:40], has_bg[1:, 40:45] = False, False
    common = has_bg.all(0)
    mgvi = model_of(masked(adata, has_bg), likelihood=likelihood, decoder=decoder)
    batch = whole(mgvi, masked(adata, has_bg))
    log_size = mgvi.model.observed_log_library(batch.counts)
    torch.testing.assert_close(log_size.exp(), batch.counts[:, common].sum(-1))
    with torch.no_grad():
        parts = mgvi.model.decode(mgvi.posterior(batch).means(), batch.group)
        parts = [(location, *(gate - 50 for gate in gates)) for location, *gates in parts]
        more = [(x + 3 * torch.from_numpy(~common), *gates) for x, *gates in parts]
        first, second = (
            mgvi.model.distribution(p, log_size, batch.group).mean for p in (parts, more)
        )
    torch.testing.assert_close(first[:, common].sum(-1), log_size.exp(), rtol=1e-4, atol=1e-4)
    if decoder is pyro_mgvi.JointDecoder:  # of a mixture, parts would be weighed anew
        torch.testing.assert_close(first[:, common], second[:, common], rtol=1e-4, atol=1e-4)
        own = torch.from_numpy(has_bg)[batch.group] & ~torch.from_numpy(common)
        torch.testing.assert_close(second[own], first[own] * np.exp(3), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_draws_are_zeros_where_a_gene_is_absent(adata, likelihood):
    has_bg = random_masks(np.random.default_rng(4), 3, adata.n_vars)
    mgvi = model_of(masked(adata, has_bg), likelihood=likelihood)
    group = torch.arange(3).repeat(50)
    drawn = mgvi.model(None, group)
    absent_ng = torch.from_numpy(~has_bg)[group]
    assert (drawn[absent_ng] == 0).all()
    assert (drawn[~absent_ng] != 0).float().mean() > 0.1


def test_sparse_and_dense_cells_are_encoded_alike(adata):
    has_bg = random_masks(np.random.default_rng(5), 3, adata.n_vars)
    mgvi = model_of(masked(adata, has_bg))
    batch = whole(mgvi, masked(adata, has_bg))
    packed = batch._replace(counts=to_torch(mgvi.read(masked(adata, has_bg, csr=True)).x))
    first, second = losses(mgvi, batch), losses(mgvi, packed)
    for name, value in first.items():
        if value is not None:
            scale = value.abs().max().clamp(min=1.0)
            torch.testing.assert_close(second[name] / scale, value / scale, rtol=1e-4, atol=1e-5)


def test_encoders_see_absent_genes_at_their_mean(adata):
    has_bg = random_masks(np.random.default_rng(6), 3, adata.n_vars)
    mgvi = model_of(masked(adata, has_bg))
    batch = whole(mgvi, masked(adata, has_bg))
    x_ng = mgvi.guide.input(batch.counts, group=batch.group)
    assert (x_ng[torch.from_numpy(~has_bg)[batch.group]] == 0).all()
    seen_g = torch.ones(adata.n_vars)
    same_ng, total_n = mgvi.guide.partial_input(batch.counts, seen_g, batch.group)
    torch.testing.assert_close(same_ng, x_ng)
    torch.testing.assert_close(total_n, batch.counts[:, has_bg.all(0)].sum(-1))
    with pytest.raises(SettingsError, match="not got the same genes: give the cells' group"):
        mgvi.guide.moments(batch.counts, batch.covariates)


def test_shares_add_up_over_measured_genes_and_predict_the_others(adata):
    has_bg = random_masks(np.random.default_rng(7), 3, adata.n_vars)
    mgvi = model_of(masked(adata, has_bg), decoder=pyro_mgvi.AdditiveDecoder)
    batch = whole(mgvi, masked(adata, has_bg))
    with torch.no_grad():
        parts = mgvi.model.decode(mgvi.posterior(batch).means(), batch.group)
        share_ng = mgvi.model.expression(parts, batch.group)
    has_ng = torch.from_numpy(has_bg)[batch.group]
    torch.testing.assert_close((share_ng * has_ng).sum(-1), torch.ones(len(has_ng)))
    assert (share_ng[~has_ng] > 0).all()


class Cut(pyro_mgvi.core.Likelihood):
    """A likelihood that says nothing of absent genes."""

    def __init__(self, initial):
        super().__init__()
        self.inner = pyro_mgvi.NB(initial)

    def forward(self, parts, log_library):
        return self.inner(parts, log_library)


def test_a_likelihood_that_cannot_leave_out_genes_is_refused(adata):
    has_bg = random_masks(np.random.default_rng(8), 3, adata.n_vars)
    assert not issubclass(Cut, HandlesAbsent)
    with pytest.raises(SettingsError, match=r"Cut does not handle .*HandlesAbsent"):
        model_of(masked(adata, has_bg), likelihood=Cut)
    MGVI.from_anndata(adata, "group", likelihood=Cut)


def test_the_weight_of_the_divergence_counts_the_genes_that_owners_have(adata):
    has_bg = np.ones((3, adata.n_vars), bool)
    has_bg[0, 2:32] = False
    plain = MGVI.from_anndata(adata, "group", latents=LATENTS)
    some = model_of(masked(adata, has_bg))
    assert some.own_weight["z"] == plain.own_weight["z"]
    assert some.own_weight["t"] < plain.own_weight["t"]
