"""Offsets of groups of different composition, against planted ones."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mgvi import MGVI, Gaussian, LogLinearDecoder, SearchSettings, TrainingPlan, private
from pyro_mgvi.datasets import SplatParams, grouped
from pyro_mgvi.training.search.group_offsets import recentre_offsets, two_way_offsets

SEARCH = SearchSettings()


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_planted_offsets_are_found_whatever_the_composition(seed, n_groups, n_clusters):
    rng = np.random.default_rng(seed)
    effect_cg = rng.normal(size=(n_clusters, 12))
    offset_bg = 0.5 * rng.normal(size=(n_groups, 12))
    size_bc = 1e9 * rng.dirichlet(np.full(n_clusters, 0.5), n_groups)
    size_bc[:, 0] += 1e9  # a cluster that all groups have
    share_bcg = np.exp(effect_cg + offset_bg[:, None])
    share_bcg /= share_bcg.sum(2, keepdims=True)  # as in the decoder
    gap = two_way_offsets(size_bc[:, :, None] * share_bcg) - (offset_bg - offset_bg.mean(0))
    # Shares do not tell one number per group.
    np.testing.assert_allclose(gap - gap.mean(1, keepdims=True), 0, atol=0.02)


@given(st.integers(0, 10_000), st.integers(2, 3), st.integers(2, 3))
@settings(max_examples=15, deadline=None)
def test_planted_offsets_of_two_columns_are_found(seed, n, k):
    rng = np.random.default_rng(seed)
    blocks = [np.kron(np.eye(n), np.ones((k, 1))), np.kron(np.ones((n, 1)), np.eye(k))]
    parts = [block @ (0.3 * rng.normal(size=(block.shape[1], 12))) for block in blocks]
    offset_bg, effect_cg = sum(parts), rng.normal(size=(3, 12))
    size_bc = 1e9 * (0.2 + rng.dirichlet(np.ones(3), n * k))
    share_bcg = np.exp(effect_cg + offset_bg[:, None])
    found_bg = two_way_offsets(size_bc[:, :, None] * share_bcg, blocks)
    gap = found_bg - (offset_bg - offset_bg.mean(0))
    np.testing.assert_allclose(gap - gap.mean(1, keepdims=True), 0, atol=0.02)
    cube = found_bg.reshape(n, k, 12)  # without interaction
    np.testing.assert_allclose(cube - cube.mean(0) - cube.mean(1)[:, None] + cube.mean((0, 1)), 0,
                               atol=1e-9)  # fmt: skip


def unbalanced():
    """Two groups without any difference, but that two of five types live in one of them."""
    none = SplatParams(lib_loc=7.0, de_prob=0.0)
    types = SplatParams(lib_loc=9.0, de_prob=0.5, de_fac_loc=0.5)
    adata = grouped(0, types, none, 1600, 500, 50)
    missing = (adata.obs["group"] == "group1") & adata.obs["celltype"].isin(["T4", "T5"])
    return adata[~missing].copy()


@pytest.mark.slow
def test_what_one_group_has_alone_stays_out_of_its_offset():
    adata = unbalanced()
    mgvi = MGVI.from_anndata(adata, "group")
    mgvi.fit(adata, TrainingPlan(max_epochs=10, search=None), progress=False)
    data = mgvi.read(adata)
    share_g = np.asarray(adata.X.sum(0)).ravel() / adata.X.sum()

    def error(offset_bg):  # the truth is none
        gap_g = np.asarray(offset_bg[0] - offset_bg[1])
        return np.sqrt(share_g @ (gap_g - share_g @ gap_g) ** 2)

    offset = mgvi.model.decoder.group_offsets().detach()
    start, trained = error(data.initial_values().offset_bg), error(offset)
    assert recentre_offsets(mgvi, data, SEARCH)
    assert error(offset) < 0.35 * trained < 0.35 * start


def test_nothing_is_done_without_offsets_or_groups_to_compare():
    adata = unbalanced()
    mgvi = MGVI.from_anndata(adata, "group")
    data = mgvi.read(adata)
    before = mgvi.model.decoder.group_offsets().clone()
    one = data.subset(np.flatnonzero(data.group_n == 0))
    assert not recentre_offsets(mgvi, one, SEARCH)
    assert torch.equal(mgvi.model.decoder.group_offsets(), before)
    state = torch.random.get_rng_state()
    assert recentre_offsets(mgvi, data, SEARCH)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(mgvi.model.decoder.group_offsets(), before)
    no_offset = partial(LogLinearDecoder, offset=False)
    plain = MGVI.from_anndata(adata, "group", decoder=no_offset)
    assert not recentre_offsets(plain, data, SEARCH)


@pytest.mark.parametrize("settings", [{"likelihood": Gaussian}, {"latents": private(2)}])
def test_nothing_is_done_without_counts_or_shared_latents(adata, settings):
    mgvi = MGVI.from_anndata(adata, "group", **settings)
    before = mgvi.model.decoder.group_offsets().clone()
    assert not recentre_offsets(mgvi, mgvi.read(adata), SEARCH)
    assert torch.equal(mgvi.model.decoder.group_offsets(), before)
