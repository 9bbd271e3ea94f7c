"""The ArviZ export, against the model itself and closed forms."""

import re
import tracemalloc
import warnings

import matplotlib
import numpy as np
import pytest
import torch
from helpers import by_hand
from helpers.modalities import model, mudata_of, small
from hypothesis import given
from hypothesis import strategies as st

import pyro_mgvi
from pyro_mgvi import NB, DataError, Gaussian, Latents, SettingsError, private, shared
from pyro_mgvi.criticism import to_arviz
from pyro_mgvi.criticism.arviz_versions import arviz_and_version
from pyro_mgvi.criticism.export import check_size
from pyro_mgvi.errors import ChainDiagnosticsWarning

matplotlib.use("Agg")


def export(*args, **settings):
    with pytest.warns(ChainDiagnosticsWarning, match="r-hat"):
        return to_arviz(*args, progress=False, **settings)


def test_labels_and_shapes(mgvi, adata):
    before = torch.get_rng_state()
    data = export(mgvi, adata, n_draws=3, genes=["program_2", "shared_1"])
    assert torch.equal(torch.get_rng_state(), before)
    z, t, library = (data["posterior"][name] for name in ("z", "t", "library"))
    assert z.dims == ("chain", "draw", "cell", "z_dimension")
    assert t.dims == ("chain", "draw", "cell", "t_subset", "t_dimension")
    assert library.dims == ("chain", "draw", "cell") and t.shape == (1, 3, 120, 3, 2)
    assert list(t.t_subset.values) == ["group1", "group2", "group3"]
    assert list(z.cell.values) == list(adata.obs_names)
    assert list(z.z_dimension.values) == ["z_1", "z_2", "z_3"]
    observed = data["observed_data"]["counts"].sel(gene="shared_1")
    np.testing.assert_array_equal(observed, adata[:, "shared_1"].X.toarray()[:, 0])
    predicted = data["posterior_predictive"]["counts"]
    assert predicted.dims == ("chain", "draw", "cell", "gene")
    assert list(predicted.gene.values) == ["program_2", "shared_1"]
    assert data["log_likelihood"]["counts"].dims == ("chain", "draw", "cell")
    assert (data["constant_data"]["group"].values == adata.obs["group"].to_numpy()).all()
    assert "r-hat" in data["posterior"].attrs["warning"]


@pytest.mark.slow
def test_draws_are_the_posterior_and_foreign_copies_are_reported_as_by_latents(mgvi, adata):
    by_hand.away_from_start(mgvi)
    for foreign in ("nan", "zero", "encode"):
        data = export(mgvi, adata, n_draws=60, foreign=foreign)
        means = {key: x.to_numpy() for key, x in mgvi.latents(adata, foreign).items()}
        z, t = data["posterior"]["z"], data["posterior"]["t"]
        gap = (z.mean(("chain", "draw")).values - means["z"]) / (z.std().item() / 60**0.5)
        assert abs(gap).max() < 5.5
        for group in mgvi.schema.groups:
            copy = t.sel(t_subset=group)
            expected = means[f"t_{group}"]
            own = np.isfinite(expected) & (expected != 0)
            np.testing.assert_array_equal(np.isnan(copy.values[0, 0]), np.isnan(expected))
            assert (own.all(1) == (adata.obs["group"] == group)).all() or foreign == "encode"
            gap = copy.mean(("chain", "draw")).values - expected
            error = copy.std(("chain", "draw")).values / 60**0.5
            assert (np.abs(gap) <= 6 * error + 1e-6)[own].all()
            if foreign == "zero":
                assert (copy.values[0][:, ~own] == 0).all()


def test_log_likelihood_is_that_of_the_exported_latents(mgvi, adata, batch):
    by_hand.away_from_start(mgvi)
    data = export(mgvi, adata, n_draws=2, foreign="zero")
    weights = by_hand.decoder_weights(mgvi)
    group = batch.group.numpy()
    for i in range(2):
        z, t, library = (data["posterior"][name].values[0, i] for name in ("z", "t", "library"))
        inputs = np.concatenate([z, t.reshape(len(z), -1)], axis=1)
        eta, gate = by_hand.hidden_layer(weights, inputs)
        eta = eta + inputs @ weights["linear"] + weights["offset"][group]
        eta = eta + np.einsum("nk,nkg->ng", z, weights["response"].reshape(3, 3, -1)[group])
        expected = by_hand.zinb_log_prob(mgvi, batch, eta, gate, library)
        total = data["log_likelihood"]["counts"].values[0, i].sum()
        assert total == pytest.approx(expected, rel=1e-5)


def test_log_weight_is_in_expectation_the_divergence_of_the_owned_copies(mgvi, adata, batch):
    by_hand.away_from_start(mgvi)
    n_draws = 100
    data = export(mgvi, adata, n_draws=n_draws)
    ratio = (data["sample_stats"]["log_weight"] - data["log_likelihood"]["counts"]).values[0]
    with torch.no_grad():
        moments = mgvi.guide.moments(batch.counts, batch.covariates)
    moments = {name: [x.numpy() for x in pair] for name, pair in moments.items()}
    own = batch.group.numpy() == np.arange(3)[:, None]
    prior = mgvi.model.library_prior(None, len(own[0]))
    expected = by_hand.kl_to_standard_normal(*moments["z"])[0]
    expected = expected + (by_hand.kl_to_standard_normal(*moments["t"]) * own).sum(0)
    expected = expected + by_hand.kl_of_library(
        *moments["library"], prior.loc.numpy(), prior.scale.numpy()
    )
    error = (ratio.mean(0) + expected) / (ratio.std(0) / n_draws**0.5)
    assert abs(error).max() < 5.5 and abs(error.mean()) < 5.5 / len(error) ** 0.5


def test_transformed_data_and_an_observed_library_have_no_library(adata):
    observed = pyro_mgvi.MGVI.from_anndata(adata, "group", observed_library=True)
    data = export(observed, adata, n_draws=1)
    assert "library" not in data["posterior"]
    assert data["posterior_predictive"]["counts"].dtype == np.int32
    log = adata.copy()
    log.X = np.log1p(log.X.toarray())
    gaussian = pyro_mgvi.MGVI.from_anndata(log, "group", likelihood=Gaussian)
    data = export(gaussian, log, n_draws=1)
    assert "library" not in data["posterior"]
    np.testing.assert_allclose(data["observed_data"]["counts"].values, log.X, rtol=1e-6)


@pytest.mark.slow
def test_arviz_runs_on_the_export(mgvi, adata):
    arviz, version = arviz_and_version()
    other = pyro_mgvi.MGVI.from_anndata(adata, "group", latents=mgvi.model.latents, likelihood=NB)
    one, two = (export(model, adata, n_draws=40) for model in (mgvi, other))
    with pytest.warns(UserWarning, match="Pareto"):
        loo = arviz.loo(one, pointwise=True)
    assert loo["n_data_points"] == 120
    with pytest.warns(UserWarning, match="Pareto"):
        table = arviz.compare({"zinb": one, "nb": two}, method="BB-pseudo-BMA")
    assert set(table.index) == {"zinb", "nb"}
    plot = arviz.plot_ppc if version == 0 else arviz.plot_ppc_dist
    with warnings.catch_warnings():  # ArviZ's own: slow legends, discrete data
        warnings.simplefilter("ignore")
        drawn = plot(one)
    assert drawn is not None
    assert {"mean", "sd"} <= set(arviz.summary(one, var_names=["library"], kind="stats").columns)


@pytest.mark.slow
def test_refuses_what_does_not_fit_and_stays_within_the_bound(mgvi, adata):
    with pytest.raises(SettingsError, match=r"take at most .* draws, .* cells"):
        to_arviz(mgvi, adata, n_draws=1000, max_bytes=1e6)
    bound = 8e6
    export(mgvi, adata, n_draws=1)  # imports
    tracemalloc.start()
    export(mgvi, adata, n_draws=220, max_bytes=bound)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 7e6 < peak < bound + 2e6


@given(
    draws=st.integers(1, 500),
    n_cells=st.integers(1, 2000),
    n_genes=st.integers(1, 3000),
    max_bytes=st.integers(10**3, 10**9),
)
def test_what_the_error_suggests_fits(draws, n_cells, n_genes, max_bytes):
    latents = Latents((shared(3), private(2)), ("a", "b"))
    asked = {"draws": draws, "cells": n_cells, "genes": n_genes}
    try:
        check_size(latents, *asked.values(), max_bytes)
    except SettingsError as error:
        for fit, what in re.findall(r"(\d+) (draws|cells|genes)(?=,|;)", str(error)):
            check_size(latents, *(asked | {what: int(fit)}).values(), max_bytes)
            with pytest.raises(SettingsError):
                check_size(latents, *(asked | {what: int(fit) + 1}).values(), max_bytes)
    else:
        assert draws * n_cells * n_genes * 4 <= max_bytes


def test_export_refuses_bad_input(mgvi, adata):
    for settings, match in (
        ({"n_draws": 0}, "n_draws"),
        ({"foreign": "mean"}, "foreign"),
        ({"genes": ["none_such"]}, "none_such"),
    ):
        with pytest.raises((SettingsError, DataError), match=match):
            to_arviz(mgvi, adata, **settings)
    twice = mgvi.read(adata).subset(np.array([0, 1, 1]))
    with pytest.raises(DataError, match="obs_names_make_unique"):
        to_arviz(mgvi, twice)


@pytest.mark.parametrize("name", ["cell", "draw", "chain", "log_weight", "group", "z_dimension"])
def test_names_that_the_result_uses_otherwise_are_refused(adata, name):
    latents = (shared(2), private(2, name=name))
    mgvi = pyro_mgvi.MGVI.from_anndata(adata, "group", latents=latents)
    with pytest.raises(SettingsError, match=f"latent '{name}' is that of a dimension or variable"):
        to_arviz(mgvi, adata, n_draws=2, progress=False)


def test_counts_of_a_modality_that_a_cell_lacks_are_marked():
    mdata = small()
    few = mudata_of({"rna": mdata.mod["rna"].copy(), "prot": mdata.mod["prot"][5:].copy()})
    mgvi = model(few)
    assert not mgvi.schema.absent  # both donors have proteins of some cells
    found = export(mgvi, few, n_draws=1)
    measured = found["constant_data"]["measured"]
    of_protein = np.char.startswith(measured.gene.values.astype(str), "prot:")
    has_n = np.isin(measured.cell.values, few.mod["prot"].obs_names)
    np.testing.assert_array_equal(measured, has_n[:, None] | ~of_protein)
    assert (found["observed_data"]["counts"].values[~measured.values] == 0).all()
    rna = [gene for gene in mgvi.schema.genes if gene.startswith("rna:")]
    for cells, genes in ((mdata, None), (few, rna)):
        assert "measured" not in export(mgvi, cells, n_draws=1, genes=genes)["constant_data"]
