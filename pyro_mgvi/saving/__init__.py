"""Trained models as folders of weights and plain settings: nothing in them can run code."""

from pyro_mgvi.saving.models import Saved, check_target, fill, holds_model, load, read, write

__all__ = ["Saved", "check_target", "fill", "holds_model", "load", "read", "write"]
