"""Weights of the owners' divergence: by evidence, unless they are given."""

import pytest

from pyro_mgvi import MGVI, SettingsError, pairwise, private, shared, subsets

LATENTS = (shared(3), private(2))


def test_variation_is_cheaper_where_more_groups_share_it(adata):
    latents = (*LATENTS, pairwise(2), subsets("one", [["group1"]], 1))
    mgvi = MGVI.from_anndata(adata, "group", latents=latents, own_weight={"one": 7.0})
    sizes = adata.obs["group"].value_counts()
    owners = {"z": 120, "t": sizes.mean(), "pair": 2 * sizes.mean()}  # on average over copies
    expected = {k: 0.81 * (1 + (adata.n_vars / n) ** 0.5) for k, n in owners.items()}
    assert mgvi.own_weight == pytest.approx(expected | {"one": 7.0})
    assert mgvi.given_weight == {"one": 7.0}
    assert expected["z"] < expected["pair"] < expected["t"]


def test_a_number_is_the_weight_of_all_latents(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=LATENTS, own_weight=2)
    assert mgvi.own_weight == mgvi.given_weight == {"z": 2.0, "t": 2.0}


@pytest.mark.parametrize(
    "weight, message",
    [
        ({"u": 1.0}, "own_weight names unknown"),
        ({"t": -1.0}, "own_weight of t must be at least 0"),
        ({"t": float("nan")}, "own_weight of t must be a number"),
        (-0.5, "own_weight of z must be at least 0"),
    ],
)
def test_bad_weights(adata, weight, message):
    with pytest.raises(SettingsError, match=message):
        MGVI.from_anndata(adata, "group", latents=LATENTS, own_weight=weight)
