"""What ``pyro-mgvi fit`` wrote, read back and checked, and what to run for what is missing."""

from pyro_mgvi.report.result.advice import with_model, without_model
from pyro_mgvi.report.result.result import OwnCells, Result, sample

__all__ = ["OwnCells", "Result", "sample", "with_model", "without_model"]
