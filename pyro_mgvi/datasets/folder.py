"""Where downloaded data are kept."""

import os
from pathlib import Path


def default_folder() -> Path:
    """Return the folder that PYRO_MGVI_DATA names, else one in the user's cache."""
    return Path(os.environ.get("PYRO_MGVI_DATA") or "~/.cache/pyro_mgvi").expanduser()
