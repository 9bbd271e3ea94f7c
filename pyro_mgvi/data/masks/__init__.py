"""Which features each group has: read from an AnnData, and what follows for counts and moments."""

from pyro_mgvi.data.masks.applied import masked_known, masked_new, needed_genes
from pyro_mgvi.data.masks.entries import common_absent, only_measured
from pyro_mgvi.data.masks.reading import FeatureMasks, absent_features, absent_of_new

__all__ = [
    "FeatureMasks",
    "absent_features",
    "absent_of_new",
    "common_absent",
    "masked_known",
    "masked_new",
    "needed_genes",
    "only_measured",
]
