"""CPU seconds until the package can be used, beside those of what it is built on.

    python -m benchmarks.start_up --repeats 7

Each command is a process of its own; all take turns, and the medians are printed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import pandas as pd

COMMANDS = {
    "pyro-mgvi --version": "from pyro_mgvi.cli.main import main; main(['--version'])",
    "pyro-mgvi --help": "from pyro_mgvi.cli.main import main; main(['--help'])",
    "import pyro_mgvi": "import pyro_mgvi",
    "from pyro_mgvi import MGVI": "from pyro_mgvi import MGVI",
    "import torch, pyro, anndata": "import torch, pyro, anndata",
}
BASE = "import torch, pyro, anndata"


def seconds(code: str) -> float:
    """Return the CPU seconds, of user and system, of a Python process that runs the code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Take turns, and print the medians and their ratio to the base."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    turns = [{name: seconds(code) for name, code in COMMANDS.items()} for _ in range(1 + repeats)]
    median = pd.DataFrame(turns[1:]).median().rename("CPU seconds").to_frame()  # the first warms up
    median["of the base"] = median["CPU seconds"] / median.loc[BASE, "CPU seconds"]
    print(median.round(3).to_string())


if __name__ == "__main__":
    main()
