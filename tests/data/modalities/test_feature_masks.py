"""Panels that differ between groups: columns of the modalities' var say what is there."""

import numpy as np
import pytest
import torch
from helpers.modalities import model, mosaic, mudata_of, small
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_mgvi import DataError

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
MASKS = {"d0": "in_d0", "d1": "in_d1", "d2": "in_d2"}


def panels(mdata=None, absent=("prot4", "prot5")):
    """Return a MuData of three donors, of which the first was stained with fewer proteins."""
    mdata = mosaic() if mdata is None else mdata
    parts = {name: part.copy() for name, part in mdata.mod.items()}
    prot = parts["prot"]
    for donor, column in MASKS.items():
        prot.var[column] = ~prot.var_names.isin(absent if donor == "d0" else [])
    at = np.ix_(prot.obs["donor"] == "d0", prot.var_names.isin(absent))
    prot.X[at] = 0
    return mudata_of(parts)


def test_a_panel_lacks_features_and_other_modalities_none():
    mgvi = model(panels(), feature_masks=MASKS)
    assert mgvi.schema.absent == {"d0": ("prot:prot4", "prot:prot5")}
    assert mgvi.schema.having == {"rna": ("d0", "d1", "d2"), "prot": ("d0", "d1", "d2")}
    lacks = panels(mosaic(prot="d1"))
    both = model(lacks, feature_masks=MASKS).schema
    assert set(both.absent) == {"d0", "d1"} and len(both.absent["d1"]) == 6
    assert both.having["prot"] == ("d0", "d2")


def test_what_a_panel_lacks_is_predicted_and_marked():
    mdata = panels()
    mgvi = model(mdata, feature_masks=MASKS)
    mgvi.fit(mdata, max_epochs=2, progress=False)
    first = mgvi.read(mdata).group_n == 0
    names = ["prot:prot4", "prot:prot5"]
    measured = mgvi.normalized_expression(mdata)
    proteins = [name for name in mgvi.schema.genes if name.startswith("prot:")]
    assert measured.loc[first, names].isna().all().all()
    np.testing.assert_allclose(measured[proteins].sum(axis=1), 1.0, rtol=1e-4)
    predicted = mgvi.normalized_expression(mdata, predict_absent=True)
    assert (predicted[names] > 0).all().all() and predicted.attrs["predicted"] == {"d0": names}
    ranked = mgvi.rank_genes(mdata, "d0", calibration=False)
    assert not set(names) & set(ranked.index)


@pytest.mark.slow
@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_encoders_see_each_feature_around_zero(seed):
    """At a depth that stands for the part of a modality that a group's panel has."""
    rng = np.random.default_rng(seed)
    mdata = panels(absent=[f"prot{g}" for g in rng.choice(6, rng.integers(1, 5), replace=False)])
    mgvi = model(mdata, feature_masks=MASKS)
    data = mgvi.read(mdata)
    batch = data.rows(np.arange(len(data)))
    x_ng = mgvi.guide.input(batch.counts, group=batch.group)
    has_ng = torch.from_numpy(mgvi.schema.measured_bg)[batch.group]
    assert (x_ng[~has_ng] == 0).all()
    mean_g = x_ng.sum(0) / has_ng.sum(0)
    torch.testing.assert_close(mean_g, torch.zeros(18), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "masks, said",
    [
        ("in", "a column of the modalities' var for each group"),
        ({"d0": "in_d0"}, r"say nothing of group\(s\) d1, d2"),
        ({**MASKS, "d7": "in_d0"}, r"group\(s\) that no cell is of: d7"),
        ({**MASKS, "d2": "panel"}, "'panel', is a column of no modality's var; they have: in_d0"),
        ({**MASKS, "d2": 3}, "a column of the modalities' var for each group"),
    ],
)
def test_masks_that_are_none_are_named(masks, said):
    with pytest.raises(DataError, match=said):
        model(panels(), feature_masks=masks)


@pytest.mark.parametrize("value, said", [(2, "is 2 for gene"), (np.nan, "is nan for gene")])
def test_a_mask_that_is_neither_0_nor_1_is_named(value, said):
    mdata = panels()
    column = mdata.mod["prot"].var["in_d1"].astype(object)
    column.iloc[3] = value
    mdata.mod["prot"].var["in_d1"] = column
    with pytest.raises(DataError, match=f"mask of 'd1' {said} 'prot:prot3'"):
        model(mdata, feature_masks=MASKS)


def test_features_and_groups_without_each_other_are_named():
    mdata = panels()
    for column in MASKS.values():
        mdata.mod["prot"].var[column] = mdata.mod["prot"].var_names != "prot2"
    with pytest.raises(DataError, match=r"1 feature\(s\) are in no group: prot:prot2"):
        model(mdata, feature_masks=MASKS)
    mdata = panels()
    mdata.mod["rna"].var["in_d1"], mdata.mod["prot"].var["in_d1"] = False, False
    with pytest.raises(DataError, match=r"group\(s\) d1 have no feature at all"):
        model(mdata, feature_masks=MASKS)


def test_counts_where_a_panel_has_nothing_are_doubted():
    mdata = panels()
    mdata.mod["prot"].X[:, 4] = 7
    with pytest.warns(match="'prot:prot4' is 7 in a cell of group 'd0'"):
        model(mdata, feature_masks=MASKS)


def test_masks_of_all_features_change_no_bit():
    mdata = small()
    for part in mdata.mod.values():
        part.var["all"] = 1
    plain, other = model(mdata), model(mdata, feature_masks={"d0": "all", "d1": "all"})
    assert plain.schema == other.schema
    for one, two in zip(plain.model.state_dict().values(), other.model.state_dict().values()):
        assert torch.equal(one, two)
