"""Known models are choices of latents: scVI's and contrastiveVI's objectives, written out."""

from functools import partial

import numpy as np
import pytest
from helpers import by_hand

from pyro_mgvi import MGVI, JointDecoder, shared, subsets

# One hidden layer of the latents and nothing else, as both models have it.
PLAIN = partial(JointDecoder, linear=False, offset=False, response=0.0, sparsity=0.0)


def model_and_batch(adata, *latents):
    mgvi = MGVI.from_anndata(adata, "group", latents=latents, decoder=PLAIN)
    by_hand.away_from_start(mgvi)
    data = mgvi.read(adata)
    return mgvi, data.rows(np.arange(len(data)))


def counts_and_library(mgvi, batch, inputs, draws, moments):
    """Write out the two terms that do not differ between the models."""
    eta, gate = by_hand.hidden_layer(by_hand.decoder_weights(mgvi), inputs)
    log_p = by_hand.zinb_log_prob(mgvi, batch, eta, gate, draws["library"])
    log_size = np.log(batch.counts.numpy().sum(1, dtype=float))
    kl_library = by_hand.kl_of_library(*moments["library"], log_size.mean(), log_size.std())
    return {"counts": -log_p, "library": kl_library.sum()}


def test_a_single_shared_latent_is_scvi(adata):
    mgvi, batch = model_and_batch(adata, shared(3))
    assert batch.counts.numpy().sum(1).std() > 0  # there is a library prior to speak of
    draws, moments = by_hand.guide_draws(mgvi, batch)
    expected = counts_and_library(mgvi, batch, draws["z"], draws, moments)
    expected["z"] = by_hand.kl_to_standard_normal(*moments["z"]).sum()
    by_hand.assert_terms_equal(mgvi, batch, expected)


def test_background_and_salient_latents_are_contrastivevi(adata):
    latents = (shared(3, name="background"), subsets("salient", [["group1"]], 2))
    mgvi, batch = model_and_batch(adata, *latents)
    draws, moments = by_hand.guide_draws(mgvi, batch)
    target = (adata.obs["group"] == "group1").to_numpy()
    assert 0 < target.sum() < len(target)
    salient = draws["salient"].copy()
    salient[~target] = 0
    inputs = np.concatenate([draws["background"], salient], axis=1)
    expected = counts_and_library(mgvi, batch, inputs, draws, moments)
    expected["background"] = by_hand.kl_to_standard_normal(*moments["background"]).sum()
    loc, scale = moments["salient"]
    expected["salient"] = (
        by_hand.kl_to_standard_normal(loc[target], scale[target]).sum()
        + by_hand.squared_wasserstein_to_zero(loc[~target], scale[~target]).sum()
    )
    by_hand.assert_terms_equal(mgvi, batch, expected)
    # The test can tell: with salient values of background cells in the decoder it would fail.
    ungated = np.concatenate([draws["background"], draws["salient"]], axis=1)
    wrong = counts_and_library(mgvi, batch, ungated, draws, moments)["counts"]
    assert wrong != pytest.approx(expected["counts"], rel=1e-3)
