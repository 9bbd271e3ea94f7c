"""What the explorer in the report draws: cells, places, colours and genes, as compact numbers."""

from pyro_mgvi.report.explorer.payload import Explorer, explorer

__all__ = ["Explorer", "explorer"]
