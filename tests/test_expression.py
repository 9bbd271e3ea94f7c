"""Expression from posterior draws and differences between cells, against formulas by hand."""

import numpy as np
import pytest
import torch

import pyro_mgvi
from pyro_mgvi import MGVI, DataError, Gaussian, SettingsError
from pyro_mgvi import expression as module


@pytest.fixture
def trained(mgvi, adata):
    mgvi.fit(adata, max_epochs=3, batch_size=32, progress=False)
    return mgvi


@pytest.fixture
def at_the_mean(monkeypatch):
    """Draws are the posterior means."""
    monkeypatch.setattr(torch, "normal", lambda mean, scale, generator: mean)


@pytest.mark.parametrize("latents", [None, "z", ["t"]])
def test_draws_at_the_mean_are_normalized_expression(trained, adata, latents, at_the_mean):
    genes = list(adata.var_names[[5, 2]])
    mean, std = trained_draws = trained.expression_draws(adata, latents, genes, n_draws=3)
    assert all(list(table.columns) == genes for table in trained_draws)
    np.testing.assert_allclose(mean, trained.normalized_expression(adata, latents, genes), 1e-5)
    np.testing.assert_allclose(std, 0, atol=1e-9)


def test_draws_have_the_moments_of_draws_by_hand(trained, adata, monkeypatch):
    n = 600
    monkeypatch.setattr("pyro_mgvi.mgvi.EVALUATION_SIZE", 50)
    mean, std = trained.expression_draws(adata, n_draws=n, seed=3)
    data, model = trained.read(adata), trained.model
    batch = data.rows(np.arange(len(data)))
    by_hand = []
    for seed in range(n):
        drawn = trained.latents(data, foreign="encode", draw=seed)
        t = torch.stack([torch.from_numpy(drawn[k]) for k in model.latents[1].keys])
        values = {"z": torch.from_numpy(drawn["z"]), "t": t}
        with torch.no_grad():
            parts = model.decode(values, batch.group, batch.covariates)
            by_hand.append(model.likelihood.expression(parts).numpy())
    truth, spread = np.mean(by_hand, 0), np.std(by_hand, 0, ddof=1)
    error = np.abs(mean - truth) / (spread * np.sqrt(2 / n))
    assert error.to_numpy().max() < 6 and 0.5 < error.to_numpy().mean() < 1.1  # E|N(0,1)| = 0.8
    assert abs(np.log(std / spread)).to_numpy().mean() < 0.05


def test_two_cells_differ_by_the_ratio_of_their_expression(trained, adata, at_the_mean):
    first, second = np.arange(120) == 3, np.arange(120) == 80
    for latents in (None, "z", "t"):
        rho = trained.normalized_expression(adata, latents).to_numpy(float)
        table = trained.differential_expression(adata, first, second, latents=latents, n_pairs=9)
        assert table["probability"].is_monotonic_decreasing
        table = table.set_index("gene").loc[list(adata.var_names)]
        lfc = np.log2(rho[3] / rho[80])
        np.testing.assert_allclose(table["log_fold_change"], lfc, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(table["log_fold_change_std"], 0, atol=1e-4)
        np.testing.assert_allclose(table["mean_first"], 1e4 * rho[3], rtol=1e-4)
        np.testing.assert_allclose(table["mean_second"], 1e4 * rho[80], rtol=1e-4)
        np.testing.assert_array_equal(table["probability"], np.abs(lfc) > 0.25)


def test_sets_are_groups_or_masks_and_the_order_only_turns_the_sign(trained, adata, at_the_mean):
    group = adata.obs["group"].to_numpy(str)
    settings = {"n_pairs": 4000, "latents": "t"}
    by_name = trained.differential_expression(adata, "group1", "group2", **settings)
    by_mask = trained.differential_expression(
        adata, group == "group1", group == "group2", **settings
    )
    assert by_name.equals(by_mask)
    turned = trained.differential_expression(adata, "group2", "group1", **settings)
    one, other = (x.set_index("gene").sort_index()["log_fold_change"] for x in (by_name, turned))
    rho = np.log2(trained.normalized_expression(adata, "t"))
    truth = (rho[group == "group1"].mean() - rho[group == "group2"].mean()).sort_index()
    np.testing.assert_allclose(one, truth, atol=0.05)
    np.testing.assert_allclose(other, -truth, atol=0.05)


def test_shared_latents_do_not_tell_groups_of_the_same_cells_apart(adata):
    """Offsets and private latents are what differs here, and neither is decoded."""
    mgvi = MGVI.from_anndata(adata, "group", latents=(pyro_mgvi.shared(3), pyro_mgvi.private(2)))
    with torch.no_grad():
        mgvi.model.decoder.offset[1] += torch.linspace(-1, 1, 60)
    same = mgvi.read(adata).subset(np.arange(40))
    same.group_n[:20], same.group_n[20:] = 0, 1
    same = type(same)(
        np.repeat(same.x[:20].toarray(), 2, 0)[np.r_[0:40:2, 1:40:2]],
        same.group_n, same.batch_n, same.covariate_nc, same.schema, same.cells,
    )  # fmt: skip
    shared, every = (
        mgvi.differential_expression(same, "group1", "group2", latents=latents, n_pairs=2000)
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
        ((ones, ones), {"n_pairs": 1}, SettingsError, "n_pairs >= 2"),
    ]
    for sets, settings, error, message in cases:
        with pytest.raises(error, match=message):
            mgvi.differential_expression(adata, *sets, **settings)
    with pytest.raises(SettingsError, match="n_draws"):
        mgvi.expression_draws(adata, n_draws=1)
    with pytest.raises(DataError, match="no_such_gene"):
        module.expression_draws(mgvi, adata, genes=["no_such_gene"])
    values = adata.copy()
    values.X = np.log1p(values.X.toarray())
    gaussian = MGVI.from_anndata(values, "group", likelihood=Gaussian)
    with pytest.raises(SettingsError, match="likelihood of counts"):
        gaussian.differential_expression(values, "group1", "group2")
