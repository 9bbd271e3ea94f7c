import numpy as np
import pytest
import torch
from helpers.models import moved_decoder

from pyro_mgvi import AdditiveDecoder, LogLinearDecoder, SettingsError


def test_loadings_are_the_change_of_the_log_mean_per_unit(adata):
    mgvi, batch = moved_decoder(adata, LogLinearDecoder)
    values = {"z": torch.randn(1, 120, 3), "t": torch.randn(3, 120, 2)}
    mine = batch.group == 1
    for key, (name, copy) in (("z", ("z", 0)), ("t_group2", ("t", 1))):
        moved = {k: v.clone() for k, v in values.items()}
        moved[name][copy, :, 0] += 1
        before, after = (mgvi.model.decode(v, batch.group)[0][0] for v in (values, moved))
        slope = (after - before)[mine].mean(0).detach()
        np.testing.assert_allclose(mgvi.loadings(key)[f"{key}_1"], slope, atol=1e-5)
    copy = adata[:, ::-1].copy()
    table = mgvi.loadings("t", copy)
    assert table.shape == (60, 6) and list(table.index) == list(adata.var_names)
    np.testing.assert_array_equal(copy.varm["X_mgvi_t_group3"], table.iloc[::-1, 4:])
    with pytest.raises(SettingsError, match=r"unknown latent\(s\) \['u'\]"):
        mgvi.loadings("u")
    with pytest.raises(SettingsError, match="no readable loadings"):
        moved_decoder(adata, AdditiveDecoder)[0].loadings("z")
