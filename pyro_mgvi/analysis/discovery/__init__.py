"""Which groups share which program: found on half of the cells, tested on the others."""

from pyro_mgvi.analysis.discovery.discover import discover
from pyro_mgvi.analysis.discovery.discovery import COLUMNS, DISCOVER, Discovery

__all__ = ["COLUMNS", "DISCOVER", "Discovery", "discover"]
