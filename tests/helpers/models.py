"""Models with some decoder, and the warning that goes with it."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from pyro_mgvi import MGVI, ComponentWarning, private, shared
from pyro_mgvi.core.interfaces import StartsDimensions

LATENTS = (shared(3), private(2))


def component_warning(decoder):
    """Expect the warning that a decoder cannot start a dimension, if it cannot, and no other."""
    if issubclass(decoder, StartsDimensions):
        return nullcontext()
    return pytest.warns(ComponentWarning, match=f"decoder {decoder.__name__} cannot start")


def moved_decoder(adata, decoder, latents=LATENTS, noise=0.05):
    """Return a model whose decoder's weights are moved at random, and all cells as a minibatch."""
    with component_warning(decoder):
        mgvi = MGVI.from_anndata(adata, "group", latents=latents, decoder=decoder)
    for parameter in mgvi.model.decoder.parameters():
        parameter.data += noise * torch.randn_like(parameter)
    data = mgvi.read(adata)
    return mgvi, data.rows(np.arange(len(data)))
