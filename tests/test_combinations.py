"""Every encoder, decoder, likelihood and foreign prior together."""

import numpy as np
import pyro
import pytest
from helpers.cells import log_normalised
from helpers.models import component_warning
from pyro.infer import SVI

import pyro_mgvi
from pyro_mgvi import MGVI, DataKind, WassersteinTraceELBO, private, shared

ENCODERS = (pyro_mgvi.SeparateEncoders, pyro_mgvi.SharedTrunk)
DECODERS = (
    pyro_mgvi.JointDecoder,
    pyro_mgvi.AdditiveDecoder,
    pyro_mgvi.LogLinearDecoder,
    pyro_mgvi.BasisDecoder,
)
LIKELIHOODS = (pyro_mgvi.ZINB, pyro_mgvi.NB, pyro_mgvi.Poisson, pyro_mgvi.Gaussian)
PRIORS = (pyro_mgvi.Dirac, pyro_mgvi.SameAsOwn, pyro_mgvi.Absent)


@pytest.fixture(scope="module")
def transformed(adata):
    return log_normalised(adata)


@pytest.mark.parametrize("foreign", PRIORS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_one_step_save_load(adata, transformed, tmp_path, encoder, decoder, likelihood, foreign):
    counts = likelihood.data_kind is DataKind.COUNTS
    data = adata if counts else transformed
    latents = (shared(3), private(2, foreign=foreign()))
    with component_warning(decoder):
        mgvi = MGVI.from_anndata(
            data, "group", latents=latents, encoder=encoder, decoder=decoder, likelihood=likelihood
        )
    before = mgvi.latents(data)["z"]
    svi = SVI(mgvi.model, mgvi.guide, pyro.optim.Adam({"lr": 1e-2}), loss=WassersteinTraceELBO())
    assert np.isfinite(svi.step(*next(mgvi.read(data).minibatches(60, seed=0))))
    mgvi.save(tmp_path / "m")
    with component_warning(decoder):
        loaded = MGVI.load(tmp_path / "m")
    ours, theirs = mgvi.latents(data), loaded.latents(data)
    assert not np.array_equal(ours["z"], before)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key])
    expression = mgvi.normalized_expression(data)
    np.testing.assert_array_equal(expression, loaded.normalized_expression(data))
    if counts:
        np.testing.assert_allclose(expression.sum(axis=1), 1, rtol=1e-4)
