"""Masks of features from wherever they may be, and what is wrong with them in words."""

import numpy as np
import pandas as pd
import pytest
from helpers.cells import G, make, read

from pyro_mgvi import DataError, GroupedCounts

A, B = np.array([1, 1, 1, 0, 1], bool), np.array([1, 1, 0, 1, 1], bool)
ABSENT = {"a": ("gene3",), "b": ("gene2",)}


def cells():
    adata = make()
    x = adata.X.toarray()
    x[(adata.obs["tissue"] == "a").to_numpy(), 3] = 0
    x[(adata.obs["tissue"] == "b").to_numpy(), 2] = 0
    adata.X = x
    adata.var["in_a"], adata.var["in_b"] = A, B
    return adata


def test_masks_are_columns_of_var_arrays_or_aligned_by_name():
    adata = cells()
    shuffled = pd.Series(B.astype(int), adata.var_names).sample(frac=1, random_state=0)
    for masks in (
        {"a": "in_a", "b": "in_b"},
        {"a": A, "b": B.tolist()},
        {"a": A.astype(float), "b": shuffled},
    ):
        assert read(adata, feature_masks=masks).schema.absent == ABSENT


def test_masks_are_tables_in_varm_or_arrays_in_uns():
    adata = cells()
    adata.varm["has"] = np.column_stack([A, B])
    adata.varm["named"] = pd.DataFrame({"b": B, "a": A}, index=adata.var_names)
    adata.uns |= {"mask_a": A.astype(np.float32)[None], "mask_b": pd.Series(B, adata.var_names)}
    for name in ("has", "named", "mask"):
        assert read(adata, feature_masks=name).schema.absent == ABSENT


def test_a_table_of_one_column_is_aligned_as_a_series_is():
    adata = cells()
    turned = pd.DataFrame({"has": A}, index=adata.var_names)[::-1]
    adata.uns |= {"mask_a": turned, "mask_b": B}
    for masks in ({"a": turned, "b": B}, "mask"):
        assert read(adata, feature_masks=masks).schema.absent == ABSENT


def test_masks_of_raw_are_those_of_its_genes():
    adata = cells()
    adata.raw = adata.copy()
    few = adata[:, :3].copy()
    found = read(few, use_raw=True, feature_masks={"a": "in_a", "b": "in_b"})
    assert found.schema.absent == ABSENT


def test_masks_that_hide_nothing_are_none():
    adata = cells()
    everything = {"a": np.ones(G), "b": np.ones(G)}
    assert read(adata, feature_masks=everything).schema == read(adata).schema
    assert read(adata).schema.measured_bg is None


def test_the_table_of_groups_and_genes_follows_the_masks():
    schema = read(cells(), feature_masks={"a": "in_a", "b": "in_b"}).schema
    np.testing.assert_array_equal(schema.measured_bg, [A, B])
    assert "absent genes: 1 of a, 1 of b" in repr(schema)


NONE, ALL = np.zeros(G), np.ones(G)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"a": NONE, "b": ALL}, r"group\(s\) a have no feature at all"),
        ({"a": A, "b": A}, r"1 feature\(s\) are in no group: gene3"),
        ({"a": A, "b": ~A}, r"group\(s\) a, b share no feature with any other group"),
        ({"a": A * 2.0, "b": B}, r"of 'a' is 2.0 for gene 'gene0': it must be 1"),
        ({"a": A, "b": np.where(B, 1.0, np.nan)}, "of 'b' is nan for gene 'gene2'"),
        ({"a": A, "b": ["yes"] * G}, "of 'b' is yes for gene 'gene0'"),
        ({"a": A, "b": B[:3]}, r"of 'b' has 3 value\(s\), and there are 5 genes"),
        ({"a": A, "b": B, "c": A}, r"group\(s\) that no cell is of: c; the groups are a, b"),
        ({"a": A, 1: B, "1": B}, "two feature masks are called 1, as text: rename one"),
        ({"a": A}, r"say nothing of group\(s\) b: give every group a mask"),
        ({"a": "in_a", "b": "is_b"}, "of 'b', 'is_b', is not a column of adata.var; it has: in_a"),
        ({"a": A, "b": pd.Series(B)}, "of 'b' has an index that does not hold every gene once"),
        ({"a": A, "b": pd.DataFrame(B)}, "of 'b' has an index that does not hold every gene once"),
        (
            {"a": A, "b": pd.DataFrame({"old": A, "new": B})},
            r"of 'b' is a DataFrame of 2 columns \(old, new\): give one of them",
        ),
        ("has", r"neither a table in adata.varm nor the start of keys in adata.uns \('has_a'"),
        (["in_a", "in_b"], "feature_masks is a list: give a column of var for each group"),
        ("wide", r"varm\['wide'\] has shape \(5, 3\), and there are 2 groups"),
        ("half", r"say nothing of group\(s\) b"),
    ],
)
def test_masks_that_are_wrong_are_refused_in_words(masks, message):
    adata = cells()
    adata.varm["wide"], adata.uns["half_a"] = np.ones((G, 3)), A
    with pytest.raises(DataError, match=message):
        GroupedCounts.from_anndata(adata, "tissue", feature_masks=masks)


def crossed():
    adata = cells()
    adata.obs["drug"] = ["x", "y"] * 6
    return adata


def test_masks_of_several_columns_are_of_the_levels_of_one_or_of_all_combinations():
    adata, keys = crossed(), ["tissue", "drug"]
    of_levels = {"a_x": ("gene3",), "a_y": ("gene3",), "b_x": ("gene2",), "b_y": ("gene2",)}
    adata.varm["has"] = pd.DataFrame({"b": B, "a": A}, index=adata.var_names)
    adata.uns |= {"mask_a": A, "mask_b": B}
    for masks in ({"b": "in_b", "a": "in_a"}, "has", "mask"):
        assert read(adata, group_key=keys, feature_masks=masks).schema.absent == of_levels
    each = {"a_x": A, "a_y": np.ones(G), "b_x": B, "b_y": B}
    adata.X = adata.X * (np.arange(G) != 3)  # where a_y has the gene, its count is zero
    found = read(adata, group_key=keys, feature_masks=each).schema
    assert found.absent == {name: of_levels[name] for name in ("a_x", "b_x", "b_y")}
    np.testing.assert_array_equal(found.measured_bg, [A, np.ones(G), B, B])


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"a": A, "c": A}, r"no cell is of: c; the groups are a_x, .*by levels of 'tissue', a, b"),
        ({"a": A, "x": A}, r"no cell is of: x; the groups are"),
        ({"x": A}, r"say nothing of group\(s\) y"),
        ({"a_x": A, "b_x": B}, r"say nothing of group\(s\) a_y, b_y"),
        ({"a": [1, 1, 0, 0, 0], "b": [0, 0, 1, 1, 1]}, "b_x, b_y share no feature with any other"),
        ("has", r"varm\['has'\] is an array, .*: make it a DataFrame"),
    ],
)
def test_masks_of_several_columns_that_are_wrong_are_refused_in_words(masks, message):
    adata = crossed()
    adata.varm["has"] = np.column_stack([A, B])
    with pytest.raises(DataError, match=message):
        read(adata, group_key=["tissue", "drug"], feature_masks=masks)


def test_masks_of_a_name_that_two_columns_have_are_refused():
    adata = crossed()
    adata.obs["drug"] = np.where(adata.obs["drug"] == "x", "a", "b")
    with pytest.raises(DataError, match="are levels of several columns: give a mask to each comb"):
        read(adata, group_key=["tissue", "drug"], feature_masks={"a": A, "b": B})
