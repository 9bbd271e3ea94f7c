"""The simulator against its own formulas and against R Splatter's output."""

import numpy as np
import pytest
from pyro_mgvi.metrics import program_score

from pyro_mgvi import DataError, SettingsError
from pyro_mgvi.baselines import method
from pyro_mgvi.datasets import two_modalities
from pyro_mgvi.datasets.simulate import SplatParams, clear_recipe, grouped, paper_recipe, splat


def test_the_same_seed_gives_the_same_data():
    first, again, other = (clear_recipe(s, 60, 40, 10) for s in (0, 0, 1))
    assert (first.X != again.X).nnz == 0 and (first.X != other.X).nnz > 0


def test_library_sizes_and_de_factors_follow_their_distributions():
    params = SplatParams(lib_loc=9.0, lib_scale=0.3, de_prob=0.3, de_fac_loc=0.2, bcv_common=0.01)
    counts, factors = splat(np.arange(3000) % 3, 800, params, seed=0)
    log_library = np.log(np.asarray(counts.sum(1)).ravel())
    assert log_library.mean() == pytest.approx(9.0, abs=0.05)
    assert log_library.std() == pytest.approx(0.3, abs=0.03)
    changed = factors[factors != 1]
    assert len(changed) / factors.size == pytest.approx(0.3, abs=0.03)
    assert (changed < 1).mean() == pytest.approx(0.5, abs=0.05)
    size = np.abs(np.log(changed))  # |log factor| is a folded normal
    draws = np.abs(np.random.default_rng(0).normal(0.2, 0.4, 100_000))
    assert size.mean() == pytest.approx(draws.mean(), rel=0.07)


def test_negative_binomial_dispersion_is_the_bcv():
    params = SplatParams(out_prob=0, de_prob=0, lib_scale=1e-9, bcv_common=0.4, bcv_df=1e9)
    counts, _ = splat(np.zeros(4000, int), 100, params, seed=1)
    x = counts.toarray()
    mean, variance = x.mean(0), x.var(0)
    high = mean > 50
    expected = mean + (mean * (0.4 + mean**-0.5)) ** 2
    np.testing.assert_allclose(variance[high], expected[high], rtol=0.2)


def test_dropout_zeroes_low_genes_first():
    params = SplatParams(lib_loc=7.0, dropout_mid=0.0)
    with_dropout, _ = splat(np.zeros(500, int), 200, params, seed=0)
    without, _ = splat(np.zeros(500, int), 200, SplatParams(lib_loc=7.0), seed=0)
    assert with_dropout.nnz < 0.8 * without.nnz


def test_grouped_truth_is_consistent():
    pairs = [("a", "b")]
    adata = grouped(0, SplatParams(lib_loc=9), SplatParams(lib_loc=7), 900, 50, 20,
                    groups=["a", "b", "c"], group_weights=[10, 1, 1], pairs=pairs)  # fmt: skip
    assert adata.shape == (900, 50 + 20 + 20)
    sizes = adata.obs["group"].value_counts()
    assert sizes["a"] > 5 * sizes["b"]
    assert (adata.obs.groupby("program", observed=True)["group"].nunique() == 1).all()
    outside = adata.obs["group"] == "c"
    assert set(adata.obs["pair_a+b"][outside]) == {"none"}
    assert set(adata.obs["pair_a+b"][~outside]) == {"A", "B"}
    factors = adata.var.filter(like="DEFacP").to_numpy()
    assert (factors[~adata.var["is_program"]] == 1).all()
    assert (factors[adata.var["is_program"]] != 1).any()
    assert adata.var_names.is_unique and adata.X.dtype == np.int32


def test_planted_program_shows_in_the_counts():
    adata = clear_recipe(0, n_cells=2000, n_shared_genes=100, n_program_genes=100)
    x = adata.X.toarray() / np.asarray(adata.X.sum(1)).reshape(-1, 1)
    genes = adata.var["is_program"].to_numpy()
    by = [x[(adata.obs["program"] == p).to_numpy()][:, genes].mean(0) for p in ("P1", "P2")]
    seen = np.minimum(*by) > np.median(by[0])
    observed = np.log(by[0][seen] / by[1][seen])
    truth = np.log(adata.var["DEFacP1"] / adata.var["DEFacP2"])[genes][seen]
    assert np.corrcoef(observed, truth)[0, 1] > 0.9


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: SplatParams(de_prob=1.5), "de_prob is a probability"),
        (lambda: SplatParams(lib_scale=0), "lib_scale must be positive"),
        (lambda: clear_recipe(0, 20, 10, 5, groups=0), "at least 1"),
        (lambda: clear_recipe(0, 20, 10, 5, group_weights=[1.0]), "positive weight"),
        (lambda: clear_recipe(0, 20, 10, 5, pairs=[("group1", "x")]), "unknown group"),
    ],
)
def test_bad_parameters(call, message):
    with pytest.raises(SettingsError, match=message):
        call()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, recipe",
    [("splatter_clear_seed21", clear_recipe), ("splatter_paper_seed1_3k", paper_recipe)],
)
def test_conforms_with_the_r_package(reference, capsys, name, recipe):
    """Quantiles of gene and cell statistics over seeds enclose those of R Splatter."""
    real = reference(name)
    sizes = [(~real.var["is_program"]).sum(), real.var["is_program"].sum()]
    simulated = [statistics(recipe(seed, real.n_obs, *map(int, sizes))) for seed in range(4)]
    theirs = statistics(real)
    lines = []
    for key, value in theirs.items():
        ours = np.array([s[key] for s in simulated])
        # Genes are the sampling unit: seeds differ as the R run does from them.
        spread = ours.std(0, ddof=1) * (1 + 1 / 4) ** 0.5
        tolerance = 5 * spread + 0.02 * np.abs(value) + 0.005
        lines.append(f"{key:28} R {np.round(value, 3)}  NumPy {np.round(ours.mean(0), 3)}")
        np.testing.assert_array_less(np.abs(ours.mean(0) - value), tolerance, err_msg=key)
    with capsys.disabled():
        print(f"\n{name}\n" + "\n".join(lines))


def statistics(adata):
    out, quantiles = {}, [0.1, 0.25, 0.5, 0.75, 0.9]
    program = adata.var["is_program"].to_numpy(bool)
    for kind, genes in (("shared", ~program), ("program", program)):
        x = adata.X[:, genes].astype(float)
        mean = np.asarray(x.mean(0)).ravel()
        variance = np.asarray(x.multiply(x).mean(0)).ravel() - mean**2
        seen = mean > 0.05
        library = np.asarray(x.sum(1)).ravel()
        out[f"{kind} log gene mean"] = np.quantile(np.log(mean[seen]), quantiles)
        out[f"{kind} log gene variance"] = np.quantile(np.log(variance[seen]), quantiles)
        zeros = 1 - np.diff(x.tocsc().indptr) / x.shape[0]
        out[f"{kind} zero fraction"] = np.quantile(zeros[seen], quantiles)
        out[f"{kind} log library"] = np.quantile(np.log(library), quantiles)
    factors = adata.var.filter(like="DEFacP").to_numpy(float)[program]
    changed = factors[factors != 1]
    out["program DE fraction"] = np.array([len(changed) / factors.size])
    out["program log DE factor"] = np.quantile(np.log(changed), quantiles)
    return out


def test_bad_settings_are_named(adata):
    sizes = {"n_cells": 40, "n_shared_genes": 20, "n_program_genes": 5}
    cases = [
        ({"groups": ["a", "a"]}, "names of their own"),
        ({"groups": "ab"}, "groups must be a whole number"),
        ({"n_cells": 40.5}, "n_cells must be a whole number"),
        ({"n_types": 0}, "n_types must be at least 1"),
    ]
    for bad, message in cases:
        with pytest.raises(SettingsError, match=message):
            clear_recipe(**sizes | bad)
    assert clear_recipe(**sizes, groups=np.int64(2)).obs["group"].nunique() == 2
    with pytest.raises(SettingsError, match="de_fac_scale"):
        SplatParams(de_fac_scale=-1.0)
    with pytest.raises(SettingsError, match="seed must be at least 0"):
        two_modalities(seed=-1, n_cells=40)
    with pytest.raises(DataError, match="no cell is of group 'x'"):
        program_score(adata, "x")
    without = adata.copy()
    del without.obs["program"]
    with pytest.raises(DataError, match="obs has no program"):
        program_score(without, "group1")
    with pytest.raises(DataError, match=r"GroupedCounts\.from_anndata"):
        method("MGFA").fit(adata)
