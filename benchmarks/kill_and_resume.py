"""Kill a real training with SIGKILL, resume it, and compare every bit with one never killed.

``python -m benchmarks.kill_and_resume --times 20`` runs the command line as users do: ``pyro-mgvi
fit --checkpoint DIR --resume``. Of every four kills one comes at any time, one around the search,
one while a state is written, and one after the last epoch, while the outputs are.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch

from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.training import SearchSettings
from pyro_mgvi.training.checkpoint import states

EPOCHS, LIMIT = 16, 300  # epochs of a training; seconds that a process may take
OUTPUTS = ("model", "out.h5ad")
MOMENTS = ("any time", "search", "state is written", "outputs are written")


def kill_and_resume(times: int, folder: Path, seed: int = 0) -> pd.DataFrame:
    """Kill and resume as often as asked; return where each was killed and whether it is equal.

    Parameters
    ----------
    times
        How many trainings to kill; each is resumed until it ends.
    folder
        For data and outputs.
    seed
        Of the moments.
    """
    adata = clear_recipe(seed=1, n_cells=400, n_shared_genes=150, n_program_genes=50)
    adata.write_h5ad(folder / "in.h5ad")
    whole = folder / "whole"
    whole.mkdir()
    begun = time.monotonic()
    _finish(folder, whole)
    seconds = time.monotonic() - begun
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(times):
        kind = MOMENTS[number % len(MOMENTS)]
        run = folder / f"run{number}"
        run.mkdir()
        status = _kill(folder, run, _moment(kind, run, seconds, generator))
        done = max(states(run / "checkpoint"), default=0)
        there = [name for name in OUTPUTS if (run / name).exists()]
        _finish(folder, run)
        differ = list(differences(whole, run))
        rows.append(
            {
                "moment": kind,
                "killed": status == -signal.SIGKILL,
                "epochs done": done,
                "outputs there": " ".join(there) or "none",
                "equal": not differ,
                "differ": " ".join(differ),
            }
        )
    return pd.DataFrame(rows)


def differences(one: Path, other: Path) -> Iterator[str]:
    """Yield what is not equal to the last bit of two runs' last states and outputs."""
    folders = [run / "checkpoint" for run in (one, other)]
    if list(states(folders[0])) != list(states(folders[1])):
        yield "epochs"
    kept = [torch.load(list(states(x).values())[-1], weights_only=True) for x in folders]
    yield from (part for part in kept[0] if not _equal(kept[0][part], kept[1][part]))
    weights = [torch.load(run / "model" / "weights.pt", weights_only=True) for run in (one, other)]
    if not _equal(*weights):
        yield "weights"
    for name in ("settings.json", "history.csv"):
        if (one / "model" / name).read_bytes() != (other / "model" / name).read_bytes():
            yield name
    results = [ad.read_h5ad(run / "out.h5ad") for run in (one, other)]
    for key in results[0].obsm:
        if not np.array_equal(results[0].obsm[key], results[1].obsm[key], equal_nan=True):
            yield key


def _equal(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other


def _start(folder: Path, run: Path) -> subprocess.Popen:
    """Start the command of a user, who asks to resume every time."""
    options = {"--out": "out.h5ad", "--model": "model", "--checkpoint": "checkpoint"}
    named = [str(x) for name, value in options.items() for x in (name, run / value)]
    command = ["fit", str(folder / "in.h5ad"), "--group-key", "group", "--quiet", "--resume"]
    code = "import sys; from pyro_mgvi.cli.main import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *command, "--epochs", str(EPOCHS), *named],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(folder: Path, run: Path) -> None:
    process = _start(folder, run)
    error = process.communicate(timeout=LIMIT)[1]
    if process.returncode != 0:
        raise RuntimeError(f"training ended with {process.returncode}: {error}")


def _kill(folder: Path, run: Path, moment: Callable[[], bool]) -> int:
    """Start a training, kill it when its moment has come, and return how it ended."""
    process = _start(folder, run)
    while not moment() and process.poll() is None:
        time.sleep(1e-4)
    process.kill()
    error = process.communicate(timeout=LIMIT)[1]
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"training ended by itself with {process.returncode}: {error}")
    return process.returncode


def _being_written(checkpoint: Path) -> bool:
    """Return whether a state is half written."""
    try:
        return any(checkpoint.glob(".mgvi-*/epoch_*.pt"))
    except FileNotFoundError:  # it was put in its place while we looked
        return False


def _moment(
    kind: str, run: Path, seconds: float, generator: np.random.Generator
) -> Callable[[], bool]:
    """Return a function that tells whether the moment to kill has come."""
    begun, checkpoint = time.monotonic(), run / "checkpoint"
    any_epoch = int(generator.integers(1, EPOCHS))
    if kind == "any time" and any_epoch == 1:  # before there is a state, as it starts
        at = begun + generator.uniform(0.2, 0.8) * seconds
        return lambda: time.monotonic() > at
    if kind == "state is written":
        return lambda: bool(any_epoch in states(checkpoint) and _being_written(checkpoint))
    after = {"search": SearchSettings().epoch, "any time": any_epoch}.get(kind, EPOCHS)
    wait = generator.uniform(0.0, 0.4)  # seconds; the search takes about as long

    came: list[float] = []

    def come() -> bool:
        if not came and after in states(checkpoint):
            came.append(time.monotonic())
        return bool(came) and time.monotonic() > came[0] + wait

    return come


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = kill_and_resume(arguments.times, Path(folder), arguments.seed)
    print(table.drop(columns="differ").to_string())
    print(f"{table['equal'].sum()} of {len(table)} end as if they had never been killed")
    if not table["equal"].all():
        raise SystemExit(str(table.loc[~table["equal"], "differ"]))


if __name__ == "__main__":
    main()
