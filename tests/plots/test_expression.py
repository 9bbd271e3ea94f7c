"""Boxes of expected expression, read back from their artists; predictions are marked."""

import numpy as np
import pytest
from helpers.masked import masked, masks_of

import pyro_mgvi
from pyro_mgvi import MGVI, Gaussian, plots


def test_expression_draws_all_and_shared_for_the_group_and_for_the_others(mgvi, adata):
    genes = ["program_2", "shared_1"]
    axes = plots.expression(mgvi, adata, "group2", genes)
    assert [ax.get_title() for ax in axes] == genes
    own = (adata.obs["group"] == "group2").to_numpy()
    drawn = [x.get_ydata()[0] for x in axes[0].lines if x.get_color() == plots.PALETTE[-1]]
    truth = []
    for latents in (None, "z"):
        values = 1e4 * mgvi.normalized_expression(adata, latents, genes)["program_2"].to_numpy()
        truth += [np.median(values[own]), np.median(values[~own])]
    np.testing.assert_allclose(drawn, truth, rtol=1e-5)
    with pytest.raises(pyro_mgvi.DataError, match="group9"):
        plots.expression(mgvi, adata, "group9", genes)


def boxes(ax):
    """Return median and hatch of each box: the group's and the others', then with z alone."""
    medians = [x.get_ydata()[0] for x in ax.lines if x.get_color() == plots.PALETTE[-1]]
    return medians, [patch.get_hatch() for patch in ax.patches]


def test_what_a_group_has_not_got_is_marked_as_predicted(adata):
    has_bg = np.ones((3, adata.n_vars), bool)
    has_bg[1, 3], has_bg[[0, 2], 4], has_bg[2, 5] = False, False, False
    some = masked(adata, has_bg)
    mgvi = MGVI.from_anndata(some, "group", latents=["z:3", "t:2"], feature_masks=masks_of(some))
    genes = [*adata.var_names[3:7]]
    axes = plots.expression(mgvi, some, "group2", genes)
    assert [ax.get_title() for ax in axes] == [
        f"{genes[0]}\n(predicted in group2)",
        f"{genes[1]}\n(predicted in group1, group3)",
        *genes[2:],
    ]
    code = adata.obs["group"].cat.codes.to_numpy()
    own, others = code == 1, code != 1
    drawn_cells = [(own, others), (own, others), (own, code == 0), (own, others)]
    hatches = [["///", None] * 2, [None, "///"] * 2, [None] * 4, [None] * 4]
    predicted = [
        1e4 * mgvi.normalized_expression(some, k, genes, predict_absent=True).to_numpy()
        for k in (None, "z")
    ]
    for i, (ax, cells, hatch) in enumerate(zip(axes, drawn_cells, hatches)):
        medians, found = boxes(ax)
        truth = [np.median(x[side, i]) for x in predicted for side in cells]
        np.testing.assert_allclose(medians, truth, rtol=1e-5)
        assert found == hatch


def test_transformed_values_are_drawn_as_they_are(adata):
    logs = adata.copy()
    logs.X = np.log1p(adata.X.toarray())
    mgvi = MGVI.from_anndata(logs, "group", likelihood=Gaussian)
    (ax,) = plots.expression(mgvi, logs, "group2", ["shared_1"])
    assert ax.get_ylabel() == "expected value"
    expected = mgvi.normalized_expression(logs, genes="shared_1").to_numpy()
    low, high = ax.dataLim.intervaly
    assert expected.min() - 1 < low <= high < expected.max() + 1
