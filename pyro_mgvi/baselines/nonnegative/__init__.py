"""Non-negative factorisations: programs that only add, of all groups or of some."""

from pyro_mgvi.baselines.nonnegative.gmdf import GMDF, Decomposition
from pyro_mgvi.baselines.nonnegative.inmf import INMF
from pyro_mgvi.baselines.nonnegative.separate_nmf import Programs, SeparateNMF

__all__ = ["GMDF", "INMF", "Decomposition", "Programs", "SeparateNMF"]
