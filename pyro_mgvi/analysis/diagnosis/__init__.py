"""May the latents be read? Refits on shuffled groups, probes, and the verdict in sentences."""

from pyro_mgvi.analysis.diagnosis.diagnosis import Diagnosis, diagnose
from pyro_mgvi.analysis.diagnosis.verdict import ACTIVE, LEAK, SURE

__all__ = ["ACTIVE", "LEAK", "SURE", "Diagnosis", "diagnose"]
