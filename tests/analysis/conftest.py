"""A model that has seen its data, barely; and trained ones with refits, of programs and of none."""

from dataclasses import dataclass

import pytest
from anndata import AnnData

from pyro_mgvi import MGVI, CrossFit, TrainingPlan, cross_fit
from pyro_mgvi.analysis.cross_fit import shuffled_fit
from pyro_mgvi.datasets import SplatParams, clear_recipe, grouped


@pytest.fixture
def trained(mgvi, adata):
    """A few epochs of training: nothing is at its start any more."""
    mgvi.fit(adata, TrainingPlan(max_epochs=3, batch_size=32), progress=False)
    return mgvi


@dataclass(frozen=True)
class Trial:
    """A model trained to the end, and what its claims are tested with."""

    adata: AnnData
    mgvi: MGVI
    refits: CrossFit
    shuffled: CrossFit


def _trial(adata: AnnData) -> Trial:
    mgvi = MGVI.from_anndata(adata, "group")
    mgvi.fit(adata, progress=False)
    refits = [fit(mgvi, adata, progress=False) for fit in (cross_fit, shuffled_fit)]
    return Trial(adata, mgvi, *refits)


# Several modules ask these seven trainings, so they are made once.
@pytest.fixture(scope="session")
def planted():
    """Two groups of a thousand cells, each with two programs of its own."""
    return _trial(clear_recipe(8, n_cells=1000, n_shared_genes=400, n_program_genes=100))


@pytest.fixture(scope="session")
def nothing_planted():
    """The same without a program: what the groups share is all there is."""
    none = SplatParams(lib_loc=7.0, de_prob=0.0)
    return _trial(grouped(7, SplatParams(lib_loc=10.0), none, 1000, 400, 100))
