"""A small model, trained for a moment."""

import numpy as np

from pyro_mgvi import MGVI, TrainingPlan, private, shared

LATENTS = (shared(3), private(2))
PLAN = TrainingPlan(max_epochs=3, batch_size=32)


def untrained(adata, **settings):
    return MGVI.from_anndata(adata, "group", **({"latents": LATENTS} | settings))


def fitted(adata, plan=PLAN, **settings):
    mgvi = untrained(adata, **settings)
    mgvi.fit(adata, plan, progress=False)
    return mgvi


def same(a, b):
    """Return whether two sets of latents are equal to the last bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=True) for k in a)
