"""What a trained model is asked, and what is then true of any configuration whatsoever."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from benchmarks.combinations.case import Case, heed_warnings
from benchmarks.combinations.cells import whole_or_not
from benchmarks.combinations.factors import FIRST, SECOND
from pyro_mgvi import ChainDiagnosticsWarning
from pyro_mgvi.criticism import held_out, predictive_checks, to_arviz

GROUP = SECOND  # whose genes are ranked: the group of most cells


def latents(case: Case) -> None:
    """Check for values where a cell owns a copy, NaN elsewhere, and zeros in closed dimensions."""
    mgvi, names = case.mgvi, case.adata.obs_names[case.kept]
    shown, zero = mgvi.latents(case.adata), mgvi.latents(case.adata, "zero")
    encoded, drawn = mgvi.latents(case.adata, "encode"), mgvi.latents(case.adata, draw=0)
    copies = mgvi.families.copies
    assert list(shown) == list(zero) == list(encoded) == [copy.key for copy in copies]
    for copy in copies:
        owned = np.isin(case.groups, copy.groups)
        value, active = shown[copy.key].to_numpy(), mgvi.model.active.of(copy).numpy()
        assert shown[copy.key].index.equals(pd.Index(names)) and value.shape[1] == copy.dim
        assert (np.isfinite(value) == owned[:, None]).all()
        assert (zero[copy.key] == np.where(owned[:, None], value, 0)).all(axis=None)
        every = encoded[copy.key].to_numpy()
        assert np.isfinite(every).all() and (every[owned] == value[owned]).all()
        assert (every[:, ~active] == 0).all()
        draw = drawn[copy.key].to_numpy()
        assert (draw[owned][:, ~active] == 0).all() and np.isnan(draw[~owned]).all()
        assert (draw[owned][:, active] != value[owned][:, active]).all()
    written = case.in_memory.copy()
    mgvi.write_latents(written)
    for key, table in shown.items():
        whole = written.obsm[f"X_mgvi_{key}".replace("/", "_")]
        np.testing.assert_allclose(whole[case.kept], table, rtol=1e-5, atol=1e-5)
        assert np.isnan(np.delete(whole, case.kept, axis=0)).all()
    written.write_h5ad(case.folder / "written.h5ad")


def expression(case: Case) -> None:
    """Check that shares sum to one and that shared ones do not depend on the group.

    Shares are of the genes that a cell has; the others are missing.
    """
    mgvi, families = case.mgvi, case.mgvi.families
    whole = mgvi.normalized_expression(case.adata)
    assert whole.shape == case.values.shape
    assert (np.isfinite(whole.to_numpy()) == case.measured).all()
    predicted = mgvi.normalized_expression(case.adata, predict_absent=True)
    assert np.isfinite(predicted.to_numpy()).all()
    assert (predicted.where(case.measured).fillna(0) == whole.fillna(0)).all(axis=None)
    if case.counts:
        assert (predicted >= 0).all(axis=None)
        np.testing.assert_allclose(whole.sum(axis=1), 1, rtol=1e-4)
    genes = ["gene7", "gene2"]
    assert mgvi.normalized_expression(case.adata, genes=genes).equals(whole[genes])
    all_names = [latent.name for latent in families]
    named = mgvi.normalized_expression(case.adata, all_names)
    if not all(map(families.everyones, families.copies)):  # else named ones are of an average group
        assert named.equals(whole) == (case.chosen["labels"] != "samples")  # of an average sample
    shared = [latent.name for latent in families.shared]
    if shared and case.measured.all():  # or a cell of another group says less, or more
        moved = case.data.with_groups((case.data.group_n + 1) % len(case.data.schema.groups))
        here, there = (mgvi.normalized_expression(x, shared) for x in (case.data, moved))
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-7)
    if "batch" in case.chosen["labels"]:
        as_first = mgvi.normalized_expression(case.adata, batch="d1")
        own = (case.adata.obs["donor"].to_numpy(str) == "d1")[case.kept]
        np.testing.assert_allclose(as_first[own], whole[own], rtol=1e-5, atol=1e-7)
    mean, std = mgvi.expression_draws(case.adata, n_draws=3)
    assert (np.isfinite(mean.to_numpy()) == case.measured).all()
    assert (std.fillna(0) >= 0).all(axis=None) and std.isna().equals(mean.isna())
    if case.counts:
        np.testing.assert_allclose(mean.sum(axis=1), 1, rtol=1e-4)
    if not any(mgvi.model.active.of(copy).any() for copy in families.copies):
        np.testing.assert_allclose(mean, whole, rtol=1e-4, atol=1e-6)


def rank_genes(case: Case) -> None:
    """Check that every gene is there, and that factors add up to the gain in log-likelihood."""
    mgvi, genes = case.mgvi, list(case.mgvi.schema.genes)
    table = mgvi.rank_genes(case.adata, GROUP, calibration=case.refits, progress=False)
    assert sorted(table.index) == sorted(genes)
    assert table["bayes_factor"].is_monotonic_decreasing
    assert np.isfinite(table.drop(columns=["z_score", "q_value"]).to_numpy()).all()
    assert table["fraction_in_favour"].between(0, 1).all()
    np.testing.assert_allclose(table[["mean_all", "mean_shared"]].sum(), 1e4, rtol=1e-4)
    known = table["q_value"].notna()
    assert known.equals(table["z_score"].notna())
    by_all = pd.Series(case.measured.all(0), genes)[table.index]  # samples are compared in these
    assert known.nunique() == 1 or (case.chosen["labels"] == "samples" and known.equals(by_all))
    assert ("genes_without_q" in table.attrs) == (known.nunique() > 1)
    assert table["q_value"][known].between(0, 1).all()
    own = mgvi.rank_genes(case.adata, GROUP, offset="own", calibration=False)
    data = case.data.subset(np.flatnonzero(case.groups == GROUP))
    posterior = mgvi.posterior(data.rows(np.arange(len(data))))
    values = posterior.means()
    shared = {latent.name for latent in mgvi.families.shared}
    less = {name: x if name in shared else 0 * x for name, x in values.items()}
    gain_n = posterior.log_likelihood(values) - posterior.log_likelihood(less)
    total = float(gain_n.detach().double().sum())
    np.testing.assert_allclose(own["bayes_factor"].sum(), total, rtol=1e-3, atol=0.05)


def differential_expression(case: Case) -> None:
    """Check that every gene is there, with shares that sum to one and a probability."""
    both = case.adata.obs["type"].to_numpy(str) == "A"
    for first, second in ((FIRST, SECOND), (both, ~both)):
        table = case.mgvi.differential_expression(case.adata, first, second, n_draws=60)
        assert sorted(table.index) == sorted(case.mgvi.schema.genes)
        sides = [case.groups == x if isinstance(x, str) else x[case.kept] for x in (first, second)]
        has_g = pd.DataFrame(
            [case.measured[cells].any(0) for cells in sides], columns=case.mgvi.schema.genes
        )[table.index]
        shared = has_g.all().to_numpy()
        assert (table["log_fold_change"].notna() == shared).all()
        assert table["probability"][shared].between(0, 1).all()
        for column, known, cells in zip(("mean_first", "mean_second"), has_g.to_numpy(), sides):
            assert (table[column].notna() == known).all()
            if (case.measured[cells].any(0) == case.measured[cells].all(0)).all():  # of one group
                np.testing.assert_allclose(table[column].sum(), 1e4, rtol=1e-4)
        assert table["probability"].dropna().is_monotonic_decreasing


def diagnose(case: Case) -> None:
    """Check that each copy has a row, and that closed dimensions say nothing."""
    mgvi, copies = case.mgvi, case.mgvi.families.copies
    report = mgvi.diagnose(
        case.adata, labels="type", refits=case.refits, max_epochs=1, progress=False
    )
    assert list(report.copies.index) == [copy.key for copy in copies]
    specific = [not copy.shared for copy in copies]
    for column in ("worth", "worth_se", "shuffled", "shuffled_se"):
        assert (report.copies[column].notna() == specific).all()
        assert np.isfinite(report.copies[column][specific]).all()
    assert report.copies["agreement"].between(0, 1 + 1e-6).all()
    table = report.dimensions
    active = np.concatenate([mgvi.model.active.of(copy).numpy() for copy in copies])
    assert len(table) == len(active) and np.isfinite(table[["kl", "variance"]].to_numpy()).all()
    assert (table.loc[~active, ["kl", "variance"]] == 0).all(axis=None)
    assert not table.loc[~active, "active"].any()
    assert report.probes[["accuracy", "chance"]].stack().between(0, 1).all()
    said = "\n".join(report.verdict)
    assert all(copy.key in said for copy in copies if not copy.shared)


def held_out_likelihood(case: Case) -> None:
    """Check that it is finite, above the ELBO, and the same for all cells or in parts."""
    score = held_out(case.mgvi, case.adata, n_draws=64, progress=False)
    assert np.isfinite(score.log_marginal_n).all() and len(score.cells) == len(case.kept)
    assert (score.log_marginal_n >= score.elbo_n - 1e-9).all()
    assert ((score.ess_n >= 1 - 1e-6) & (score.ess_n <= 64 + 1e-6)).all()
    again = held_out(case.mgvi, case.data, n_draws=64, progress=False)
    assert (again.log_marginal_n == score.log_marginal_n).all()
    parts = np.array_split(np.arange(len(case.data)), 2)
    halves = [
        held_out(case.mgvi, case.data.subset(part), n_draws=64, seed=1, progress=False)
        for part in parts
    ]
    total = sum(half.log_marginal_n.sum() for half in halves)
    if np.median(score.ess_n) < 4:  # an estimate that rests on single draws has no known error
        return
    error = np.hypot(score.monte_carlo_error, np.hypot(*(x.monte_carlo_error for x in halves)))
    assert abs(total - score.log_marginal_n.sum()) < 5 * error + 1e-3 * len(case.data)


def arviz(case: Case) -> None:
    """Check the dimensions of draws, and that what was observed is what was given."""
    mgvi, n = case.mgvi, len(case.kept)
    with warnings.catch_warnings(record=True) as said:
        heed_warnings("always")
        found = to_arviz(mgvi, case.adata, n_draws=3, progress=False)
    assert [warning.category for warning in said] == [ChainDiagnosticsWarning]
    np.testing.assert_allclose(found["observed_data"]["counts"], case.values, rtol=1e-6)
    assert np.isfinite(found["log_likelihood"]["counts"]).all()
    assert found["sample_stats"]["log_weight"].shape == (1, 3, n)
    assert np.isfinite(found["sample_stats"]["log_weight"]).all()
    predicted = found["posterior_predictive"]["counts"].to_numpy()
    assert predicted.shape == (1, 3, *case.values.shape) and np.isfinite(predicted).all()
    assert whole_or_not(predicted) == case.counts
    has_library = case.counts and case.chosen["library"] == "latent"
    assert ("library" in found["posterior"]) == has_library
    for latent in mgvi.families:
        value = found["posterior"][latent.name].to_numpy()[0]
        value = value if latent.n_copies > 1 else value[:, :, None]
        owned = np.array([np.isin(case.groups, owners) for owners in latent.owners]).T
        assert value.shape == (3, n, latent.n_copies, latent.dim)
        assert (np.isfinite(value) == owned[None, :, :, None]).all()


def predictive(case: Case) -> None:
    """Check what was observed, and that its interval is one."""
    checks = predictive_checks(case.mgvi, case.adata, n_draws=20, progress=False)
    assert len(checks.genes) == case.values.shape[1] and len(checks.cells) == len(case.kept)
    values = np.where(case.measured, case.values.astype(float), np.nan)
    zeros_g = (values == 0).sum(0) / case.measured.sum(0)
    np.testing.assert_allclose(checks.genes["mean_observed"], np.nanmean(values, 0), rtol=1e-5)
    np.testing.assert_allclose(checks.genes["variance_observed"], np.nanvar(values, 0), rtol=1e-4)
    np.testing.assert_allclose(checks.genes["zeros_observed"], zeros_g, rtol=1e-5)
    np.testing.assert_allclose(checks.cells["library_observed"], case.values.sum(1), rtol=1e-5)
    for table, names in ((checks.genes, "mean variance zeros"), (checks.cells, "library zeros")):
        for name in names.split():
            assert table[f"{name}_p"].between(0, 1).all()
            assert (table[f"{name}_lower"] <= table[f"{name}_upper"]).all()
            assert np.isfinite(table[f"{name}_predicted"]).all()
    assert (checks.cells["group"].astype(str) == case.groups).all()
    assert np.isfinite(checks.summary()[["observed", "predicted", "error"]].to_numpy()).all()


def loadings(case: Case) -> None:
    """Check that every gene has a loading on every dimension, if some owner of the copy has it."""
    for copy in case.mgvi.families.copies:
        table = case.mgvi.loadings(copy.key)
        assert table.shape == (len(case.mgvi.schema.genes), copy.dim)
        assert list(table.index) == list(case.mgvi.schema.genes)
        has_g = case.measured[np.isin(case.groups, copy.groups)].any(0)
        assert (np.isfinite(table.to_numpy()) == has_g[:, None]).all()


def gene_programs(case: Case) -> None:
    """Check that every gene has a program."""
    table = case.mgvi.gene_programs()
    assert list(table.index) == list(case.mgvi.schema.genes)
    assert table["probability"].between(0, 1).all() and (table["cluster"] >= 0).all()
