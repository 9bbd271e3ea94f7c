"""``python -m pyro_mgvi``: the command line, where its script is not on the path."""

import sys

from pyro_mgvi.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
