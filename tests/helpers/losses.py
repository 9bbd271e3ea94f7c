"""The loss of a minibatch by site, and every gradient, to compare bit by bit."""

import warnings

import numpy as np
import torch

from pyro_mgvi import DataWarning, WassersteinTraceELBO


def whole(mgvi, adata):
    """Return all cells as one minibatch."""
    data = mgvi.read(adata)
    return data.rows(np.arange(len(data)))


def losses(mgvi, batch):
    """Return the loss by site, and every gradient."""
    for module in (mgvi.model, mgvi.guide):
        module.zero_grad()
    torch.manual_seed(0)
    terms = WassersteinTraceELBO().terms(mgvi.model, mgvi.guide, *batch)
    sum(terms.values()).backward()
    parts = [("model", mgvi.model), ("guide", mgvi.guide)]
    found = {f"loss {name}": term.detach() for name, term in terms.items()}
    for part, module in parts:
        for name, weight in module.named_parameters():
            found[f"{part}.{name}"] = None if weight.grad is None else weight.grad.clone()
    return found


def assert_same_bits(first, second):
    """Compare losses and gradients."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        if value is None:
            assert second[name] is None, name
        else:
            assert torch.equal(value, second[name]), name


def assert_same_everywhere(mgvi, data, others):
    """Ask that losses, gradients and latents of other data are those of the first, bit by bit."""
    plain, latents = losses(mgvi, whole(mgvi, data)), mgvi.latents(data)
    for other in others:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            assert_same_bits(plain, losses(mgvi, whole(mgvi, other)))
            for key, table in mgvi.latents(other).items():
                np.testing.assert_array_equal(table, latents[key])
