"""A fit beside others: in threads, after a failed one, and inside a caller's Pyro program."""

import threading

import numpy as np
import pyro
import pytest
import torch

from pyro_mgvi import MGVI, TrainingError, TrainingPlan, private, shared
from pyro_mgvi.analysis.latent_values import latent_values

SMALL = (shared(3), private(2))
PLAN = TrainingPlan(max_epochs=4, search=None, prune_below=0.0)


def trained(adata, seed):
    mgvi = MGVI.from_anndata(adata, "group", latents=SMALL, seed=seed)
    mgvi.fit(adata, PLAN, progress=False)
    return latent_values(mgvi, mgvi.read(adata))["z"]


@pytest.mark.slow
def test_two_threads_that_fit_at_once_end_as_each_alone(adata):
    alone = [trained(adata, seed) for seed in (0, 1)]
    together = [None, None]

    def run(seed):
        together[seed] = trained(adata, seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together):
        np.testing.assert_array_equal(one, other)


def test_a_fit_after_a_failed_one_is_as_if_it_had_not_been(adata):
    expected = trained(adata, 0)
    broken = MGVI.from_anndata(adata, "group", latents=SMALL)
    with pytest.raises(TrainingError):
        broken.fit(adata, TrainingPlan(max_epochs=3, learning_rate=1e30), progress=False)
    np.testing.assert_array_equal(trained(adata, 0), expected)


def test_a_fit_leaves_the_callers_pyro_and_torch_as_they_were(adata):
    pyro.param("mine", torch.tensor(3.0))
    torch.manual_seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    validates = torch.distributions.Distribution._validate_args
    enabled = pyro.settings.get("validate_distributions_pyro")

    def model():
        mine = pyro.param("mine")
        trained(adata, 0)
        return pyro.sample("x", pyro.distributions.Normal(mine, 1.0))

    trained(adata, 0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    trace = pyro.poutine.trace(model).get_trace()
    assert set(trace.nodes) == {"_INPUT", "mine", "x", "_RETURN"}
    assert set(pyro.get_param_store()) == {"mine"}
    assert torch.distributions.Distribution._validate_args == validates
    assert pyro.settings.get("validate_distributions_pyro") == enabled


def test_a_fit_works_where_gradients_are_switched_off(adata):
    expected = trained(adata, 0)
    with torch.no_grad():
        np.testing.assert_array_equal(trained(adata, 0), expected)
    assert torch.is_grad_enabled()
