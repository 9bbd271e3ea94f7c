"""The donors' benchmark: what is planted, how calls are counted, and its peers."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind, ttest_rel

from benchmarks.donors import methods
from benchmarks.donors.cells import (
    DEPTH,
    LEAST_MEAN,
    PLANTED,
    SHIFT,
    SHIFTED,
    VARYING,
    _with_effects,
    nested_donors,
    thinned_by_donors,
)
from benchmarks.donors.rows import first_true, row
from benchmarks.donors.simulated import by_donors


def test_donors_are_nested_and_nothing_else_differs_in_the_null():
    adata = nested_donors(5, 0, planted=False)
    donors = pd.crosstab(adata.obs["donor"], adata.obs["group"])
    assert len(donors) == 10 and ((donors > 0).sum(axis=1) == 1).all()
    assert donors.to_numpy().max() - donors[donors > 0].min().min() < 20  # nearly equal shares
    assert not (adata.var["planted"] != "").any()
    again = nested_donors(5, 0, planted=False)
    assert (adata.X != again.X).nnz == 0
    assert 1000 < adata.X.sum() / adata.n_obs < 3000 and DEPTH == 0.1


def test_a_donor_has_each_gene_thinned_by_one_share():
    rng = np.random.default_rng(0)
    donor_n = np.repeat(["a", "b", "c", "d"], 50)
    x = np.full((200, 30), 10_000)
    left = thinned_by_donors(x, donor_n, 0.3, rng) / x
    of_donor = left.reshape(4, 50, 30)
    assert of_donor.std(1).max() < 0.01  # binomial noise alone
    assert 0.1 < np.log(of_donor.mean(1)).std(0).mean() < 0.4
    assert 0.3 < (of_donor.mean(1) == 1).mean() < 0.7  # half of the effects are below zero
    assert (thinned_by_donors(x, donor_n, 0.0, rng) == x).all()


def test_a_shift_changes_the_mean_and_a_program_the_variance_alone():
    first_n = np.arange(4000) < 2000
    kind_g = np.full(100, "", dtype=object)
    x = _with_effects(np.full((4000, 100), 1000), first_n, kind_g, np.random.default_rng(1))
    assert (kind_g == SHIFTED).sum() == (kind_g == VARYING).sum() == PLANTED
    ratio_g = x[first_n].mean(0) / x[~first_n].mean(0)
    shifted = ratio_g[kind_g == SHIFTED]
    assert (np.isclose(shifted, SHIFT, rtol=0.01)).sum() == PLANTED // 2
    assert (np.isclose(shifted, 1 / SHIFT, rtol=0.01)).sum() == PLANTED // 2
    np.testing.assert_allclose(ratio_g[kind_g == VARYING], 1, atol=0.08)  # 0.9 or 0.1 by a coin
    assert (x[first_n].std(0) > 10 * x[~first_n].std(0))[kind_g == VARYING].all()
    assert (x[:, kind_g == ""] == 1000).all()


def test_rare_genes_are_not_planted():
    x = np.tile([0, 1], (100, 100)) * (np.arange(200) < 180)
    kind_g = np.full(200, "", dtype=object)
    _with_effects(x, np.arange(100) < 50, kind_g, np.random.default_rng(0))
    assert LEAST_MEAN == 0.2 and (x.mean(0)[kind_g != ""] >= LEAST_MEAN).all()


def test_a_ranking_is_cut_where_more_than_five_per_cent_are_false():
    true_g = np.array([True] * 30 + [False] * 10)
    p_g = np.linspace(0.001, 0.9, 40)
    assert first_true(p_g, true_g, ~true_g) == 30
    p_g[5] = np.nan  # not ranked
    assert first_true(p_g, true_g, ~true_g) == 29
    true_g = np.r_[False, np.ones(39, bool)]
    assert first_true(np.arange(40) / 50, true_g, ~true_g) == 39  # 1 of 40 is within 5 %
    few_g = true_g[:10]
    assert first_true(np.arange(10) / 50, few_g, ~few_g) == 0  # 1 of 10 is not


def test_rows_count_calls_by_what_was_planted():
    kind_g = np.array(["shift"] * 2 + ["program"] * 2 + [""] * 16, dtype=object)
    p_g = np.r_[1e-9, 1e-8, 1e-7, 0.9, 1e-6, np.full(15, 0.5)]
    found = row(p_g, kind_g)
    assert found["q < 0.05"] == 4 and found["true"] == 3
    assert found["shift"] == 2 and found["program"] == 1
    assert found["first shift"] == 2 and found["first program"] == 1
    assert row(np.full(20, np.nan), kind_g) == {}


def test_the_table_tells_null_from_planted():
    keys = {"data": "simulated", "method": "m", "donors": 6}
    rows = [
        keys | {"planted": 0, "q < 0.05": calls, "true": 0, "p < 0.05": 0.05} for calls in (0, 2)
    ]
    counts = {"true": 7, "shift": 5, "program": 2, "first shift": 6, "first program": 3}
    rows.append(keys | {"planted": 80, "q < 0.05": 8, "p < 0.05": 0.1} | counts)
    (found,) = by_donors(pd.DataFrame(rows)).to_dict("records")
    assert found["donors"] == "2 x 3" and found["null: with a call"] == "1 of 2"
    assert found["false"] == "1.0" and found["shift, of 40"] == "5.0"
    assert found["program, ranked"] == "3.0" and found["data sets"] == 1


@pytest.mark.parametrize("paired", [False, True])
def test_pseudobulk_without_moderation_is_the_textbook_t_test(paired, monkeypatch):
    monkeypatch.setattr(methods, "squeezed", lambda variance_g, df, tails: (variance_g, 0.0))
    adata = nested_donors(4, 1, planted=False)[:, :50].copy()
    names = adata.obs["donor"].astype(str)
    adata.obs["donor"] = names.str[-1] if paired else names
    sums, units = methods.sums_of_donors(adata, "donor")
    y = np.log2((sums + 0.5) / (sums.sum(1, keepdims=True) + 1) * 1e6)
    order = units.sort_values(["group", "donor"]).index
    one, two = y[order[:4]], y[order[4:]]
    expected = (ttest_rel if paired else ttest_ind)(one, two).pvalue
    found = methods.pseudobulk(adata, "first", "donor")
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.slow
def test_deseq_finds_a_planted_shift_where_it_is_installed():
    pytest.importorskip("pydeseq2", reason="DESeq2 is not installed")
    adata = nested_donors(10, 0, planted=True)
    p_g = methods.deseq(adata, "first", "donor")
    shifted = (adata.var["planted"] == SHIFTED).to_numpy()
    assert np.nanmedian(p_g[shifted]) < 1e-3 < np.nanmedian(p_g[~shifted])
