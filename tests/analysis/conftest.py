"""A model that has seen its data, barely."""

import pytest

from pyro_mgvi import TrainingPlan


@pytest.fixture
def trained(mgvi, adata):
    """A few epochs of training: nothing is at its start any more."""
    mgvi.fit(adata, TrainingPlan(max_epochs=3, batch_size=32), progress=False)
    return mgvi
