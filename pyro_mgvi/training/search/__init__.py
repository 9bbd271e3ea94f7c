"""What gradients do not find: offsets free of composition, idle dimensions, new directions."""

from pyro_mgvi.training.search.directions import Direction, find_directions
from pyro_mgvi.training.search.pruning import prune
from pyro_mgvi.training.search.restart import restart_idle
from pyro_mgvi.training.search_settings import SearchSettings

__all__ = ["Direction", "SearchSettings", "find_directions", "prune", "restart_idle"]
