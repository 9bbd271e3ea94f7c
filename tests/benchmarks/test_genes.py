"""The gene benchmark's own measures, on answers known beforehand."""

import numpy as np
import pytest
from scipy.stats import chi2, kstest

from benchmarks import genes
from pyro_mgvi.datasets import clear_recipe


def test_truth_leaves_out_what_only_the_other_group_shows():
    adata = clear_recipe(0, n_cells=40, n_shared_genes=5, n_program_genes=4)
    adata.obs["program"] = np.where(adata.obs["group"] == "group1", "P1", "P3")
    adata.obs.loc[adata.obs.index[adata.obs["group"] == "group1"][:5], "program"] = "P2"
    adata.obs.loc[adata.obs.index[adata.obs["group"] == "group2"][:5], "program"] = "P4"
    columns = [f"DEFacP{i}" for i in (1, 2, 3, 4)]
    adata.var.loc[adata.var["is_program"], columns] = [
        [2, 1, 1, 1],  # differs between group1's programs
        [1, 1, 2, 1],  # only between the other's
        [2, 2, 3, 3],  # no difference, but an effect of its own
        [1, 1, 1, 1],
    ]
    positive, counts = genes.truth(adata, "group1")
    assert positive[5:].tolist() == [True, False, False, False] and not positive[:5].any()
    assert counts[5:].tolist() == [True, False, True, True] and counts[:5].all()


def test_likelihood_ratio_is_chi_square_without_effect_and_large_with_one():
    rng = np.random.default_rng(0)
    size = rng.lognormal(7, 0.3, 400)
    label = np.repeat(["a", "b"], 200)
    null = rng.negative_binomial(2.0, 2.0 / (2.0 + size * 3e-3), (150, 400)).astype(float)
    ratio = [genes.likelihood_ratio(x, size, label) for x in null]
    assert kstest(ratio, chi2(1).cdf).pvalue > 0.01
    twice = size * 3e-3 * np.where(label == "a", 2, 1)
    affected = rng.negative_binomial(2.0, 2.0 / (2.0 + twice)).astype(float)
    assert genes.likelihood_ratio(affected, size, label) > 20
    assert genes.likelihood_ratio(np.zeros(400), size, label) == 0


def test_recovery_and_agreement_of_perfect_and_reversed_rankings():
    positive, counts = np.arange(100) < 20, np.arange(100) != 50
    perfect = genes.recovery_of(-np.arange(100.0), positive, counts)
    assert perfect["average precision"] == 1 and perfect["precision of top 50"] == 0.4
    assert genes.recovery_of(np.arange(100.0), positive, counts)["average precision"] < 0.15
    unranked = np.where(positive, 1.0, np.nan)  # genes without a score come last
    assert genes.recovery_of(unranked, positive, counts)["average precision"] == 1
    score = np.arange(500.0)
    assert genes.agreement([score, 3 * score]) == pytest.approx(1)
    assert genes.agreement([score, -score]) == pytest.approx(-1)


def test_rows_are_there_after_an_interruption(tmp_path):
    genes.Rows(tmp_path).add("errors", "without", "group1", "q", 3, found=1.0)
    again = genes.Rows(tmp_path)
    assert again.has("errors", "without", "group1", "q", 3)
    assert not again.has("errors", "without", "group1", "q", 4)
    again.add("errors", "without", "group1", "q", 3, found=2.0)
    assert genes.Rows(tmp_path).table["value"].tolist() == [2.0]
