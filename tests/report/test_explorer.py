"""What the explorer draws are the cells, latents and genes of the fit, as exactly as is said."""

import base64
import json

import numpy as np
import pytest
from helpers.masked import masked, masks_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pyro_mgvi import MGVI
from pyro_mgvi.report.explorer import explorer
from pyro_mgvi.report.explorer.genes import expected, observed
from pyro_mgvi.report.explorer.packing import rows, words
from pyro_mgvi.report.explorer.thinning import thinned
from pyro_mgvi.report.rankings import Rankings
from pyro_mgvi.report.result import Result


def unpacked(packed, kind):
    return np.frombuffer(base64.b64decode(packed), np.dtype(kind).newbyteorder("<"))


def numbers(packed):
    codes = unpacked(packed["codes"], np.uint16).astype(float)
    values = packed["low"] + codes * (packed["high"] - packed["low"]) / 65534
    return np.where(codes == 65535, np.nan, values)


def matrix(packed, key="codes"):
    low, high = (np.array(packed[end])[:, None] for end in ("low", "high"))
    codes = unpacked(packed[key], np.uint8).reshape(len(low), -1)
    return low + codes * (high - low) / 254


@given(arrays(float, 20, elements=st.floats(-1e6, 1e6) | st.just(np.nan)))
def test_numbers_come_back_within_half_a_step(values):
    found = numbers(words(values))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))
    if np.isfinite(values).any():
        step = (np.nanmax(values) - np.nanmin(values)) / 65534
        np.testing.assert_allclose(found, values, atol=0.51 * step + 1e-9)


def test_a_missing_value_of_a_gene_is_a_code_of_its_own():
    (packed,) = rows(np.array([[0.0, np.nan, 254.0], [np.nan] * 3]))
    codes = unpacked(packed["codes"], np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(codes, [[0, 255, 254], [255, 255, 255]])
    assert packed["low"] == [0, 0] and packed["high"] == [254, 0]


@given(arrays(float, (2, 3, 8), elements=st.floats(0, 1e4)))
@pytest.mark.slow
def test_matrices_share_the_range_of_each_gene(both):
    packed = rows(*both)
    step = (both.max((0, 2)) - both.min((0, 2)))[:, None] / 254
    for one, truth in zip(packed, both):
        assert (np.abs(matrix(one) - truth) <= 0.51 * step + 2e-6).all()


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=40), st.integers(100, 5000))
def test_thinning_keeps_every_group_and_no_more_cells_than_asked_for(sizes, most):
    group_n = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    cells = thinned(group_n, most)
    assert len(cells) <= max(most, 0) and (np.diff(cells) > 0).all()
    kept = np.bincount(group_n[cells], minlength=len(sizes))
    assert (kept >= np.minimum(sizes, min(200, most // len(sizes)))).all()
    if sum(sizes) <= most:
        assert len(cells) == sum(sizes)
    else:
        assert len(cells) > most - len(sizes)  # rounding down loses less than a cell of each


@pytest.fixture(scope="module")
def drawn(fitted):
    adata, mgvi = fitted
    result = Result.read(adata, mgvi, labels=["celltype"])
    rankings = Rankings.of(result)
    return result, rankings, explorer(result, rankings)


@pytest.mark.slow
def test_it_holds_the_latents_of_the_fit(drawn):
    result, _, found = drawn
    assert found.n_cells == found.n_all == 120
    assert found.latents == tuple(copy.key for copy in result.latents.copies)
    for item in found.data["dimensions"]:
        key, k = item["name"].split(", dimension ")
        view = found.data["views"][item["view"]]
        cells = unpacked(view["cells"], np.uint16)
        truth = result.adata.obsm[f"X_mgvi_{key}"][cells, int(k) - 1]
        assert view["key"] == key
        np.testing.assert_allclose(numbers(item), truth, atol=1e-3)
    assert len(found.data["dimensions"]) == 3 + 3 * 2
    for view in found.data["views"]:
        own = set(unpacked(view["cells"], np.uint16).tolist())
        owners = list(view["owners"].split(" and ")) if view["key"] != "z" else result.groups
        assert own == set(np.flatnonzero(result.group.isin(owners)).tolist())
        assert [len(numbers(axis)) for axis in view["at"]] == [len(own)] * len(view["axes"])


@pytest.mark.slow
def test_it_holds_the_labels_and_the_users_own_colours(fitted):
    adata = fitted[0].copy()
    adata.obs["celltype"] = adata.obs["celltype"].astype("category")
    adata.uns["celltype_colors"] = ["red", "lime", "blue", "cyan", "magenta"]
    adata.obs.loc[adata.obs_names[:7], "celltype"] = np.nan
    result = Result.read(adata, labels=["celltype"])
    group, labels, batch = explorer(result, Rankings.of(result)).data["columns"]
    assert [group["name"], labels["name"], batch["name"]] == ["group", "celltype", "donor"]
    assert labels["colours"][:2] == ["#ff0000", "#00ff00"]
    codes = unpacked(labels["codes"], np.uint8)
    assert (codes[:7] == 255).all()
    names = np.array(labels["levels"])[codes[7:]]
    assert (names == adata.obs["celltype"][7:].astype(str)).all()


@pytest.mark.slow
def test_genes_are_those_listed_and_their_expression_is_that_observed(drawn):
    result, rankings, found = drawn
    listed = rankings.listed(200)
    first = [rankings.programs["gene"].iloc[0], *(t.index[0] for t in rankings.groups.values())]
    assert list(found.genes) == listed and set(first) <= set(listed)
    assert len(set(rankings.listed(5))) == 5
    x = result.adata.X.toarray()
    position = result.adata.var_names.get_indexer(listed)
    truth = np.log1p(1e4 * x[:, position] / x.sum(1, keepdims=True)).T
    step = (truth.max(1) - truth.min(1))[:, None] / 254
    assert (np.abs(matrix(found.data["genes"]) - truth) <= 0.51 * step + 1e-5).all()


@pytest.mark.slow
def test_expected_expression_is_with_all_latents_and_with_the_shared_ones(drawn, fitted):
    adata, mgvi = fitted
    _, _, found = drawn
    packed = found.data["expected"]
    cells = unpacked(packed["cells"], np.uint16)
    for key, latents in (("all", None), ("shared", ["z"])):
        share = mgvi.normalized_expression(adata, latents, list(found.genes)).to_numpy()[cells]
        truth = np.log1p(1e4 * share).T
        step = (np.array(packed["high"]) - packed["low"])[:, None] / 254
        assert (np.abs(matrix(packed, key) - truth) <= 0.51 * step + 1e-4).all()
    assert not np.array_equal(matrix(packed, "all"), matrix(packed, "shared"))


@pytest.mark.slow
def test_no_name_can_end_the_script_that_holds_it(drawn):
    text = drawn[2].json
    assert not set("<>&") & set(text)
    assert json.loads(text)["genes"]["names"][0].startswith("<u>gene&")


@pytest.mark.slow
def test_without_a_latent_in_use_there_is_nothing_to_explore(fitted):
    adata = fitted[0].copy()
    for key in [key for key in adata.obsm if key.startswith("X_mgvi_")]:
        adata.obsm[key] = np.zeros_like(adata.obsm[key])
    result = Result.read(adata)
    assert explorer(result, Rankings.of(result)) is None


def test_genes_that_a_group_has_not_got_are_missing_there_and_marked(adata):
    has_bg = np.ones((3, adata.n_vars), bool)
    has_bg[0, 3], has_bg[1:, 4] = False, False
    some = masked(adata, has_bg)
    mgvi = MGVI.from_anndata(some, "group", latents=["z:3", "t:2"], feature_masks=masks_of(some))
    mgvi.write_latents(some)
    result, cells = Result.read(some, mgvi), np.arange(some.n_obs)
    names = [*adata.var_names[2:6]]
    packed = observed(result, cells, names)
    absent = ~has_bg[some.obs["group"].cat.codes][:, 2:6]
    found = unpacked(packed["codes"], np.uint8).reshape(4, -1).T == 255
    np.testing.assert_array_equal(found, absent)
    assert packed["notes"] == ["", "predicted in group1", "predicted in group2, group3", ""]
    told = expected(result, cells, names)  # predictions are there
    assert (unpacked(told["all"], np.uint8) < 255).all()
