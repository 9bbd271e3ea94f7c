"""GMDF against its formula, scikit-learn's NMF, scipy's solver and planted programs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, nnls
from sklearn.decomposition import NMF

from pyro_mgvi import DataError, SettingsError
from pyro_mgvi.baselines import GMDF


def objective(x, group, design, penalty, found):
    """Write out the formula, data set by data set and context by context."""
    total = 0.0
    for i, a_c in enumerate(design):
        own = group == i
        rest = x[own] - found.shared_nk[own] @ found.shared_kp
        for j, a in enumerate(a_c):
            if a:
                part = found.context_cnk[j][own] @ found.context_ckp[j]
                rest = rest - np.sqrt(a) * part
                total += penalty[j] * a * (part**2).sum()
        total += (rest**2).sum()
    return total


def cells(seed, sizes=(25, 20, 15), p=12):
    rng = np.random.default_rng(seed)
    return rng.gamma(0.5, size=(sum(sizes), p)), np.repeat(range(len(sizes)), sizes)


DESIGN = np.array([[1.0, 0.0], [0.5, 2.0], [0.0, 1.5]])


def test_objective_is_the_formula_written_out_by_hand():
    x, group = cells(0)
    found = GMDF(3, 2, penalty=(0.5, 2.0), max_iter=5).fit(x, group, DESIGN)
    by_hand = objective(x, group, DESIGN, (0.5, 2.0), found)
    assert found.objectives[-1] == pytest.approx(by_hand, rel=1e-10)
    assert len(found.objectives) == 6
    for j, h_nk in enumerate(found.context_cnk):
        part = DESIGN[group, j] > 0
        assert np.isfinite(h_nk[part]).all() and np.isnan(h_nk[~part]).all()
    for array in (found.shared_kp, found.context_ckp, found.shared_nk):
        assert (array >= 0).all()


designs = st.tuples(st.integers(1, 3), st.integers(0, 3)).flatmap(
    lambda shape: st.lists(
        st.lists(st.sampled_from([0.0, 0.3, 1.0, 4.0]), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    ).map(lambda rows: np.array(rows).reshape(shape))
)


@given(
    seed=st.integers(0, 10**6),
    design=designs,
    penalty=st.sampled_from([0.0, 1.0, 7.0]),
    shared=st.integers(1, 4),
    own=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_no_block_raises_the_objective(seed, design, penalty, shared, own):
    x, group = cells(seed, sizes=(9, 8, 7)[: len(design)], p=6)
    gmdf = GMDF(shared, own, penalty)
    root_nc = np.sqrt(design)[group]
    factors = gmdf.start(x, root_nc, np.random.default_rng(seed))
    values, blocks = [factors.objective()], []
    for _ in range(4):
        for block in gmdf.sweep(factors, root_nc > 0):
            values.append(factors.objective())
            blocks.append(block)
    assert (np.diff(values) <= 1e-9 * factors.total).all(), dict(zip(blocks, np.diff(values)))
    assert values[-1] < values[0]


def test_blocks_are_the_stacked_systems_that_the_authors_solve():
    """Each update against scipy's solver on the rows written out: fit, then penalty."""
    x, group = cells(3, sizes=(20, 15))
    a, penalty = 0.6, 1.7
    design = np.array([[a], [0.0]])
    gmdf = GMDF(2, 2, penalty)
    root_nc = np.sqrt(design)[group]
    factors = gmdf.start(x, root_nc, np.random.default_rng(0))
    own, rest = group == 0, factors.scores_nf[:, :2].copy()
    w, a_kp = factors.programs_fp[:2].copy(), factors.programs_fp[2:].copy()
    blocks = gmdf.sweep(factors, root_nc > 0)

    def solve(matrix, targets):
        return np.stack([nnls(matrix, target)[0] for target in targets.T], 1)

    zeros = np.zeros_like(x[own])
    next(blocks)
    stacked = np.vstack([np.sqrt(a) * a_kp.T, np.sqrt(penalty * a) * a_kp.T])
    h = solve(stacked, np.hstack([x[own] - rest[own] @ w, zeros]).T).T
    np.testing.assert_allclose(factors.scores_nf[own, 2:], np.sqrt(a) * h, atol=1e-9)
    assert (factors.scores_nf[~own, 2:] == 0).all()
    next(blocks)
    stacked = np.vstack([np.sqrt(a) * h, np.sqrt(penalty * a) * h])
    a_kp = solve(stacked, np.vstack([x[own] - rest[own] @ w, zeros]))
    np.testing.assert_allclose(factors.programs_fp[2:], a_kp, atol=1e-9)
    next(blocks)
    left = x.copy()
    left[own] -= np.sqrt(a) * h @ a_kp
    w = solve(rest, left)
    np.testing.assert_allclose(factors.programs_fp[:2], w, atol=1e-9)
    next(blocks)
    np.testing.assert_allclose(factors.scores_nf[:, :2], solve(w.T, left.T).T, atol=1e-9)
    assert next(blocks, None) is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_without_contexts_it_is_scikit_learn_s_nmf(seed):
    rng = np.random.default_rng(seed)
    x = rng.gamma(0.3, size=(50, 3)) @ rng.gamma(0.3, size=(3, 20)) + 0.01 * rng.random((50, 20))
    found = GMDF(3, tolerance=1e-12, max_iter=3000).fit(x, np.zeros(50, int), np.zeros((1, 0)))
    z, t = found.scores()
    assert t == [] and z.shape == (50, 3)
    theirs = NMF(3, init="nndsvda", tol=1e-6, max_iter=20_000).fit(x)
    assert found.objectives[-1] == pytest.approx(theirs.reconstruction_err_**2, rel=1e-3)
    residual = np.linalg.norm(x - found.shared_nk @ found.shared_kp) ** 2
    assert found.objectives[-1] == pytest.approx(residual, rel=1e-6)


def planted(seed, sizes=(150, 150), genes=12, shared=2, own=1):
    """Draw non-negative data of programs that have their own genes, and few others."""
    rng = np.random.default_rng(seed)
    n_programs = shared + own * len(sizes)
    programs = 0.05 * rng.random((n_programs, genes * n_programs))
    for q, row in enumerate(programs):
        row[genes * q : genes * (q + 1)] += rng.uniform(0.5, 1.5, genes)
    scores = rng.gamma(0.4, size=(sum(sizes), n_programs))
    group = np.repeat(range(len(sizes)), sizes)
    for g in range(len(sizes)):
        first = shared + own * g
        scores[group != g, first : first + own] = 0
    x = scores @ programs
    x = np.maximum(x + 0.05 * rng.normal(size=x.shape), 0)
    return x, group, programs[:shared], programs[shared:].reshape(len(sizes), own, -1)


def matched(a, b):
    """Return cosines of programs with the truth, in the best order."""
    unit = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b)]
    cosine = unit[0] @ unit[1].T
    return cosine[linear_sum_assignment(-cosine)]


@pytest.mark.parametrize("seed", range(5))
def test_planted_programs_are_found(seed):
    x, group, shared, own = planted(seed)
    gmdf = GMDF(2, 1, penalty=0.1, tolerance=1e-6, max_iter=300)
    starts = [gmdf.fit(x, group, seed=start) for start in range(5)]
    best = min(starts, key=lambda found: found.objectives[-1])  # some starts end in worse optima
    assert matched(best.shared_kp, shared).min() > 0.99
    for found, truth in zip(best.context_ckp, own):
        assert matched(found, truth).min() > 0.99


def test_designs_differ_only_by_who_takes_part():
    """The root of a context's amount is a scale of its scores: optima are those of amount 1."""
    x, group = cells(1, sizes=(30, 20))
    factors = []
    for amount in (1.0, 5.0):
        root_nc = np.sqrt(amount * np.eye(2))[group]
        gmdf = GMDF(2, 1, penalty=0.5)
        factors.append(gmdf.start(x, root_nc, np.random.default_rng(0)))
        for _ in range(3):
            for _block in gmdf.sweep(factors[-1], root_nc > 0):
                pass
    np.testing.assert_allclose(factors[0].scores_nf, factors[1].scores_nf, atol=1e-9)
    np.testing.assert_allclose(factors[0].programs_fp, factors[1].programs_fp, atol=1e-9)


def test_scores_have_the_unit_of_the_data():
    x, group = cells(2)
    found = GMDF(2, 1, max_iter=3).fit(x, group, DESIGN)
    z, t = found.scores()
    length = np.linalg.norm(found.shared_kp, axis=1)
    np.testing.assert_allclose(
        z @ (found.shared_kp / length[:, None]), found.shared_nk @ found.shared_kp
    )
    own = group == 1
    explained = np.sqrt(DESIGN[1, 1]) * found.context_cnk[1][own] @ found.context_ckp[1]
    np.testing.assert_allclose(np.linalg.norm(explained, axis=1), t[1][own, 0])


def test_a_seed_says_all_and_nothing_else_changes():
    x, group = cells(4)
    before, state = x.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, two, other = (GMDF(2, 1).fit(x, group, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.context_cnk, two.context_cnk)
    assert one.objectives == two.objectives != other.objectives
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_bad_settings_are_refused():
    for settings_ in ({"n_shared": 0}, {"n_context": -1}, {"max_iter": 0}):
        with pytest.raises(SettingsError, match="at least 1"):
            GMDF(**settings_)
    for settings_ in (
        {"penalty": -1.0},
        {"penalty": (1.0, -0.1)},
        {"penalty": np.inf},
        {"tolerance": -1e-9},
    ):
        with pytest.raises(SettingsError, match="must not be negative"):
            GMDF(**settings_)
    with pytest.raises(SettingsError, match="3 entries, not 2"):
        GMDF(penalty=(1.0, 1.0, 1.0)).fit(*cells(0, sizes=(5, 5)))


@pytest.mark.parametrize(
    ("design", "message"),
    [
        (np.eye(2), r"a row for each of 3 data sets, not shape \(2, 2\)"),
        (np.ones(3), r"not shape \(3,\)"),
        (-np.eye(3), "finite, non-negative"),
        (np.full((3, 1), np.nan), "finite, non-negative"),
        (np.eye(3)[:, [0, 1, 2]] * [1, 0, 1], "no data set takes part in context 1"),
    ],
)
def test_bad_designs_are_refused(design, message):
    with pytest.raises(DataError, match=message):
        GMDF().fit(*cells(0, sizes=(5, 5, 5)), design)


def test_bad_data_are_refused():
    x, group = cells(0, sizes=(5, 5))
    negative, missing = x.copy(), x.copy()
    negative[3, 2], missing[0, 0] = -0.5, np.nan
    with pytest.raises(DataError, match=r"cell 3 has -0\.5 for gene 2"):
        GMDF().fit(negative, group)
    for bad in ((missing, group), (x[0], group), (x, group[:-1])):
        with pytest.raises(DataError, match="finite values, cells x genes"):
            GMDF().fit(*bad)
    with pytest.raises(DataError, match="data set 1 has no cell"):
        GMDF().fit(x, 2 * group)
    with pytest.raises(DataError, match="codes"):
        GMDF().fit(x, group - 1)
    with pytest.raises(DataError, match="codes"):
        GMDF().fit(x, group + 0.5)
