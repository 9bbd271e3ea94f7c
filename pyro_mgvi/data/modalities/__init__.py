"""Several modalities of the same cells: a MuData as one matrix, and the moments of each part."""

from pyro_mgvi.data.modalities.joining import is_mudata, joined, joined_known, measured_by_group
from pyro_mgvi.data.modalities.labelled import labelled, side_by_side

__all__ = [
    "is_mudata",
    "joined",
    "joined_known",
    "labelled",
    "measured_by_group",
    "side_by_side",
]
