"""Training: the plan, the loop that follows it, and a new group for a trained model."""

from pyro_mgvi.training.add_group import add_group
from pyro_mgvi.training.plan import SearchSettings, TrainingPlan
from pyro_mgvi.training.refit import train
from pyro_mgvi.training.search import prune, restart_idle
from pyro_mgvi.training.setup import TrainingSetup
from pyro_mgvi.training.trainer import Trainer

__all__ = [
    "SearchSettings",
    "Trainer",
    "TrainingPlan",
    "TrainingSetup",
    "add_group",
    "prune",
    "restart_idle",
    "train",
]
