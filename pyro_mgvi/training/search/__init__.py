"""What gradients do not find: offsets free of composition, idle dimensions, new directions."""

from pyro_mgvi.training.plan import SearchSettings
from pyro_mgvi.training.search.directions import find_directions
from pyro_mgvi.training.search.pruning import prune
from pyro_mgvi.training.search.residuals import Direction
from pyro_mgvi.training.search.restart import hand_over, restart_idle

__all__ = ["Direction", "SearchSettings", "find_directions", "hand_over", "prune", "restart_idle"]
