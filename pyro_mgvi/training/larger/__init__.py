"""Trained models with something more, and all that they knew as it was."""
