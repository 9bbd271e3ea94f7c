"""The generative program, its amortised posterior, and what these say of some cells."""

from pyro_mgvi.model.active_dims import ActiveDims
from pyro_mgvi.model.generative import Model
from pyro_mgvi.model.guide import Guide
from pyro_mgvi.model.posterior import Posterior

__all__ = ["ActiveDims", "Guide", "Model", "Posterior"]
