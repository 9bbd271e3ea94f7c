import pyro
import pytest
import torch

from pyro_mgvi import WassersteinTraceELBO


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_unscored_latent_sites_leave_the_loss_as_it_is(mgvi, batch, weight):
    found = []
    for validate in (True, False):  # validation scores all sites, as stock Pyro does
        with pyro.validation_enabled(validate):
            torch.manual_seed(0)
            elbo = WassersteinTraceELBO(own_weight={"t": weight})
            found.append(elbo.terms(mgvi.model, mgvi.guide, *batch))
    torch.testing.assert_close(*found, rtol=0, atol=0)
