"""Steps of Pyro's own SVI."""

import numpy as np
from pyro.infer import SVI

from pyro_mgvi import WassersteinTraceELBO


def parameters(mgvi):
    """Return copies of all parameters of model and guide."""
    modules = (mgvi.model, mgvi.guide)
    return [p.detach().clone() for m in modules for p in m.parameters()]


def svi_steps(mgvi, data, optimiser, n_epochs=3, elbo=None):
    """Return the mean loss of some epochs of minibatches."""
    svi = SVI(mgvi.model, mgvi.guide, optimiser, loss=elbo or WassersteinTraceELBO())
    mgvi.model.train(), mgvi.guide.train()
    return [
        np.mean([svi.step(*batch) for batch in data.minibatches(40, seed=epoch)])
        for epoch in range(n_epochs)
    ]
