"""Every encoder, decoder, likelihood and foreign prior together; and every pair of all settings.

The table of the latter is printed by ``python -m benchmarks.combinations``.
"""

import warnings

import numpy as np
import pyro
import pytest
from helpers.cells import log_normalised
from helpers.models import component_warning
from pyro.infer import SVI

import pyro_mgvi
from benchmarks.combinations.case import Case
from benchmarks.combinations.factors import FACTORS, NO_MODEL, NOT_MEANT, configurations
from benchmarks.combinations.pairs import all_pairs, pairs_of
from benchmarks.combinations.table import OPERATIONS, expected, row
from pyro_mgvi import MGVI, DataKind, SettingsError, WassersteinTraceELBO, private, shared

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


@pytest.mark.slow
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


CONFIGURATIONS = configurations()
QUICK = CONFIGURATIONS[:2]


def test_the_configurations_hold_every_pair_of_which_there_is_a_model():
    held = set().union(*map(pairs_of, CONFIGURATIONS))
    assert held == set(all_pairs(FACTORS)) - set(NO_MODEL) - NOT_MEANT
    assert len(CONFIGURATIONS) < 60


@pytest.mark.parametrize(
    "levels", NO_MODEL, ids=lambda levels: " ".join(sorted(dict(levels).values()))
)
def test_a_pair_of_which_there_is_no_model_is_refused_by_name(levels, tmp_path):
    chosen = {factor: next(iter(names)) for factor, names in FACTORS.items()} | dict(levels)
    with warnings.catch_warnings(), pytest.raises(SettingsError, match=NO_MODEL[levels]):
        Case(chosen, tmp_path).mgvi  # noqa: B018 # it is built and trained when looked at


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(chosen, marks=[] if chosen in QUICK else pytest.mark.slow, id=str(i + 1))
        for i, chosen in enumerate(CONFIGURATIONS)
    ],
)
def test_every_operation_works_or_is_refused_by_name(chosen, tmp_path):
    cells = list(row(chosen, tmp_path))
    wrong = {cell.operation: cell.wrong for cell in cells if cell.wrong}
    assert not wrong, f"{wrong} with {chosen}"
    refused = {cell.operation for cell in cells if cell.refused}
    assert refused == {operation for operation in OPERATIONS if expected(chosen, operation)}
