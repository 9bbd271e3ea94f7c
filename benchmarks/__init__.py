"""Measurements behind the package's claims, each a script: ``python -m benchmarks.NAME``."""
