"""The objective against stock Pyro, equation 11 in NumPy, and other ways to write it."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from helpers import by_hand
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

from pyro_mgvi import MGVI, SettingsError
from pyro_mgvi.core import SameAsOwn, WassersteinTraceELBO, private, shared


def loss(elbo, mgvi, batch, seed=3):
    torch.manual_seed(seed)
    return elbo.loss(mgvi.model, mgvi.guide, *batch)


def test_equals_the_stock_elbo_with_normal_priors(adata):
    latents = (shared(3), private(2, foreign=SameAsOwn()))
    mgvi = MGVI.from_anndata(adata, "group", latents=latents)
    batch = next(mgvi.read(adata).minibatches(64, seed=0))
    ours, stock = (
        loss(elbo, mgvi, batch) for elbo in (WassersteinTraceELBO(), TraceMeanField_ELBO())
    )
    assert ours == stock


def equation_11(mgvi, batch):
    """Write the paper's equation 11 out by hand, in NumPy and scipy, for the same draws."""
    draws, moments = by_hand.guide_draws(mgvi, batch)
    group = batch.group.numpy()
    own = group == np.arange(3)[:, None]

    weights = by_hand.decoder_weights(mgvi)
    inputs = np.concatenate([draws["z"], *(draws["t"] * own[..., None])], axis=1)
    eta, gate = by_hand.hidden_layer(weights, inputs)
    eta = eta + inputs @ weights["linear"] + weights["offset"][group]
    response = weights["response"].reshape(3, 3, -1)[group]  # one (dim x genes) matrix per group
    eta = eta + np.einsum("nk,nkg->ng", draws["z"], response)
    log_p = by_hand.zinb_log_prob(mgvi, batch, eta, gate, draws["library"])

    kl, wasserstein = by_hand.kl_to_standard_normal, by_hand.squared_wasserstein_to_zero
    p = mgvi.model.library_prior(None, len(group))
    kl_library = by_hand.kl_of_library(*moments["library"], p.loc.numpy(), p.scale.numpy())
    slopes, n_inputs = mgvi.model.decoder.response_scale.item(), inputs.shape[1]
    readers = [weights["linear"][:n_inputs].ravel(), weights["trunk.weight"][:, :n_inputs].ravel()]
    return {
        "counts": -log_p,
        "z": kl(*moments["z"]).sum(),
        "t": np.where(own, kl(*moments["t"]), wasserstein(*moments["t"])).sum(),
        "library": kl_library.sum(),
        # responses of the groups are normal a priori, loadings Cauchy with scale 0.05
        "decoder_prior": 0.5 * (weights["response"] ** 2).sum() / slopes**2
        + np.log1p((np.concatenate(readers) / 0.05) ** 2).sum(),
    }


def test_equals_equation_11_written_out_by_hand(mgvi, batch):
    by_hand.away_from_start(mgvi)
    by_hand.assert_terms_equal(mgvi, batch, equation_11(mgvi, batch))


def test_equals_a_mask_plus_factor_formulation(mgvi, batch):
    """Stock Pyro: the owners' prior masked to their cells, the penalty as a factor."""
    member = mgvi.model.member(mgvi.model.latents["t"], batch.group)
    standard = {d: dist.Normal(torch.zeros(d), 1.0).to_event(1) for d in (3, 2)}

    def program(z, t, library, counts=None):
        values = {}
        with pyro.plate("cells", len(batch.group), dim=-1):
            values["z"] = pyro.sample("z", z)
            with pyro.plate("t_copies", 3, dim=-2), poutine.mask(mask=member):
                values["t"] = pyro.sample("t", t)
            size = pyro.sample("library", library)
            if counts is not None:
                stacked = {"z": values["z"][None], "t": values["t"]}
                parts = mgvi.model.decode(stacked, batch.group, batch.covariates)
                pyro.sample("counts", mgvi.model.likelihood(parts, size.log()), obs=counts)
        if counts is not None:
            pyro.factor("decoder_prior", mgvi.model.decoder.log_prior())

    def guide():
        q = mgvi.guide.moments(batch.counts, batch.covariates)
        z = (part[0] for part in q["z"])  # a single copy has no plate
        normals = (dist.Normal(*moments).to_event(1) for moments in (z, q["t"]))
        program(*normals, dist.LogNormal(*q["library"]))

    def model():
        library = mgvi.model.library_prior(batch.batch, len(batch.group))
        program(standard[3], standard[2], library, batch.counts)
        loc, scale = mgvi.guide.moments(batch.counts, batch.covariates)["t"]
        pyro.factor("penalty", -((loc**2 + scale**2).sum(-1) * ~member).sum())

    torch.manual_seed(3)
    expected = TraceMeanField_ELBO().loss(model, guide)
    assert loss(WassersteinTraceELBO(), mgvi, batch) == pytest.approx(expected, rel=1e-6)


def test_terms_add_up_to_the_loss_and_weights_act_on_owned_copies(mgvi, batch):
    def terms(**weights):
        torch.manual_seed(3)
        return WassersteinTraceELBO(**weights).terms(mgvi.model, mgvi.guide, *batch)

    plain = terms()
    assert sum(plain.values()).item() == pytest.approx(loss(WassersteinTraceELBO(), mgvi, batch))
    own, foreign = terms(own_weight={"t": 3.0}), terms(foreign_weight={"t": 5.0})
    owned = (own["t"] - plain["t"]) / 2
    penalty = (foreign["t"] - plain["t"]) / 4
    torch.testing.assert_close(owned + penalty, plain["t"])
    assert owned > 0 and penalty > 0
    torch.testing.assert_close(terms(own_weight={"z": 2.0})["z"], 2 * plain["z"])


def test_each_copy_may_have_a_weight_of_its_own(mgvi, batch):
    def divergence_of_t(weight):
        torch.manual_seed(3)
        elbo = WassersteinTraceELBO(own_weight={"t": weight}, foreign_weight={"t": 0.0})
        return elbo.terms(mgvi.model, mgvi.guide, *batch)["t"]

    single = [divergence_of_t([float(copy == s) for copy in range(3)]) for s in range(3)]
    assert all(term > 0 for term in single)
    torch.testing.assert_close(sum(single), divergence_of_t(1.0))
    torch.testing.assert_close(divergence_of_t([2.0, 2.0, 2.0]), 2 * sum(single))
    mixed = single[0] + 3 * single[1]
    torch.testing.assert_close(divergence_of_t([1.0, 3.0, 0.0]), mixed)


def test_the_guide_says_who_owns_a_copy_and_may_be_unsure():
    owned = torch.tensor([1.0, 0.25, 0.0])

    def model(infer):
        with pyro.plate("cells", 3):
            pyro.sample("t", dist.Normal(0.0, 1.0))

    def guide(infer):
        with pyro.plate("cells", 3):
            pyro.sample("t", dist.Normal(torch.tensor([0.5, 1.0, 2.0]), 1.0), infer=infer)

    elbo = WassersteinTraceELBO(own_weight={"t": 3.0}, foreign_weight={"t": 5.0})
    kl = torch.tensor([0.5, 1.0, 2.0]) ** 2 / 2
    weight = 3.0 * owned + 5.0 * (1 - owned)
    unsure = elbo.loss(model, guide, {"owned": owned})
    assert unsure == pytest.approx((weight * kl).sum().item())
    assert elbo.loss(model, guide, {}) == pytest.approx(3 * kl.sum().item())


def test_a_weight_of_an_unknown_site_is_refused(mgvi, batch):
    for weights in ({"own_weight": {"u": 2.0}}, {"foreign_weight": {"u": 2.0}}):
        with pytest.raises(SettingsError, match=r"weights of \['u'\].*no such site"):
            loss(WassersteinTraceELBO(**weights), mgvi, batch)


def test_weights_fit_a_model_with_inactive_dimensions(mgvi, batch):
    mgvi.model.active.close({"z": torch.tensor([[False, True, False]])})

    def divergence_of_z(**weights):
        torch.manual_seed(3)
        return WassersteinTraceELBO(**weights).terms(mgvi.model, mgvi.guide, *batch)["z"]

    torch.testing.assert_close(divergence_of_z(own_weight={"z": 2.0}), 2 * divergence_of_z())


def test_a_stock_elbo_is_infinite_and_ours_is_not(mgvi, batch):
    assert loss(Trace_ELBO(), mgvi, batch) == float("inf")
    assert np.isfinite(loss(WassersteinTraceELBO(), mgvi, batch))


@pytest.mark.parametrize("posterior", [dist.Normal(0.5, 1.0), dist.Laplace(0.5, 1.0)])
def test_a_prior_without_closed_form_gives_the_stock_elbo_on_average(posterior):
    def model():
        with pyro.plate("cells", 40_000):
            pyro.sample("x", dist.StudentT(5.0, torch.tensor(0.0), 1.0))

    def guide():
        with pyro.plate("cells", 40_000):
            pyro.sample("x", posterior)

    stock = TraceMeanField_ELBO().loss(model, guide) / 40_000
    assert WassersteinTraceELBO().loss(model, guide) / 40_000 == pytest.approx(stock, abs=0.02)


def test_weights_act_on_divergences_without_a_closed_form(adata):
    latents = (shared(3), private(2, prior=dist.StudentT(4.0, 0.0, 1.0)))
    mgvi = MGVI.from_anndata(adata, "group", latents=latents)
    data = mgvi.read(adata)
    batch = data.rows(np.arange(len(data)))

    def term(**weights):
        return WassersteinTraceELBO(**weights).terms(mgvi.model, mgvi.guide, *batch)["t"]

    owned = term() - term(own_weight={"t": 0.0})
    loc, scale = mgvi.posterior(batch).moments["t"]
    squared = (loc**2 + scale**2).sum(-1)[~mgvi.posterior(batch).owned("t")].sum()
    torch.testing.assert_close(term(own_weight={"t": 0.0}), squared, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(term(own_weight={"t": 3.0}), squared + 3 * owned)


def test_one_group_s_batch_sends_no_likelihood_gradient_to_foreign_heads(mgvi, adata):
    data = mgvi.read(adata)
    cells = np.flatnonzero(data.group_n == 0)
    batch = data.rows(cells)
    heads = mgvi.guide.encoder.heads["t"]

    def gradient(site):
        mgvi.guide.zero_grad()
        torch.manual_seed(3)
        terms = WassersteinTraceELBO().terms(mgvi.model, mgvi.guide, *batch)
        terms[site].backward()
        return heads.weight.grad.clone()

    likelihood = gradient("counts")
    assert (likelihood[1:] == 0).all()
    assert (likelihood[0] != 0).any()

    penalty = gradient("t")
    mgvi.guide.zero_grad()
    loc, scale = mgvi.guide.moments(batch.counts, batch.covariates)["t"]
    (loc[1:] ** 2 + scale[1:] ** 2).sum().backward()
    torch.testing.assert_close(penalty[1:], heads.weight.grad[1:])
    assert (penalty[1:] != 0).any()


def test_minibatch_losses_average_to_the_full_data_loss(mgvi, adata, batch, monkeypatch):
    encode = mgvi.guide.moments

    def nearly_certain(*args, **keys):  # no noise from draws: the averages must agree exactly
        return {name: (loc, 1e-6 * scale) for name, (loc, scale) in encode(*args, **keys).items()}

    monkeypatch.setattr(mgvi.guide, "moments", nearly_certain)
    full = loss(WassersteinTraceELBO(), mgvi, batch)
    parts = list(mgvi.read(adata).minibatches(40, seed=0))
    assert len(parts) == 3 and all(len(part.group) == 40 for part in parts)
    losses = [loss(WassersteinTraceELBO(), mgvi, part) for part in parts]
    assert np.mean(losses) == pytest.approx(full, rel=1e-5)
    assert np.std(losses) > 1e-3 * full


def test_particles_average_the_loss(mgvi, batch):
    torch.manual_seed(3)
    elbo = WassersteinTraceELBO()
    singles = [elbo.loss(mgvi.model, mgvi.guide, *batch) for _ in range(20)]
    twenty = WassersteinTraceELBO(num_particles=20)
    assert loss(twenty, mgvi, batch) == pytest.approx(np.mean(singles), rel=1e-6)
    vectorised = WassersteinTraceELBO(num_particles=20, vectorize_particles=True)
    standard_error = np.std(singles) * (2 / 20) ** 0.5
    assert abs(loss(vectorised, mgvi, batch) - np.mean(singles)) < 5 * standard_error


def test_a_foreign_weight_can_be_given_per_copy_alone(mgvi, batch):
    torch.manual_seed(0)
    plain = WassersteinTraceELBO().terms(mgvi.model, mgvi.guide, *batch)["t"]
    ones = WassersteinTraceELBO(foreign_weight={"t": [1.0, 1.0, 1.0]})
    torch.manual_seed(0)
    assert ones.terms(mgvi.model, mgvi.guide, *batch)["t"].item() == pytest.approx(plain.item())
    more = WassersteinTraceELBO(foreign_weight={"t": [1.0, 1.0, 2.0]})
    torch.manual_seed(0)
    assert more.terms(mgvi.model, mgvi.guide, *batch)["t"] > plain
