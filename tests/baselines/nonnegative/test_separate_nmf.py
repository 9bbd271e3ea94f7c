"""Separate NMF: planted programs, the rules of Kinker et al. written out, and the clear recipe."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mgvi import DataError, GroupedCounts, SettingsError
from pyro_mgvi.analysis.metrics import probe
from pyro_mgvi.baselines import Separate, SeparateNMF
from pyro_mgvi.datasets import clear_recipe

GENES = 60  # of a planted program: more than stand for one


def planted(seed, owners, n=80):
    """Draw cells of groups 0, 1, ... whose programs have genes of their own."""
    rng = np.random.default_rng(seed)
    group = np.repeat(range(1 + max(map(max, owners))), n)
    has = np.array([np.isin(group, own) for own in owners]).T
    score_nq = rng.gamma(0.3, 3.0, size=has.shape) * has
    x = np.repeat(score_nq, GENES, axis=1) * rng.uniform(0.5, 1.5, GENES * len(owners))
    return x + rng.exponential(0.3, size=x.shape), group, score_nq


def genes(weight_kp):
    """Return which planted program the genes of largest weight belong to, if to one."""
    top = np.argsort(-weight_kp, axis=1)[:, :50] // GENES
    assert (top == top[:, :1]).all()
    return set(top[:, 0].tolist())


def follows(weight_kp, found_nk, score_nq):
    """Return whether scores of programs follow those of the planted ones with their genes."""
    planted_k = weight_kp.argmax(1) // GENES
    pairs = zip(found_nk.T, score_nq[:, planted_k].T)
    return all(np.corrcoef(*pair)[0, 1] > 0.95 for pair in pairs)


@pytest.mark.parametrize("seed", range(3))
def test_planted_programs_are_found_and_told_apart(seed):
    owners = [(0, 1, 2), (0, 1, 2), (0,), (1,), (1, 2), (2,), (0,)]  # four in each group
    x, group, score_nq = planted(seed, owners)
    nmf = SeparateNMF(ranks=(4, 5), n_starts=2)
    programs = nmf.fit(x, group, seed)
    assert genes(programs.shared()) == {0, 1, 4}  # of several groups, if not of all
    assert [genes(programs.private(g)) for g in range(3)] == [{2, 6}, {3}, {5}]
    z, t = programs.scores(x, group)
    assert z.shape == (240, 3) and [own.shape[1] for own in t] == [2, 1, 1]
    for g, own in enumerate(t):
        assert np.isnan(own[group != g]).all()
        assert follows(programs.private(g), own[group == g], score_nq[group == g])
    assert follows(programs.shared(), z, score_nq)
    again = nmf.fit(x, group, seed)
    np.testing.assert_array_equal(again.weight_qp, programs.weight_qp)


def test_where_nothing_recurs_there_are_columns_of_zeros():
    rng = np.random.default_rng(0)
    x, group = rng.random((200, 400)), np.repeat([0, 1], 100)
    programs = SeparateNMF(ranks=(3, 9), n_starts=2, n_top=100, recur=1.0).fit(x, group)
    assert len(programs.weight_qp) == 0
    z, t = programs.scores(x, group)
    assert (z == 0).all() and z.shape == (200, 1)
    for g, own in enumerate(t):
        assert (own[group == g] == 0).all() and np.isnan(own[group != g]).all()


@given(seed=st.integers(0, 10**6), q=st.integers(1, 14), groups=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_redundant_programs_are_left_out_as_the_authors_do(seed, q, groups):
    """Their rule on sets of genes: from the most alike to others down, none alike a kept one."""
    rng = np.random.default_rng(seed)
    weight = rng.permuted(np.tile(np.arange(12.0), (q, 1)), axis=1)
    group = rng.integers(groups, size=q)
    nmf = SeparateNMF(n_top=5, alike=0.4)
    sets = [set(np.argsort(-w)[:5].tolist()) for w in weight]
    common = np.array([[len(a & b) for b in sets] for a in sets])
    np.testing.assert_array_equal(nmf.common(weight), common)
    expected = []
    for g in range(groups):
        mine = [i for i in range(q) if group[i] == g]
        others = [i for i in range(q) if group[i] != g]
        best = {i: max([len(sets[i] & sets[j]) for j in others], default=0) for i in mine}
        kept: list[int] = []
        for i in sorted(mine, key=lambda i: -best[i]):
            if all(len(sets[i] & sets[j]) <= 2 for j in kept):
                kept.append(i)
        expected += kept
    assert nmf.distinct(common, group) == sorted(expected)


def test_genes_without_weight_are_nothing_in_common():
    weight = np.zeros((2, 12))
    weight[0, 10:], weight[1, 9:11] = 1.0, 1.0
    np.testing.assert_array_equal(SeparateNMF(n_top=5).common(weight), [[2, 1], [1, 2]])


def test_a_program_must_recur_over_ranks_and_starts(monkeypatch):
    """Three found once, by one rank or by one start are left out; the one found by all stays."""
    n_genes = 20
    blocks = np.kron(np.eye(4), np.ones(5))

    class Scripted:
        def __init__(self, rank, init, random_state):
            self.rank = rank

        def fit(self, x):
            runs.append(self.rank)
            start = runs.count(self.rank) - 1
            rows = [blocks[0]]
            rows.append(
                blocks[1] if self.rank == 2 else rng.random(n_genes)
            )  # one rank, all starts
            if self.rank == 3:
                rows.append(blocks[2] if start == 0 else rng.random(n_genes))  # found once
            self.components_ = np.array(rows)
            return self

    runs, rng = [], np.random.default_rng(0)
    name = "pyro_mgvi.baselines.nonnegative.separate_nmf.NMF"
    monkeypatch.setattr(name, Scripted)
    nmf = SeparateNMF(ranks=(2, 3), n_starts=2, n_top=5, recur=1.0, alike=0.2)
    found = nmf.recurring(np.ones((6, n_genes)), seed=0)
    assert len(found) == 4 and (found.argmax(1) < 5).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)


@pytest.mark.slow  # thousands of genes: with few, types are too weak for NMF
@pytest.mark.parametrize("seed", range(2))
def test_programs_of_the_clear_recipe_are_found_by_short_lists_of_genes(seed):
    """With ten genes, and not with the published 50: 200 genes carry all programs."""
    adata = clear_recipe(seed, n_cells=800)
    data = GroupedCounts.from_anndata(adata, "group")
    program = adata.obs["program"].to_numpy()
    nmf = SeparateNMF(ranks=(7, 8), n_starts=2, n_top=10)
    t = Separate(nmf).fit(data, 0)["t"]
    for name, t_nj in t.items():
        own = (adata.obs["group"] == name).to_numpy()
        assert probe(t_nj[own], program[own]) > 0.7  # 0.5 by chance


def test_bad_input_is_refused():
    x, group = np.random.default_rng(0).random((40, 60)), np.repeat([0, 1], 20)
    with pytest.raises(SettingsError, match="two different ranks"):
        SeparateNMF(ranks=(5, 5))
    with pytest.raises(SettingsError, match="two starts"):
        SeparateNMF(n_starts=1)
    with pytest.raises(SettingsError, match="ranks from 1"):
        SeparateNMF(ranks=(0, 5))
    for bad in ({"n_top": 0}, {"alike": 0.8}, {"recur": 1.5}, {"alike": 0.0}):
        with pytest.raises(SettingsError, match="alike <= recur"):
            SeparateNMF(**bad)
    negative = x.copy()
    negative[7, 3] = -1.0
    with pytest.raises(DataError, match="cell 7 has -1 for gene 3"):
        SeparateNMF().fit(negative, group)
    with pytest.raises(DataError, match="group 1 has 2 cells, fewer than programs"):
        SeparateNMF().fit(x[:22], group[:22])
    with pytest.raises(DataError, match="50 genes, of which 50 stand for a program"):
        SeparateNMF().fit(x[:, :50], group)
    with pytest.raises(DataError, match="data set 1 has no cell"):
        SeparateNMF().fit(x, 2 * group)
