"""From an AnnData to checked, grouped counts and minibatches."""

from pyro_mgvi.data.genes.choice import choose_genes
from pyro_mgvi.data.grouped_counts import GroupedCounts
from pyro_mgvi.data.minibatch import Minibatch
from pyro_mgvi.data.schema import Schema

__all__ = ["GroupedCounts", "Minibatch", "Schema", "choose_genes"]
