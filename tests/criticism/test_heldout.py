"""Importance weighting against marginals in closed form and by quadrature."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.modalities import LIKELIHOODS, small
from scipy import stats
from scipy.special import logsumexp

import pyro_mgvi
from pyro_mgvi import (
    Encoder,
    Gaussian,
    LogLinearDecoder,
    SettingsError,
    TrainingPlan,
    private,
    shared,
)
from pyro_mgvi.criticism import HeldOut, compare, elpds, held_out
from pyro_mgvi.criticism.arviz_versions import arviz_and_version

RNG = np.random.default_rng(0)
N_GENES, N_CELLS = 8, 60


class Exact(Encoder):
    """The exact posterior of a linear Gaussian model, its correlations left out."""

    def __init__(self, mgvi, foreign_at=0.0):
        super().__init__()
        self.mgvi, self.foreign_at = mgvi, foreign_at

    def forward(self, x):
        values = (x.dense() + self.mgvi.guide.input_g).numpy().astype(float)
        n, widths = len(values), (2, 1)
        out = {"library": (torch.zeros(n), torch.ones(n))}
        if len(self.mgvi.model.latents) == 1:
            mean, cov = posterior_of(self.mgvi, values, "g0", [0])
            return out | {"z": (tensor(mean[None, :, :1]), torch.full((1, n, 1), cov[0, 0] ** 0.5))}
        t_mean = torch.full((3, n, 1), self.foreign_at)
        t_scale = torch.full((3, n, 1), 0.3)
        z_mean, z_scale = torch.zeros(1, n, 2), torch.ones(1, n, 2)
        for g, group in enumerate(self.mgvi.schema.groups):
            own = np.flatnonzero(self.group_n == g)
            mean, cov = posterior_of(self.mgvi, values[own], group, [0, 1, 2 + g])
            sd = tensor(np.diag(cov)) ** 0.5
            z_mean[0, own], z_scale[0, own] = tensor(mean[:, :2]), sd[:2]
            t_mean[g, own], t_scale[g, own] = tensor(mean[:, 2:]), sd[2:]
        assert widths == (z_mean.shape[2], t_mean.shape[2])
        return out | {"z": (z_mean, z_scale), "t": (t_mean, t_scale)}


def tensor(x):
    return torch.tensor(x, dtype=torch.float32)


def parameters(mgvi, group, columns):
    decoder = mgvi.model.decoder
    w = decoder.heads[0].weight.detach().numpy().astype(float)[:, columns]
    mu = decoder.heads[0].bias + decoder.offset[mgvi.schema.groups.index(group)]
    psi = np.exp(-mgvi.model.likelihood.log_precision.detach().numpy().astype(float))
    return mu.detach().numpy().astype(float), w, psi


def posterior_of(mgvi, values, group, columns):
    mu, w, psi = parameters(mgvi, group, columns)
    cov = np.linalg.inv(np.eye(len(columns)) + w.T @ (w / psi[:, None]))
    return (values - mu) @ (w / psi[:, None]) @ cov, cov


def exact_marginal(mgvi, data, columns_of):
    """log Normal(mu_g, W W' + psi) of each cell, in scipy."""
    out = np.empty(len(data))
    for g, group in enumerate(mgvi.schema.groups):
        own = np.flatnonzero(data.group_n == g)
        mu, w, psi = parameters(mgvi, group, columns_of(g))
        out[own] = stats.multivariate_normal(mu, w @ w.T + np.diag(psi)).logpdf(data.x[own])
    return out


def linear(latents, foreign_at=0.0):
    import anndata

    groups = np.repeat(["g0", "g1", "g2"], N_CELLS // 3)
    x = RNG.normal(size=(N_CELLS, N_GENES)).astype(np.float32)
    adata = anndata.AnnData(x, obs=pd.DataFrame({"group": groups}, index=map(str, range(N_CELLS))))
    mgvi = pyro_mgvi.MGVI.from_anndata(
        adata, "group", latents=latents, likelihood=Gaussian, decoder=LogLinearDecoder
    )
    with torch.no_grad():
        mgvi.model.decoder.heads[0].weight.normal_(std=0.7)
        mgvi.model.decoder.offset.normal_(std=0.5)
    mgvi.guide.encoder = Exact(mgvi, foreign_at)
    data = mgvi.read(adata)
    mgvi.guide.encoder.group_n = data.group_n
    return mgvi, data


def test_with_the_exact_posterior_every_draw_gives_the_exact_marginal():
    mgvi, data = linear((shared(1),))
    with torch.no_grad():
        mgvi.model.decoder.offset.zero_()
    score = held_out(mgvi, data, n_draws=2, progress=False)
    expected = exact_marginal(mgvi, data, lambda g: [0])
    np.testing.assert_allclose(score.log_marginal_n, expected, atol=2e-4)
    np.testing.assert_allclose(score.elbo_n, expected, atol=2e-4)
    np.testing.assert_allclose(score.ess_n, 2, rtol=1e-6)
    np.testing.assert_allclose(score.doubling_n, 0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("foreign_at", [0.0, 7.0])
def test_grows_to_the_exact_marginal_whatever_foreign_copies_say(foreign_at):
    mgvi, data = linear((shared(2), private(1)), foreign_at)
    expected = exact_marginal(mgvi, data, lambda g: [0, 1, 2 + g])
    scores = [held_out(mgvi, data, n_draws=k, progress=False) for k in (2, 20, 500)]
    means = [score.log_marginal_n.mean() for score in scores]
    assert means[0] < means[1] < means[2] < expected.mean() + 0.01
    assert means[2] == pytest.approx(expected.mean(), abs=0.01)
    np.testing.assert_allclose(scores[2].log_marginal_n, expected, atol=0.3)
    error = scores[2].log_marginal_n.sum() - expected.sum()
    assert abs(error) < 4 * scores[2].monte_carlo_error < 2

    # the gap of the ELBO is the divergence of the factored guide from the exact posterior
    gaps = []
    for g in range(3):
        cov = posterior_of(mgvi, data.x[:1], f"g{g}", [0, 1, 2 + g])[1]
        gaps.append(0.5 * (np.trace(np.linalg.inv(cov) * np.diag(np.diag(cov))) - 3))
        gaps[-1] += 0.5 * (np.linalg.slogdet(cov)[1] - np.log(np.diag(cov)).sum())
    gap = expected.mean() - scores[2].elbo_n.mean()
    assert gap == pytest.approx(np.mean(gaps), rel=0.03)


@pytest.mark.slow
def test_dimensions_out_of_use_are_integrated_out():
    mgvi, data = linear((shared(2), private(1)))
    active = mgvi.model.active
    active["z"][0, 1] = False
    active["t"][2] = False
    score = held_out(mgvi, data, n_draws=500, progress=False)
    expected = exact_marginal(mgvi, data, lambda g: [0, 2 + g] if g < 2 else [0])
    assert score.log_marginal_n.mean() == pytest.approx(expected.mean(), abs=0.02)


@pytest.mark.slow
def test_counts_and_library_against_quadrature(adata):
    """ZINB with z and library: the integral over both on a grid of Gauss-Hermite nodes."""
    mgvi = pyro_mgvi.MGVI.from_anndata(adata[:, :4], "group", latents=(shared(1),))
    with torch.no_grad():
        mgvi.model.likelihood.log_theta.fill_(3.0)
        mgvi.model.log_library_b2.copy_(torch.tensor([[4.0, 0.3]]))
        mgvi.guide.encoder.library.bias.copy_(torch.tensor([0.0, -1.5]))  # scale 0.3
        share = mgvi.model.decoder.heads[0].bias.softmax(-1).numpy()
    few = adata[:6, :4].copy()
    few.X = 1.0 + RNG.poisson(np.exp(4) * share, (6, 4))
    batch = mgvi.read(few).rows(np.arange(6))
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    log_w = np.log(weights / weights.sum())
    log_p = np.empty((40, 40, 6))
    size = torch.tensor(4 + 0.3 * nodes).float()[:, None].expand(40, 6)
    with torch.no_grad():
        for i, z in enumerate(nodes):
            parts = mgvi.model.decode(
                {"z": torch.full((1, 6, 1), z)}, batch.group, batch.covariates
            )
            log_p[i] = mgvi.model.likelihood(parts, size).log_prob(batch.counts)
    expected = logsumexp(log_p + log_w[:, None, None] + log_w[:, None], axis=(0, 1))
    score = held_out(mgvi, few, n_draws=1000, progress=False)
    np.testing.assert_allclose(score.log_marginal_n, expected, atol=0.2)
    error = score.log_marginal_n.sum() - expected.sum()
    assert abs(error) < 4 * score.monte_carlo_error < 1


def score_of(values, cells=None, **measure):
    x = np.asarray(values, float)
    cells = np.arange(len(x)) if cells is None else cells
    return HeldOut(x, x, 0 * x, 1 + 0 * x, 2, cells, {"genes": 1, "layer": None} | measure)


def test_compare_is_paired():
    common = RNG.normal(-1000, 50, 400)
    gain = RNG.normal(0.3, 1, 400)
    table = compare({"worse": score_of(common), "better": score_of(common + gain)})
    assert list(table.index) == ["better", "worse"] and table["difference"].iloc[0] == 0
    assert table.loc["worse", "difference"] == pytest.approx(-gain.sum())
    expected = np.sqrt(400) * gain.std()  # not the 1000 of unpaired sums
    assert table.loc["worse", "difference_se"] == pytest.approx(expected)
    assert table.loc["worse", "se"] == pytest.approx(np.sqrt(400) * common.std())


def test_arviz_compares_cells_of_a_thousand_nats():
    arviz, version = arviz_and_version()
    rng = np.random.default_rng(1)
    common = rng.normal(-1000, 50, 200)
    models = {"a": common, "b": common + rng.normal(0.5, 1, 200), "c": common - 3}
    models = {name: score_of(values) for name, values in models.items()}
    rounding = {} if version == 0 else {"round_to": 6}
    ours, theirs = compare(models), arviz.compare(elpds(models), **rounding)
    assert list(theirs.index) == list(ours.index)
    scale = -1 if version == 0 else 1
    np.testing.assert_allclose(
        scale * theirs["elpd_diff"].astype(float), ours["difference"], atol=1
    )
    np.testing.assert_allclose(theirs["dse"].astype(float), ours["difference_se"], atol=1)
    weight = theirs["weight"].astype(float)
    assert weight.sum() == pytest.approx(1, abs=0.02) and weight["c"] < 0.01
    assert weight.idxmax() == "b"


def test_what_cannot_be_compared_is_refused(mgvi, adata):
    x = np.zeros(3)
    for other in (score_of(x, layer="log"), score_of(x, genes=2)):
        with pytest.raises(SettingsError, match="cannot be compared"):
            compare({"a": score_of(x), "b": other})
    with pytest.raises(SettingsError, match="other cells"):
        compare({"a": score_of(x), "b": score_of(x, cells=np.arange(1, 4))})
    with pytest.raises(SettingsError, match=r"'m'.*adata"):
        compare({"m": mgvi})
    with pytest.raises(SettingsError, match="no model"):
        compare({})
    for n_draws in (0, 3, 2.5):
        with pytest.raises(SettingsError, match="n_draws"):
            held_out(mgvi, adata, n_draws=n_draws)
    observed = pyro_mgvi.MGVI.from_anndata(adata, "group", observed_library=True)
    with pytest.raises(SettingsError, match="observed_library"):
        compare({"a": mgvi, "b": observed}, adata, n_draws=2, progress=False)


def test_draws_that_all_weigh_the_same_have_no_error(adata):
    mgvi = pyro_mgvi.MGVI.from_anndata(
        adata, "group", latents=(shared(3), private(2)), observed_library=True
    )
    mgvi.fit(adata, TrainingPlan(prune_below=1e6), max_epochs=1, progress=False)  # nothing is drawn
    score = held_out(mgvi, adata, n_draws=50, progress=False)
    assert (score.ess_n <= 50).all()
    assert score.monte_carlo_error == pytest.approx(0.0, abs=1e-3)
    np.testing.assert_allclose(score.log_marginal_n, score.elbo_n, rtol=1e-6)


def test_what_is_counted_otherwise_is_not_compared(adata):
    models = {
        kind.__name__: pyro_mgvi.MGVI.from_anndata(adata, "group", likelihood=kind)
        for kind in (pyro_mgvi.NB, pyro_mgvi.Bernoulli)
    }
    with pytest.raises(SettingsError, match="differ in what is open or closed"):
        compare(models, adata, n_draws=2, progress=False)
    mdata = small()
    mdata["rna"].layers["other"] = 3 * mdata["rna"].X
    models = {
        name: pyro_mgvi.MGVI.from_mudata(mdata, "donor", LIKELIHOODS, layers=layers)
        for name, layers in {"X": None, "other": {"rna": "other"}}.items()
    }
    with pytest.raises(SettingsError, match="differ in layer"):
        compare(models, mdata, n_draws=2, progress=False)
