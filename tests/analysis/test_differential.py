"""Differences in expression between two sets of cells, against ratios of expected expression."""

import numpy as np
import pytest
import torch
from anndata import AnnData
from helpers.modalities import LATENTS, small

from pyro_mgvi import (
    MGVI,
    NB,
    ZINB,
    DataError,
    Gaussian,
    GroupedCounts,
    Posterior,
    ProteinNB,
    SettingsError,
)


@pytest.fixture
def at_the_mean(monkeypatch):
    """Draws are the posterior means."""
    monkeypatch.setattr(Posterior, "draw", lambda self, generator: self.means())


def test_two_cells_differ_by_the_ratio_of_their_expression(trained, adata, at_the_mean):
    first, second = np.arange(120) == 3, np.arange(120) == 80
    for latents in (None, "z", "t"):
        rho = trained.normalized_expression(adata, latents).to_numpy(float)
        table = trained.differential_expression(adata, first, second, latents=latents, n_draws=9)
        assert table["probability"].is_monotonic_decreasing
        assert table.index.name == "gene"
        table = table.loc[list(adata.var_names)]
        lfc = np.log2(rho[3] / rho[80])
        np.testing.assert_allclose(table["log_fold_change"], lfc, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(table["log_fold_change_std"], 0, atol=1e-4)
        np.testing.assert_allclose(table["mean_first"], 1e4 * rho[3], rtol=1e-4)
        np.testing.assert_allclose(table["mean_second"], 1e4 * rho[80], rtol=1e-4)
        np.testing.assert_array_equal(table["probability"], np.abs(lfc) > 0.25)


def test_sets_are_groups_or_masks_and_the_order_only_turns_the_sign(trained, adata, at_the_mean):
    group = adata.obs["group"].to_numpy(str)
    settings = {"n_draws": 4000, "latents": "t"}
    by_name = trained.differential_expression(adata, "group1", "group2", **settings)
    by_mask = trained.differential_expression(
        adata, group == "group1", group == "group2", **settings
    )
    assert by_name.equals(by_mask)
    turned = trained.differential_expression(adata, "group2", "group1", **settings)
    one, other = (table["log_fold_change"].sort_index() for table in (by_name, turned))
    rho = np.log2(trained.normalized_expression(adata, "t"))
    truth = (rho[group == "group1"].mean() - rho[group == "group2"].mean()).sort_index()
    np.testing.assert_allclose(one, truth, atol=0.05)
    np.testing.assert_allclose(other, -truth, atol=0.05)


def test_shared_latents_do_not_tell_groups_of_the_same_cells_apart(mgvi, adata):
    """Offsets and private latents are what differs here, and neither is decoded."""
    with torch.no_grad():
        mgvi.model.decoder.offset[1] += torch.linspace(-1, 1, 60)
    cells = mgvi.read(adata).subset(np.arange(40))
    same = GroupedCounts(
        np.tile(cells.x[:20].toarray(), (2, 1)),
        np.repeat([0, 1], 20),
        cells.batch_n,
        cells.covariate_nc,
        cells.schema,
        cells.cells,
    )
    shared, every = (
        mgvi.differential_expression(same, "group1", "group2", latents=latents, n_draws=2000)
        for latents in ("z", None)
    )
    assert shared["log_fold_change"].abs().max() < 0.15 < 1 < every["log_fold_change"].abs().max()


def test_bad_input_is_explained(mgvi, adata):
    ones = np.ones(120, bool)
    cases = [
        (("group9", ones), {}, DataError, "group1, group2, group3"),
        ((ones, np.ones(5, bool)), {}, DataError, "second must be .* over the 120 cells"),
        ((ones, ~ones), {}, DataError, "second holds no cell"),
        ((ones, ones), {"latents": ["u"]}, SettingsError, "unknown latent.*'u'"),
        ((ones, ones), {"n_draws": 1}, SettingsError, "n_draws must be at least 2, not 1"),
        ((ones, ones), {"n_draws": 2.5}, SettingsError, "n_draws must be a whole number"),
        ((ones, ones), {"n_draws": "many"}, SettingsError, "n_draws must be a whole number"),
        ((ones, ones), {"threshold": -1}, SettingsError, "threshold must be"),
        ((ones, ones), {"threshold": "high"}, SettingsError, "threshold must be"),
        ((ones, ones), {"latents": 3}, SettingsError, "latents=3: give names"),
    ]
    for sets, settings, error, message in cases:
        with pytest.raises(error, match=message):
            mgvi.differential_expression(adata, *sets, **settings)
    values = adata.copy()
    values.X = np.log1p(values.X.toarray())
    gaussian = MGVI.from_anndata(values, "group", likelihood=Gaussian)
    with pytest.raises(SettingsError, match="likelihood of counts"):
        gaussian.differential_expression(values, "group1", "group2")


def test_effect_sizes_are_of_genes_that_the_group_has(adata):
    has_g = np.arange(60) % 2 == 0
    x = adata.X.toarray()
    x[np.ix_((adata.obs["group"] == "group2").to_numpy(), ~has_g)] = 0
    adata = AnnData(x, obs=adata.obs, var=adata.var)
    masks = {"group1": np.ones(60, bool), "group2": has_g, "group3": np.ones(60, bool)}
    mgvi = MGVI.from_anndata(adata, "group", feature_masks=masks, latents=["z:2", "t:1"])
    mgvi.fit(adata, max_epochs=2, progress=False)
    found = mgvi.effect_sizes(adata, progress=False)
    whole, shared = (
        mgvi.normalized_expression(adata, latents, predict_absent=True, progress=False)
        for latents in (None, "z")
    )
    change = whole * np.log2(whole / shared).abs()
    for group, has in masks.items():
        mine = (adata.obs["group"] == group).to_numpy()
        expected = change.loc[mine, has].sum(axis=1)
        np.testing.assert_allclose(found[mine], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(whole.loc[mine, has].sum(axis=1), 1.0, rtol=1e-4)


@pytest.mark.parametrize("proteins", [NB, ProteinNB])
def test_effect_sizes_of_several_modalities_are_the_mean_of_theirs(proteins):
    mdata = small()
    likelihoods = {"rna": ZINB, "prot": proteins}
    mgvi = MGVI.from_mudata(mdata, "donor", likelihoods, latents=LATENTS)
    mgvi.fit(mdata, max_epochs=2, progress=False)
    with torch.no_grad():  # so that the background of proteins is no small share
        for weight in mgvi.model.decoder.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    whole, shared = (
        mgvi.normalized_expression(mdata, latents, progress=False)
        for latents in (None, ["z", "rna", "prot"])
    )
    change = whole * np.log2(whole / shared).abs()
    modality = whole.columns.str.partition(":").get_level_values(0)
    parts = (table.T.groupby(modality).sum().T for table in (change, whole))
    expected = np.divide(*parts).mean(axis=1)
    found = mgvi.effect_sizes(mdata, progress=False)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
