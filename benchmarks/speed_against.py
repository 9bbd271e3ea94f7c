"""A training step of this checkout beside one of another commit, ten steps each in turns.

    git worktree add ../before f993248
    python -m benchmarks.speed_against ../before --repeats 40

Each checkout runs in a process of its own, which steps when it is told to, so that a noisy machine
slows both. Ten steps at a time, since a single one, after the other's, finds its threads asleep and
its caches cold, as in no training. Printed are the median milliseconds of a step and the median of
the ratios of pairs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parents[1]
SETTINGS = {  # genes, groups, cells a step, density, compiled, sparse
    "dense": (5200, 2, 256, 0.65, False, False),
    "sparse": (2000, 3, 384, 0.10, False, True),
    "compiled": (5200, 2, 256, 0.65, True, False),
}
BLOCK = 10  # steps in a turn
WARM_UP = 2  # turns that do not count: the first one compiles


def work(setting: str, threads: int) -> None:
    """Take the steps of a turn for each line of standard input, and print seconds per step."""
    import torch

    from pyro_mgvi import MGVI

    try:
        from benchmarks.training_steps import grouped_counts, our_step
    except ImportError:  # before benchmarks were a package
        sys.path.insert(0, "benchmarks")
        from speed import grouped_counts, our_step

    torch.set_num_threads(threads)
    genes, groups, cells, density, compiled, keep_sparse = SETTINGS[setting]
    adata = grouped_counts(4 * cells, genes, groups, density)
    mgvi = MGVI.from_anndata(adata, "group")
    data = mgvi.read(adata).unpacked()
    step = our_step(mgvi, data, cells, compiled, keep_sparse)
    for _line in sys.stdin:
        start = time.perf_counter()
        for _ in range(BLOCK):
            step()
        print((time.perf_counter() - start) / BLOCK, flush=True)


def start(checkout: Path, setting: str, threads: int) -> subprocess.Popen[str]:
    """Start a process that steps with the code of a checkout."""
    command = [sys.executable, __file__, "--work", setting, "--threads", str(threads)]
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(
        command,
        cwd=checkout,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def ask(process: subprocess.Popen[str]) -> float:
    """Return the seconds per step of a process's next turn."""
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def compare(other: Path, setting: str, threads: int, repeats: int) -> dict[str, object]:
    """Return the medians of both checkouts and of their ratio, the order changing by turns."""
    ours, theirs = (start(checkout, setting, threads) for checkout in (HERE, other.resolve()))
    pairs = []
    for turn in range(WARM_UP + repeats):
        order = (ours, theirs) if turn % 2 else (theirs, ours)
        seconds = {process: ask(process) for process in order}
        pairs.append((seconds[ours], seconds[theirs]))
    for process in (ours, theirs):
        process.communicate()
    ours_ms, theirs_ms = 1e3 * np.array(pairs[WARM_UP:]).T
    return {
        "setting": setting,
        "threads": threads,
        "ms": np.median(ours_ms),
        "ms before": np.median(theirs_ms),
        "ratio": np.median(ours_ms / theirs_ms),
        "of fastest quarters": np.quantile(ours_ms, 0.25) / np.quantile(theirs_ms, 0.25),
    }


def main() -> None:
    """Compare in each setting and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, nargs="?", help="checkout of the other commit")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--work", choices=SETTINGS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.threads[0])
        return
    rows = [
        compare(arguments.other, setting, threads, arguments.repeats)
        for setting in arguments.settings
        for threads in arguments.threads
    ]
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
