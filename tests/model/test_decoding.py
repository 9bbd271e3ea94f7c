"""Which offsets go with which latents."""

import numpy as np
import torch

from pyro_mgvi import MGVI, shared
from pyro_mgvi.core import Latents
from pyro_mgvi.model.decoding import Decoding


def test_all_latents_go_with_the_own_offset_though_all_are_shared():
    for specs in (["z:2"], ["z:2", "t:2"]):
        families = Latents(specs, ("a", "b"))
        assert Decoding.keeping(families) == Decoding.everything(families)
        assert Decoding.keeping(families, "z").averaged


def test_the_expression_of_a_group_has_its_mean_shift_though_no_latent_is_its_own(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=shared(2))
    with torch.no_grad():
        mgvi.model.decoder.offset[:, 3] = torch.tensor([2.0, 0.0, 0.0])
    group = adata.obs["group"].to_numpy(str)
    ratios = [
        of_gene[group == "group1"].mean() / of_gene[group == "group2"].mean()
        for of_gene in (
            mgvi.normalized_expression(adata, names).iloc[:, 3].to_numpy() for names in (None, "z")
        )
    ]
    assert abs(np.log(ratios[0]) - 2.0) < 0.5 and abs(np.log(ratios[1])) < 0.2
