"""Masks where several columns make up the groups: no influence, and what a level does to a gene."""

import warnings

import numpy as np
import pytest
import torch
from helpers.columns import GROUPS, KEYS, LATENTS, tissue_by_drug
from helpers.losses import assert_same_bits, losses, whole
from helpers.masked import random_masks
from hypothesis import given, settings
from hypothesis import strategies as st

import pyro_mgvi
from pyro_mgvi import MGVI, Posterior, pairwise, per, private, shared
from pyro_mgvi.core.design import Design, as_terms, told_by
from pyro_mgvi.model.decoding import Decoding
from pyro_mgvi.networks.comparable import Comparable

DESIGNS = (
    (shared(3), private(2)),
    LATENTS,
    (shared(2), pairwise(1), per("drug", 1)),
    (shared(3), per(KEYS, 2)),
)
CROSSED = Design(KEYS, tuple(tuple(group.split("_")) for group in GROUPS))


def with_masks(adata, has_bg, fill, by):
    """Return a copy with masks by levels or combinations, and what to pass for them."""
    copy, names = adata.copy(), sorted(adata.obs[by].unique())
    masks = {name: has_g.copy() for name, has_g in zip(names, has_bg)}
    absent_ng = ~has_bg[[names.index(name) for name in adata.obs[by]]]
    copy.X = np.where(absent_ng, fill, copy.X.toarray())
    return copy, masks


@pytest.mark.slow
@given(
    st.integers(0, 10_000),
    st.sampled_from(DESIGNS),
    st.sampled_from(["group", *KEYS]),
    st.sampled_from([pyro_mgvi.JointDecoder, pyro_mgvi.BasisDecoder, pyro_mgvi.LogLinearDecoder]),
)
@settings(max_examples=15, deadline=None)
def test_no_bit_depends_on_what_is_written_at_absent_entries(seed, latents, by, decoder):
    rng, adata = np.random.default_rng(seed), tissue_by_drug(n_cells=80, n_genes=30)
    has_bg = random_masks(rng, adata.obs[by].nunique(), adata.n_vars)
    fills = (0.0, np.nan, rng.poisson(30, adata.shape))
    (first, masks), *others = (with_masks(adata, has_bg, fill, by) for fill in fills)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (pyro_mgvi.ComponentWarning, pyro_mgvi.DataWarning))
        mgvi = MGVI.from_anndata(first, KEYS, latents=latents, decoder=decoder, feature_masks=masks)
        for parameter in mgvi.model.decoder.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        plain, found = losses(mgvi, whole(mgvi, first)), mgvi.latents(first)
        for other, _ in others:
            assert_same_bits(plain, losses(mgvi, whole(mgvi, other)))
            for key, table in mgvi.latents(other).items():
                np.testing.assert_array_equal(table, found[key])


@given(st.integers(0, 10_000), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_filled_weights_of_levels_are_those_of_the_formula(seed, k):
    rng, blocks = np.random.default_rng(seed), CROSSED.main_effects
    has_bg = rng.random((4, 6)) > 0.4
    weight = rng.normal(size=(4, k, 6))
    comparable = Comparable(torch.from_numpy(has_bg), blocks)
    found = comparable(torch.from_numpy(weight).flatten(0, 1)).unflatten(0, (4, k))
    for gene in range(6):
        for start, block_bt in zip((0, 2), blocks):  # two levels of each column
            levels = [has_bg[block_bt[:, i].numpy(), gene].any() for i in range(2)]
            own = weight[start : start + 2, :, gene]
            if all(levels):
                truth = own
            else:  # of one level: what it does cannot be told, and the other would do as much
                truth = np.zeros_like(own)
            np.testing.assert_allclose(found[start : start + 2, :, gene], truth)


def test_a_level_that_nobody_has_a_gene_of_would_do_what_the_others_do_on_average():
    design = Design(("a", "b"), tuple((x, y) for x in "uvw" for y in "no"))
    has_bg = torch.ones(6, 1, dtype=torch.bool)
    has_bg[4:] = False  # nobody of w
    weight = torch.arange(1.0, 6.0)[:, None]
    found = Comparable(has_bg, design.main_effects)(weight)
    torch.testing.assert_close(found.flatten(), torch.tensor([1.0, 2.0, 1.5, 4.0, 5.0]))


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_offsets_of_groups_that_have_a_gene_come_back_from_its_terms(seed):
    """Up to what all groups with the gene have in common, if the offsets are sums of levels'."""
    rng = np.random.default_rng(seed)
    design = Design(("a", "b"), tuple((x, y) for x in "uvw" for y in "no"))
    blocks = design.main_effects
    terms_bt = torch.cat(blocks, 1)
    has_bg = torch.from_numpy(random_masks(rng, 6, 7, 0.4))
    offset_bg = terms_bt.float() @ torch.from_numpy(rng.normal(size=(5, 7))).float()
    term_tg = Comparable(has_bg, blocks).terms(offset_bg, terms_bt, torch.arange(1.0, 7.0))
    assert (term_tg[~told_by(terms_bt, has_bg)] == 0).all()
    rest_bg = offset_bg - terms_bt.float() @ term_tg
    for gene in range(7):
        rest_b = rest_bg[has_bg[:, gene], gene]
        torch.testing.assert_close(rest_b, rest_b[:1].expand_as(rest_b), rtol=1e-3, atol=1e-4)
    everything = torch.ones_like(has_bg)
    torch.testing.assert_close(
        as_terms(offset_bg, terms_bt, None, everything, told_by(terms_bt, everything)),
        as_terms(offset_bg, terms_bt),
    )


def test_what_a_drug_does_to_a_gene_of_one_tissue_is_learnt_and_predicted_for_the_other():
    """Planted: one tissue's own gene is tripled by the drug; the other tissue has not got it."""
    rng = np.random.default_rng(2)
    adata = tissue_by_drug(n_cells=400, n_genes=30)
    ileum, stim = (adata.obs["tissue"] == "Ileum", adata.obs["drug"] == "stim")
    x = adata.X.toarray()
    x[:, 7] = rng.poisson(np.where(stim, 12.0, 4.0)) * ileum
    adata.X = x
    masks = {"Ileum": np.ones(adata.n_vars), "Colon": np.arange(adata.n_vars) != 7}
    mgvi = MGVI.from_anndata(adata, KEYS, latents=(shared(3), private(2)), feature_masks=masks)
    offset_bg = mgvi.model.decoder.group_offsets().detach().numpy()
    place = dict(zip(mgvi.schema.groups, offset_bg[:, 7]))
    assert place["Ileum_stim"] - place["Ileum_ctrl"] == pytest.approx(np.log(3), abs=0.15)
    values = {name: torch.zeros(s, 4, d) for name, s, d in _shapes(mgvi)}
    batch = whole(mgvi, adata)._replace(group=torch.arange(4), covariates=None)
    with torch.no_grad():
        everything = Decoding.everything(mgvi.families)
        location_b = everything.parts(Posterior(mgvi.model, batch, {}), values)[0][0][:, 7]
    of_group = dict(zip(mgvi.schema.groups, location_b.tolist()))
    for tissue in ("Ileum", "Colon"):
        shift = of_group[f"{tissue}_stim"] - of_group[f"{tissue}_ctrl"]
        assert shift == pytest.approx(np.log(3), abs=0.15)
    assert of_group["Colon_ctrl"] == pytest.approx(of_group["Ileum_ctrl"], abs=1e-5)


def _shapes(mgvi):
    return [(family.name, family.n_copies, family.dim) for family in mgvi.families]
