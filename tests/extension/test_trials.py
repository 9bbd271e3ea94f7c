"""What an outside user writes to go past the package, each within so many lines.

Only public names are touched. ``lines`` counts what the user writes between two marks.
"""

import inspect

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.contrib.autoname import scope
from pyro.infer import MCMC, NUTS, SVI
from pyro.infer.autoguide import AutoNormal
from torch import nn
from torch.nn.functional import relu
from torch.utils.data import DataLoader, IterableDataset

from pyro_mgvi import (
    MGVI,
    Decoder,
    Dirac,
    JointDecoder,
    Likelihood,
    TrainingPlan,
    TrunkEncoder,
    WassersteinTraceELBO,
    divergence,
    pairwise,
    private,
    proper_priors,
    shared,
    subsets,
)
from pyro_mgvi.criticism import held_out, predictive_checks
from pyro_mgvi.datasets import clear_recipe

SMALL = (shared(4), private(3))


@pytest.fixture(scope="module")
def cells():
    return clear_recipe(seed=0, n_cells=400, n_shared_genes=60, n_program_genes=60)


def lines(function) -> int:
    """Return how many lines a user wrote: all but the signature, its decorators and blank ones."""
    source = inspect.getsource(function).splitlines()
    body = [line for line in source if line.strip() and not line.strip().startswith(("#", "@"))]
    return len(body) - 1


def fitted(cells, **settings):
    mgvi = MGVI.from_anndata(cells, "group", **settings)
    mgvi.fit(cells, max_epochs=12, progress=False)
    return mgvi


# a. a pairwise latent: 1 line


def pairwise_latents():
    return (shared(4), private(3), pairwise(2))


def test_a_pairwise_latent():
    assert lines(pairwise_latents) <= 1
    three = clear_recipe(seed=0, n_cells=90, n_shared_genes=30, n_program_genes=15, groups=3)
    mgvi = MGVI.from_anndata(three, "group", latents=pairwise_latents())
    mgvi.fit(three, max_epochs=1, progress=False)
    assert "pair_group1+group2" in mgvi.latents(three)


# b. a foreign prior with its divergence: 10 lines


def foreign_prior():
    class AbsoluteDirac(dist.Delta):
        pass

    @divergence.register
    def _(prior: AbsoluteDirac, posterior):
        return (posterior.mean - prior.v).abs().sum(-1) + posterior.stddev.sum(-1)

    def lasso(own, member):
        zero = torch.zeros(member.shape + own.event_shape)
        return dist.MaskedMixture(member, AbsoluteDirac(zero, event_dim=1), own)

    return lasso


def test_a_foreign_prior_with_its_divergence(cells):
    assert lines(foreign_prior) <= 10
    mgvi = MGVI.from_anndata(
        cells, "group", latents=(shared(4), private(3, foreign=foreign_prior()))
    )
    setup = mgvi.training_setup(cells)
    batch = next(iter(setup.minibatches(0)))
    torch.manual_seed(0)
    absolute = WassersteinTraceELBO().terms(setup.model, setup.guide, *batch)["t"].item()
    plain = MGVI.from_anndata(cells, "group", latents=SMALL)
    torch.manual_seed(0)
    setup = plain.training_setup(cells)
    torch.manual_seed(0)
    squared = WassersteinTraceELBO().terms(setup.model, setup.guide, *batch)["t"].item()
    assert absolute != pytest.approx(squared, rel=1e-3)
    mgvi.fit(cells, max_epochs=2, progress=False)


# c. the owners' own prior: 6 lines, and everything that asks for it is right


def narrow_latents():
    return (shared(3), private(2, prior=dist.Normal(0.0, 0.1)))


@pytest.mark.slow
@pytest.mark.parametrize("n_groups", [2, 3])
def test_the_owners_own_prior(n_groups):
    assert lines(narrow_latents) <= 6
    cells = clear_recipe(
        seed=0, n_cells=300, n_shared_genes=100, n_program_genes=40, groups=n_groups
    )
    mgvi = MGVI.from_anndata(cells, "group", latents=narrow_latents())
    mgvi.fit(cells, TrainingPlan(search=None, prune_below=0.0), max_epochs=2, progress=False)
    score = held_out(mgvi, cells, n_draws=200, progress=False)
    assert score.elbo_n.mean() == pytest.approx(elbo_by_pyro(mgvi, cells, 0.1), abs=0.5)
    # what diagnosis and pruning say of a dimension: KL from N(0, 0.1), written out
    data = mgvi.read(cells)
    posterior = mgvi.posterior(data.rows(np.arange(len(data))))
    loc, scale = posterior.moments["t"]
    kl = 0.5 * ((loc**2 + scale**2) / 0.01 - 1) - (scale / 0.1).log()
    assert torch.allclose(posterior.divergence("t"), kl, rtol=1e-3, atol=1e-4)


def elbo_by_pyro(mgvi, cells, sd: float) -> float:
    """Return the ELBO per cell from Pyro's own traces, the owners' prior written out."""
    data = mgvi.read(cells)
    batch = data.rows(np.arange(len(data)))
    member = torch.eye(len(data.schema.groups), dtype=torch.bool)[:, batch.group]
    own = dist.Normal(0.0, sd).expand([len(member), len(data), 2]).to_event(1)
    total = 0.0
    with torch.no_grad():
        torch.manual_seed(0)
        for _ in range(50):
            guide = poutine.trace(mgvi.guide).get_trace(*batch).nodes
            trace = poutine.trace(guide_replayed(mgvi, guide)).get_trace(*batch).nodes
            log_p = trace["counts"]["fn"].log_prob(batch.counts)
            for name in ("z", "library"):
                value = guide[name]["value"]
                log_p = (
                    log_p + trace[name]["fn"].log_prob(value) - guide[name]["fn"].log_prob(value)
                )
            t = guide["t"]["value"]
            ratio = own.log_prob(t) - guide["t"]["fn"].log_prob(t)
            total = total + (log_p + (ratio * member).sum(0)).mean() / 50
    return float(total)


def guide_replayed(mgvi, guide):
    values = {name: guide[name]["value"] for name in ("z", "t", "library")}
    return poutine.condition(mgvi.model, values)


@pytest.mark.slow
def test_a_laplace_prior_of_the_shared_latent(cells):
    mgvi = fitted(cells, latents=(shared(3, prior=dist.Laplace(0.0, 1.0)), private(2)))
    data = mgvi.read(cells)
    posterior = mgvi.posterior(data.rows(np.arange(50)))
    site = mgvi.model.prior(mgvi.families["z"], torch.zeros(50, dtype=torch.long))
    drawn = site.sample((4000,))
    assert float(drawn[..., :1].abs().mean()) == pytest.approx(1.0, rel=0.05)  # N(0, 1): 0.80
    assert (posterior.divergence("z") >= -1e-4).all()


# d. a Poisson-lognormal: 15 lines; default fit, ranking and predictive checks work


def poisson_lognormal():
    class PoissonLogNormal(Likelihood):
        def __init__(self, initial):
            super().__init__()
            self.log_sd = nn.Parameter(-0.5 * initial.log_theta_g.unsqueeze(-1))
            node, weight = np.polynomial.hermite_e.hermegauss(12)
            self.node, self.weight = (torch.tensor(x).float() for x in (node, weight))

        def forward(self, parts, log_library):
            log_mean = self.expression(parts).log() + log_library.unsqueeze(-1)
            rate = (log_mean.unsqueeze(-1) + self.log_sd.exp() * self.node).exp()
            mixing = dist.Categorical(self.weight.expand(rate.shape))
            return dist.MixtureSameFamily(mixing, dist.Poisson(rate)).to_event(1)

    return PoissonLogNormal


@pytest.mark.slow
def test_a_likelihood_of_ones_own(cells):
    assert lines(poisson_lognormal) <= 15
    mgvi = fitted(cells, likelihood=poisson_lognormal(), latents=SMALL)
    table = mgvi.rank_genes(cells, "group1", progress=False)
    assert table["bayes_factor"].iloc[0] > 0 and table["q_value"].notna().all()
    summary = predictive_checks(mgvi, cells, n_draws=20, progress=False).summary()
    assert summary.loc["gene mean", "correlation"] > 0.9


# e. a residual encoder and a deep decoder: 10 lines each; search and particles work


def residual_encoder():
    class Residual(TrunkEncoder):
        def __init__(self, latents, initial, width=64):
            super().__init__(latents, width)
            self.first = nn.Linear(initial.n_inputs, width)
            self.second = nn.Linear(width, width)

        def features(self, x):
            h = relu(self.first(x.dense()))
            return h + relu(self.second(h))

    return Residual


def deep_decoder():
    class Deep(JointDecoder):
        def further_layers(self, hidden):
            return nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU())

    return Deep


@pytest.mark.slow
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_networks_of_ones_own_are_searched_for_and_take_particles(part):
    make = {"encoder": residual_encoder, "decoder": deep_decoder}[part]
    assert lines(make) <= 10
    cells = clear_recipe(seed=0, n_cells=600, n_shared_genes=100, n_program_genes=60)
    mgvi = MGVI.from_anndata(cells, "group", **{part: make()})
    mgvi.fit(cells, max_epochs=20, progress=False)
    active = mgvi.model.active["t"].sum(1)
    assert (active < 10).all()  # idle dimensions are closed, as with the defaults
    batch = mgvi.read(cells).rows(np.arange(20))
    many = WassersteinTraceELBO(num_particles=3, vectorize_particles=True)
    one = WassersteinTraceELBO(num_particles=60)
    loss = np.mean([many.loss(mgvi.model, mgvi.guide, *batch) for _ in range(20)])
    assert loss == pytest.approx(one.loss(mgvi.model, mgvi.guide, *batch), rel=0.01)


def test_a_decoder_from_scratch(cells):
    class Plain(Decoder):
        def __init__(self, latents, initial, n_outputs):
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(latents.n_dims + initial.n_covariates, 16), nn.ReLU()
            )
            self.heads = nn.ModuleList(nn.Linear(16, initial.n_genes) for _ in range(n_outputs))

        def forward(self, x):
            h = self.net(x.joined())
            return [tuple(head(h) for head in self.heads)]

    with pytest.warns(UserWarning, match="decoder Plain cannot start a dimension"):
        mgvi = MGVI.from_anndata(cells, "group", decoder=Plain, latents=SMALL)
    mgvi.fit(cells, max_epochs=2, progress=False)
    batch = mgvi.read(cells).rows(np.arange(7))
    many = WassersteinTraceELBO(num_particles=3, vectorize_particles=True)
    assert np.isfinite(many.loss(mgvi.model, mgvi.guide, *batch))


# f. named copies for nested groups: 3 lines


def nested_latents():
    conditions = {"ctrl": ["d1", "d2"], "stim": ["d3", "d4"]}
    return (shared(4), private(3), subsets("condition", conditions, 2))


def test_named_copies_for_nested_groups():
    assert lines(nested_latents) <= 3
    four = clear_recipe(seed=0, n_cells=160, n_shared_genes=30, n_program_genes=15, groups=4)
    four.obs["donor"] = "d" + four.obs["group"].astype(str).str[-1]
    mgvi = MGVI.from_anndata(four, "donor", latents=nested_latents())
    mgvi.fit(four, max_epochs=1, progress=False)
    stim = mgvi.latents(four)["condition_stim"]
    assert stim.notna().all(axis=1).equals(four.obs["donor"].isin(["d3", "d4"]))
    only = mgvi.rank_genes(four, "d3", latents="condition_stim", calibration=False)
    whole = mgvi.rank_genes(four, "d3", latents="condition", calibration=False)
    np.testing.assert_allclose(only.sort_index(), whole.sort_index())
    assert mgvi.normalized_expression(four, ["z", "condition_stim"]).shape == four.shape


# g. a regression on z within a larger model: 6 lines


def with_outcome(model, y):
    def larger(*minibatch):
        w = pyro.sample("w", dist.Normal(torch.zeros(4), 1.0).to_event(1))
        found = model.generate(*minibatch)
        with found.cells as index:
            pyro.sample("y", dist.Normal(found.latents["z"] @ w, 1.0), obs=y[index])

    return larger


def test_a_regression_on_z_in_a_larger_model(cells):
    assert lines(with_outcome) <= 6
    mgvi = MGVI.from_anndata(cells, "group", latents=SMALL)
    setup = mgvi.training_setup(cells, TrainingPlan(validation_fraction=0.0))
    y = torch.randn(len(cells))
    larger = with_outcome(setup.model, y)
    rest = AutoNormal(poutine.block(larger, hide=[*setup.model.sites, "y"]))

    def guide(*minibatch):
        rest(*minibatch)
        setup.guide(*minibatch)

    svi = SVI(larger, guide, pyro.optim.Adam({"lr": 3e-3}), loss=setup.elbo)
    losses = [svi.step(*batch) for epoch in range(3) for batch in setup.minibatches(epoch)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_two_models_in_one_program(cells):
    first = MGVI.from_anndata(cells, "group", latents=SMALL)
    second = MGVI.from_anndata(cells, "group", latents=SMALL, seed=1)
    batch = first.read(cells).rows(np.arange(30))

    def both(one, two):
        def program(*minibatch):
            with scope(prefix="a"):
                one(*minibatch)
            with scope(prefix="b"):
                two(*minibatch)

        return program

    model, guide = both(first.model, second.model), both(first.guide, second.guide)
    torch.manual_seed(0)
    together = WassersteinTraceELBO().loss(model, guide, *batch)
    torch.manual_seed(0)
    apart = sum(WassersteinTraceELBO().loss(m.model, m.guide, *batch) for m in (first, second))
    assert together == pytest.approx(apart, rel=1e-3)


# h. a Lightning module, or any torch loop: 10 lines


def torch_module(setup):
    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.loss = setup.elbo(setup.model, setup.guide)

        def training_step(self, batch):
            return self.loss(*batch)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    return Module()


def test_a_torch_module_trains_all_weights(cells):
    assert lines(torch_module) <= 10
    mgvi = MGVI.from_anndata(cells, "group", latents=SMALL)
    before = {k: v.clone() for k, v in mgvi.model.named_parameters()}
    module = torch_module(mgvi.training_setup(cells))
    optimiser = module.configure_optimizers()
    for batch in mgvi.training_setup(cells).minibatches(0):
        optimiser.zero_grad()
        module.training_step(batch).backward()
        optimiser.step()
    moved = [name for name, value in mgvi.model.named_parameters() if (value != before[name]).any()]
    assert len(moved) == len(before)
    assert mgvi.guide.training


def lightning_module(setup):
    import pytorch_lightning as lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.loss = setup.elbo(setup.model, setup.guide)

        def training_step(self, batch):
            return self.loss(*batch)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    return Module()


class Epochs(IterableDataset):
    """The minibatches of a setup, as a loader for Lightning."""

    def __init__(self, setup):
        self.setup = setup

    def __iter__(self):
        return iter(self.setup.minibatches(0))


@pytest.mark.filterwarnings("default")  # Lightning's advice on workers and logging
def test_lightning_trains_all_weights(cells, tmp_path):
    lightning = pytest.importorskip("pytorch_lightning", reason="comes with [benchmark]")
    assert lines(lightning_module) <= 10
    mgvi = MGVI.from_anndata(cells, "group", latents=SMALL)
    before = {k: v.clone() for k, v in mgvi.model.named_parameters()}
    setup = mgvi.training_setup(cells)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        enable_model_summary=False,
        default_root_dir=tmp_path,
        **quiet,
    )
    trainer.fit(lightning_module(setup), DataLoader(Epochs(setup), batch_size=None))
    moved = [name for name, value in mgvi.model.named_parameters() if (value != before[name]).any()]
    assert len(moved) == len(before)
    setup.finish()
    assert np.isfinite(mgvi.latents(cells)["z"].to_numpy()).all()


# i. NUTS for the latents of one cell, with the default prior: 3 lines


def sample_one_cell(mgvi, cell):
    chain = MCMC(NUTS(proper_priors(mgvi.model), max_tree_depth=5), 60, disable_progbar=True)
    chain.run(*cell)
    return chain.get_samples()


@pytest.mark.slow
def test_nuts_for_the_latents_of_one_cell(cells):
    assert lines(sample_one_cell) <= 3
    assert private(3).foreign == Dirac()
    mgvi = MGVI.from_anndata(cells, "group", latents=SMALL)
    mgvi.fit(cells, TrainingPlan(search=None), max_epochs=5, progress=False)
    for parameter in mgvi.model.parameters():
        parameter.requires_grad_(False)
    batch = mgvi.read(cells).rows(np.arange(1))
    samples = sample_one_cell(mgvi, batch)
    assert samples["z"].shape == (60, 1, 4) and samples["t"].shape == (60, 2, 1, 3)
    # the amortised posterior is of the same cell
    posterior = mgvi.posterior(batch)
    gap = (samples["z"].mean(0)[0] - posterior.mean("z")[0, 0]).abs()
    assert (gap < 4 * posterior.moments["z"][1][0, 0] + 0.3).all()
