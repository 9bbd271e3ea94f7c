"""What groups do to a gene is told by groups that have it, and by two at least."""

import numpy as np
import pytest
import torch
from helpers.masked import masked, masks_of
from hypothesis import given, settings
from hypothesis import strategies as st

import pyro_mgvi
from pyro_mgvi import MGVI, private, shared
from pyro_mgvi.networks.comparable import Comparable
from pyro_mgvi.training import TrainingPlan

LATENTS = (shared(2), private(1))


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_filled_weights_are_those_of_the_formula(seed, n_groups, k):
    rng = np.random.default_rng(seed)
    has_bg = rng.random((n_groups, 6)) > 0.4
    weight = rng.normal(size=(n_groups, k, 6))
    found = Comparable(torch.from_numpy(has_bg))(torch.from_numpy(weight).flatten(0, 1))
    for gene in range(6):
        having = np.flatnonzero(has_bg[:, gene])
        for group in range(n_groups):
            truth = np.zeros(k)
            if len(having) > 1:
                own = group in having
                truth = weight[group, :, gene] if own else weight[having, :, gene].mean(0)
            np.testing.assert_allclose(found.unflatten(0, (n_groups, k))[group, :, gene], truth)


@pytest.mark.parametrize("decoder", [pyro_mgvi.JointDecoder, pyro_mgvi.LogLinearDecoder])
def test_what_nothing_tells_stays_fixed_in_training(adata, decoder):
    """Offsets of a gene of one group, and private loadings of genes that no owner has."""
    has_bg = np.ones((3, adata.n_vars), bool)
    has_bg[1:, 5] = False  # gene 5 is of group 1 alone
    has_bg[0, 8] = False
    some = masked(adata, has_bg)
    mgvi = MGVI.from_anndata(
        some, "group", latents=LATENTS, decoder=decoder, feature_masks=masks_of(some)
    )
    mgvi.fit(some, TrainingPlan(max_epochs=4, batch_size=32, search=None), progress=False)
    offset_bg = mgvi.model.decoder.group_offsets()
    assert (offset_bg[:, 5] == 0).all() and offset_bg[0, 8] == 0
    assert (offset_bg[1:, 8] != 0).all() and (offset_bg[:, 9] != 0).all()
    if decoder is pyro_mgvi.LogLinearDecoder:
        found = mgvi.loadings("t")
        gene5, gene8 = found.iloc[5], found.iloc[8]
        assert gene5[["t_group2_1", "t_group3_1"]].isna().all() and gene5["t_group1_1"] != 0
        assert np.isnan(gene8["t_group1_1"]) and (gene8[["t_group2_1", "t_group3_1"]] != 0).all()
        assert mgvi.model.decoder.loadings()["t"][0, 8, 0] == 0
    else:
        linear = mgvi.model.decoder.linear
        first = mgvi.model.decoder.first_input
        assert linear[first["t_group1"], 8] == 0 and linear[first["t_group2"], 8] != 0
        response_bkg = mgvi.model.decoder.response.unflatten(0, (3, 2))
        assert (response_bkg[:, :, 5] == 0).all() and (response_bkg[1:, :, 8] != 0).any()


def test_genes_of_one_group_do_not_make_groups_look_alike(adata):
    """The prior on responses follows the median shift of the genes that can be compared."""
    has_bg = np.ones((3, adata.n_vars), bool)
    has_bg[1:, 20:] = False  # two thirds of the genes are of group 1 alone
    some = masked(adata, has_bg)
    few = MGVI.from_anndata(some[:, :20].copy(), "group", latents=LATENTS)
    mgvi = MGVI.from_anndata(some, "group", latents=LATENTS, feature_masks=masks_of(some))
    scales = [float(each.model.decoder.response_scale) for each in (mgvi, few)]
    assert scales[0] == pytest.approx(scales[1], rel=0.1)
