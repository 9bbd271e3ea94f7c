"""The versions that a result depends on, to be written beside it."""

from importlib.metadata import version


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {
        name.replace("-", "_"): version(name)
        for name in ("pyro-mgvi", "pyro-ppl", "torch", "anndata", "numpy")
    }
