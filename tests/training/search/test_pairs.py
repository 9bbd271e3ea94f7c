"""Directions of pairs of genes that covary: against a plain formula, and planted factors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mgvi import SearchSettings
from pyro_mgvi.training.search.pairs import _pairs, leading_directions
from pyro_mgvi.training.search.residuals import Residuals, without

SEARCH = SearchSettings()


def pairs_by_loops(own, others):
    """Return the significant pairs and their mean covariance, one pair at a time."""
    n_genes = own[0].shape[1]
    threshold = np.sqrt(2 * np.log(n_genes * (n_genes - 1) / 2))
    found = {}
    for i in range(n_genes):
        for j in range(i + 1, n_genes):
            products = [r[:, i] * r[:, j] for r in own]
            z = [p.sum() / np.sqrt((p**2).sum()) for p in products]
            chosen = min(z) > threshold or max(z) < -threshold
            if others is not None:
                q = others[:, i] * others[:, j]
                for p in products:
                    error = np.sqrt((p**2).mean() / len(p) + (q**2).mean() / len(q))
                    chosen &= abs(p.mean() - q.mean()) > threshold * error
            if chosen:
                found[i, j] = np.mean([p.mean() for p in products])
    return found


@given(st.integers(0, 10_000), st.integers(1, 2), st.booleans())
@settings(max_examples=20, deadline=None)
def test_pairs_are_those_of_the_formula(seed, n_own, has_others):
    rng = np.random.default_rng(seed)
    loading = np.where(np.arange(15) < 5, rng.uniform(0.3, 0.9, 15), 0.0)
    own = [rng.normal(size=(300, 1)) * loading + rng.normal(size=(300, 15)) for _ in range(n_own)]
    others = rng.normal(size=(200, 15)) if has_others else None
    as_tensor = [torch.tensor(x, dtype=torch.float32) for x in own]
    free = torch.ones(15, dtype=torch.bool)
    compared = []
    if others is not None:
        r_ng = torch.tensor(others, dtype=torch.float32)
        compared = [Residuals(r_ng, torch.ones(15), np.arange(200))]
    pairs, covariance = _pairs(as_tensor, compared, free, SEARCH)
    truth = pairs_by_loops(own, others)
    found = {tuple(p): c for p, c in zip(pairs.tolist(), covariance.tolist())}
    assert set(found) == set(truth)
    for pair, value in truth.items():
        assert found[pair] == pytest.approx(value, rel=1e-3)
    free[0] = False
    assert 0 not in _pairs(as_tensor, [], free, SEARCH)[0]


def everything(n_genes):
    return torch.ones(n_genes, dtype=torch.bool)


def test_what_is_shared_does_not_hide_what_is_not():
    """A factor of all cells on 60 genes, and of one group's cells on 12 of them."""
    rng, n, genes = np.random.default_rng(0), 800, 100
    both = rng.normal(size=(2, n, genes))
    both[:, :, :60] += 1.5 * rng.normal(size=(2, n, 1))
    both[0, :, :12] += 0.6 * rng.normal(size=(n, 1))
    r = torch.from_numpy(both / both.std((0, 1))).float()
    r = r - r.mean(1, keepdim=True)
    groups = [Residuals(r[b], torch.ones(genes), np.arange(b, 2 * n, 2)) for b in range(2)]
    shared, _ = leading_directions(groups, [], everything(genes), SEARCH)
    assert [int((x.loading_g != 0).sum()) for x in shared] == [60]
    own, other = (without(group, shared) for group in groups)
    for group in (own, other):
        at = torch.from_numpy(np.isin(shared[0].cells, group.cells))
        torch.testing.assert_close(
            shared[0].score_n[at] @ group.r_ng, torch.zeros(genes), atol=0.05, rtol=0
        )
    (found,), _ = leading_directions([own], [other], everything(genes), SEARCH)
    assert sorted(found.loading_g.abs().topk(12).indices.tolist()) == list(range(12))
    hidden, _ = leading_directions([groups[0]], [groups[1]], everything(genes), SEARCH)
    assert not hidden


def test_genes_of_directions_are_taken_from_those_left_to_search():
    rng, n, genes = np.random.default_rng(0), 800, 50
    x = rng.normal(size=(n, genes))
    x[:, :10] += rng.normal(size=(n, 1))
    x[:, 10:25] += 0.8 * rng.normal(size=(n, 1))
    r_ng = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
    free_g = everything(genes)
    free_g[0] = False  # another copy has it
    own = [Residuals(r_ng, torch.ones(genes), np.arange(n))]
    found, left_g = leading_directions(own, [], free_g, SEARCH)
    followed = [set(each.loading_g.nonzero()[:, 0].tolist()) for each in found]
    assert sorted(followed, key=len) == [set(range(1, 10)), set(range(10, 25))]
    assert not left_g[:25].any() and left_g[25:].sum() > 20  # but for a pair by chance
    assert int((~free_g).sum()) == 1  # what was passed is as it was
