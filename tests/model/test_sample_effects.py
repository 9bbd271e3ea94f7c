"""Sample effects in the model: in every decoder, for known and new samples, and nowhere without."""

import anndata
import numpy as np
import pyro
import pytest
import torch
from helpers.fitting import PLAN, fitted, same, untrained
from helpers.masked import masked, masks_of
from pyro import poutine
from pyro.infer import SVI, Predictive, TraceMeanField_ELBO

from pyro_mgvi import (
    NB,
    AdditiveDecoder,
    Gaussian,
    GroupedCounts,
    JointDecoder,
    LogLinearDecoder,
    SettingsError,
    WassersteinTraceELBO,
    proper_priors,
)
from pyro_mgvi.core.sample_effects import GAIN
from pyro_mgvi.data.stores.resident import Resident

EFFECTS = {"sample_key": "donor"}


@pytest.fixture(scope="module")
def donors(adata):
    """Nine donors, three in each group."""
    copy = adata.copy()
    number = copy.obs.groupby("group", observed=True).cumcount() % 3
    copy.obs["donor"] = [f"{g}.{i}" for g, i in zip(copy.obs["group"], number)]
    return copy


def moved(mgvi, size=0.3):
    """Give the effects of a model's samples random values."""
    mgvi.guide.samples.raw_location_sg.data.normal_(std=size / GAIN)
    return mgvi


def all_cells(mgvi, adata):
    data = mgvi.read(adata)
    return data.rows(np.arange(len(data)))


@pytest.mark.parametrize("decoder", [JointDecoder, LogLinearDecoder, AdditiveDecoder])
@pytest.mark.filterwarnings("ignore:.*start a dimension:pyro_mgvi.errors.ComponentWarning")
def test_effects_shift_log_expression_whatever_the_decoder(donors, decoder):
    mgvi = moved(untrained(donors, decoder=decoder, likelihood=NB, **EFFECTS))
    batch = all_cells(mgvi, donors)
    with torch.no_grad():
        posterior = mgvi.posterior(batch)
        plain = mgvi.model.decode(posterior.means(), batch.group, batch.covariates)
    shift_ng = mgvi.sample_effects().loc[donors.obs["donor"]].to_numpy()
    for shift, latents in ((shift_ng, None), (0.0, ["z", "t"])):  # with names, an average sample
        parts = [np.exp(location.numpy() + shift) for location, *_ in plain]
        each = [part / part.sum(1, keepdims=True) for part in parts]
        expected_ng = sum(each) / len(each)
        found_ng = mgvi.normalized_expression(donors, latents=latents)
        np.testing.assert_allclose(found_ng, expected_ng, rtol=2e-4)


def test_effects_shift_values_of_a_gaussian(donors):
    values = donors.copy()
    values.X = np.log1p(np.asarray(values.X.todense()))
    mgvi = moved(untrained(values, likelihood=Gaussian, **EFFECTS))
    both = (mgvi.normalized_expression(values, latents=x) for x in (None, ["z", "t"]))
    shift_ng = np.subtract(*both)
    effect_ng = mgvi.sample_effects().loc[values.obs["donor"]]
    np.testing.assert_allclose(shift_ng, effect_ng, atol=1e-5)


def test_a_new_sample_is_an_average_one(donors):
    mgvi, new = moved(untrained(donors, **EFFECTS)), donors[:20].copy()
    new.obs["donor"] = "nobody has seen it"
    average = mgvi.normalized_expression(donors[:20], latents=["z", "t"])
    np.testing.assert_array_equal(mgvi.normalized_expression(new), average)
    assert (mgvi.read(new).sample_code_n == -1).all()


def test_stock_tools_see_the_site(donors):
    mgvi = moved(untrained(donors, **EFFECTS))
    batch = all_cells(mgvi, donors)
    trace = poutine.trace(mgvi.model).get_trace(*batch)
    effect = trace.nodes["sample_effect"]
    assert effect["fn"].batch_shape == (9,) and effect["fn"].event_shape == (60,)
    assert {"sample_effect", "sample_scale_prior", "samples"} <= set(mgvi.model.sites)
    assert not {"sample_effect", "samples"} & set(untrained(donors).model.sites)
    site = poutine.block(mgvi.model, hide=mgvi.model.sites)
    assert not [
        n
        for n in poutine.trace(site).get_trace(*batch).nodes
        if n in ("sample_effect", "sample_scale_prior", "samples")
    ]
    drawn = Predictive(mgvi.model, num_samples=3)(None, *batch[1:])
    assert drawn["sample_effect"].squeeze(1).shape == (3, 9, 60)
    losses = []
    for elbo in (WassersteinTraceELBO, TraceMeanField_ELBO):
        torch.manual_seed(0)
        losses.append(elbo().loss(proper_priors(mgvi.model), mgvi.guide, *batch))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    many = WassersteinTraceELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=2)
    assert np.isfinite(many.loss(mgvi.model, mgvi.guide, *batch))


def test_effects_count_once_for_all_data_and_cells_by_their_share(donors):
    mgvi = moved(untrained(donors, **EFFECTS))
    data, elbo = mgvi.read(donors), WassersteinTraceELBO()
    whole = elbo.terms(mgvi.model, mgvi.guide, *data.rows(np.arange(120)))
    part = next(data.minibatches(40, seed=0))
    scaled = elbo.terms(mgvi.model, mgvi.guide, *part)
    for name in ("sample_effect", "sample_scale_prior"):
        torch.testing.assert_close(scaled[name], whole[name])
    traces = poutine.trace(mgvi.model).get_trace(*part).nodes
    assert traces["counts"]["scale"] == 3.0 and traces["sample_effect"]["scale"] == 1.0


def test_a_pyro_user_s_loop_learns_them(donors):
    mgvi = untrained(donors, **EFFECTS)
    setup = mgvi.training_setup(donors, PLAN)
    svi = SVI(setup.model, setup.guide, pyro.optim.Adam({"lr": 1e-2}), loss=setup.elbo)
    for epoch in range(2):
        setup.begin_epoch(epoch)
        for batch in setup.minibatches(epoch):
            svi.step(*batch)
    setup.finish()
    assert (mgvi.sample_effects().abs().max(axis=1) > 1e-3).all()
    before = untrained(donors, **EFFECTS).model.samples.log_scale_g
    assert (mgvi.model.samples.log_scale_g != before).all()


def test_without_them_a_model_is_the_same_to_the_last_bit(donors):
    plain, known = fitted(donors), fitted(donors, sample_key="donor", sample_effects=False)
    for ours, theirs in ((plain.model, known.model), (plain.guide, known.guide)):
        ours, theirs = ours.state_dict(), theirs.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert same(plain.latents(donors), known.latents(donors))
    assert known.read(donors).rows(np.arange(4)).sample is None
    with pytest.raises(SettingsError, match='sample_key="donor"'):
        known.sample_effects()


def test_absent_genes_have_no_effect(donors):
    rng = np.random.default_rng(0)
    has_bg = rng.random((3, 60)) > 0.3
    has_bg[:, :10] = True
    has_bg[0] |= ~has_bg.any(0)
    copy = masked(donors, has_bg)
    mgvi = fitted(copy, feature_masks=masks_of(copy), **EFFECTS)
    effects = mgvi.sample_effects()
    has_sg = has_bg[[int(name[5]) - 1 for name in effects.index]]  # group1.0, ...
    assert (effects.to_numpy()[~has_sg] == 0).all() and (effects.to_numpy()[has_sg] != 0).all()
    shares = mgvi.normalized_expression(copy)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-5)


def test_cells_on_a_device_keep_their_samples(donors):
    data = untrained(donors, **EFFECTS).read(donors)
    cells = np.array([5, 0, 77])
    there = Resident(data, torch.device("cpu")).rows(torch.from_numpy(cells))
    assert torch.equal(there.sample, data.rows(cells).sample)
    assert there.sample.tolist() == [data.schema.samples.index(x) for x in data.sample_n[cells]]
    assert torch.equal(there.to("cpu").sample, there.sample)


def test_they_are_there_with_samples_unless_switched_off(donors):
    with pytest.raises(SettingsError, match="sample_effects"):
        GroupedCounts.from_anndata(donors, "group", sample_key="donor", sample_effects="yes")
    assert untrained(donors).guide.samples is None
    assert "9 with effects" in repr(GroupedCounts.from_anndata(donors, "group", **EFFECTS).schema)


class Donors:
    """Cells of two types, of donors that shift each gene; 30 genes of 100 differ between them."""

    n_genes = 100

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.log_mean_g = self.rng.normal(0.5, 0.7, self.n_genes)
        self.of_type_g = self.rng.normal(size=self.n_genes) * (self.rng.random(self.n_genes) < 0.2)
        self.scale_g = np.where(np.arange(self.n_genes) < 30, 0.5, 0.02)

    def cells(self, cells_s, groups, names):
        """Return cells of new donors, and these donors' effects."""
        effect_sg = self.rng.normal(size=(len(cells_s), self.n_genes)) * self.scale_g
        sample_n = np.repeat(np.arange(len(cells_s)), cells_s)
        shift_ng = np.outer(self.rng.integers(2, size=len(sample_n)), self.of_type_g)
        counts = self.rng.poisson(np.exp(self.log_mean_g + effect_sg[sample_n] + shift_ng))
        obs = {"group": np.array(groups)[sample_n], "donor": np.array(names)[sample_n]}
        return anndata.AnnData(counts.astype(np.float32), obs=obs), effect_sg


@pytest.mark.slow
def test_planted_effects_are_found_and_shrink_with_few_cells():
    donors, cells_s = Donors(0), np.array([200] * 4 + [6] + [200] * 4 + [6])
    names = [f"d{s}" for s in range(10)]
    adata, true = donors.cells(cells_s, ["a"] * 5 + ["b"] * 5, names)
    mgvi = untrained(adata, **EFFECTS)
    mgvi.fit(adata, max_epochs=40, progress=False)
    found, of_group_g = mgvi.sample_effects().to_numpy(), true[:5].mean(0)
    for half in (slice(0, 5), slice(5, 10)):  # what a group's donors share is the group's
        true[half] -= true[half].mean(0)
        assert np.abs(found[half].mean(0)).max() < 1e-5
    large, told = cells_s > 100, donors.scale_g > 0.1
    for s in np.flatnonzero(large):
        assert np.corrcoef(found[s, told], true[s, told])[0, 1] > 0.9

    def slope(which_s):
        ours, theirs = found[which_s][:, told], true[which_s][:, told]
        return (ours * theirs).sum() / np.square(theirs).sum()

    assert 0.8 < slope(large) < 1.1 and slope(~large) < 0.8 * slope(large)
    scale_g = mgvi.model.samples.log_scale_g.detach().exp().numpy()
    assert scale_g[told].min() > scale_g[~told].max()
    # A further donor: an average one before, itself after, and nothing else has changed.
    new, extra = donors.cells([300], ["a"], ["new"])
    larger = mgvi.add_samples(new, max_epochs=40, progress=False)
    after = larger.sample_effects()
    np.testing.assert_array_equal(after.drop(index="new"), mgvi.sample_effects())
    assert same(larger.latents(adata), mgvi.latents(adata))
    target_g = extra[0] - of_group_g  # from its group, as these donors have made it
    assert np.corrcoef(after.loc["new"][told], target_g[told])[0, 1] > 0.9
    assert not larger.read(new).sample_code_n.min() < 0
