"""What is said of genes that a group has not got: by its modalities, by masks, or by both."""

import pytest
from helpers.modalities import LATENTS, LIKELIHOODS, mosaic, mudata_of

from pyro_mgvi import MGVI
from pyro_mgvi.data.masks.notes import notes_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def said_of(mdata, group, **settings):
    mgvi = MGVI.from_mudata(mdata, "donor", LIKELIHOODS, latents=LATENTS, **settings)
    return notes_of(mgvi.schema, (group,)).get("absent_genes")


def test_a_modality_that_a_group_lacks_is_named():
    mdata = mosaic(prot="d0")
    assert said_of(mdata, "d0") == "6 genes have no row: d0 has no prot"
    assert said_of(mdata, "d1") is None


def test_masks_are_named_where_they_are_the_reason():
    parts = {name: part.copy() for name, part in mosaic(prot="d0").mod.items()}
    for group in ("d0", "d1", "d2"):
        parts["rna"].var[f"in_{group}"] = int(group == "d2")
    parts["rna"].var.loc[parts["rna"].var_names != "rna3", ["in_d0", "in_d1"]] = 1
    parts["rna"].X[parts["rna"].obs["donor"].isin(["d0", "d1"]).to_numpy(), 3] = 0
    masks = {group: f"in_{group}" for group in ("d0", "d1", "d2")}
    mdata = mudata_of(parts)
    both, mask = (said_of(mdata, group, feature_masks=masks) for group in ("d0", "d1"))
    assert both == (
        "7 genes have no row: d0 has no prot; the feature masks say that d0 has not got the others"
    )
    assert mask == "1 genes have no row: the feature masks say that d1 has not got them"
