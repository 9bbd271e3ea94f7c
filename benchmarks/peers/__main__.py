"""Run peers on the same cells: one CSV of scores, and a page of tables.

    python -m benchmarks.peers --folder DATA --seeds 3 --out DIR
    python -m benchmarks.peers --quick --out DIR        # simulated cells, in minutes

Each run is a process of its own, so that times and memory are of this method alone; a run that is
there already is not repeated. A method that is not installed is a row that says so;
``--python DRVI=PATH`` runs one in an environment of its own. Columns of the CSV: data, method,
seed, metric, value.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.peers.page import write_page
from benchmarks.peers.picture import write_picture
from benchmarks.peers.sets import QUICK, SETS, read

METHODS = (
    "MGVI", "paper's preset", "PCA", "Harmony", "scVI", "ContrastiveVI", "MrVI", "sysVI", "DRVI",
    "LEMUR", "MOFA-FLEX", "GMDF", "iNMF", "MGFA",
)  # fmt: skip
COSTS = "seconds", "CPU seconds", "gigabytes"
QUICK_METHODS = ("MGVI", "PCA", "GMDF", "MGFA")
HERE = Path(__file__).resolve().parents[2]


def work(method: str, data: str, folder: Path | None, seed: int, out: Path) -> None:
    """Run a method on a set and write its latents, what time it took, and its largest memory."""
    from benchmarks.peers.methods import METHODS as known

    adata = read(data, folder)
    seen = adata[:, ~adata.var["held_out"]].copy()
    start, start_cpu = time.perf_counter(), time.process_time()
    found = known[method](seen, seed)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    private = {f"t_{name}": t for name, t in found.t.items()}
    cost = {"seconds": seconds, "CPU seconds": cpu, "gigabytes": gigabytes}
    np.savez(out, z=found.z, **cost, **private)


def run(task: tuple[str, str, int], out: Path, given: argparse.Namespace) -> Path | str:
    """Return the file of a run's latents, or why there is none."""
    data, method, seed = task
    name = "-".join(text.replace(" ", "_").replace("'", "") for text in (data, method))
    path = out / f"{name}-{seed}.npz"
    if path.exists():
        return path
    pythons = dict(pair.split("=", 1) for pair in given.python)
    folder = ["--folder", str(given.folder)] if given.folder else []
    process = subprocess.run(
        [
            pythons.get(method, sys.executable), "-m", "benchmarks.peers", "--work", method, data,
            str(seed), str(path), "--out", str(out), *folder,
        ],
        cwd=HERE,
        env=os.environ | {"OMP_NUM_THREADS": str(given.threads), "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
    )  # fmt: skip
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        return lines[-1] if lines else f"ended with {process.returncode}"
    return path


def main() -> None:
    """Run what is not there yet, score it, and write the table and the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="of the sets' files")
    parser.add_argument("--data", nargs="+", choices=SETS)
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="simulated cells, fast methods")
    parser.add_argument("--python", nargs="+", default=[], metavar="METHOD=PATH")
    parser.add_argument("--out", type=Path, default=Path("peers"))
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        method, data, seed, path = given.work
        work(method, data, given.folder, int(seed), Path(path))
        return
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    sets = [QUICK] if given.quick else given.data or list(SETS)
    methods = given.methods or (QUICK_METHODS if given.quick else METHODS)
    seeds = range(1 if given.quick else given.seeds)
    table = out / "peers.csv"
    rows = (
        pd.read_csv(table) if table.exists() else pd.DataFrame(columns=["data", "method", "seed"])
    )
    missing: dict[str, str] = {}
    for task in ((d, m, s) for s in seeds for d in sets for m in methods):
        data, method, seed = task
        done = (rows["data"] == data) & (rows["method"] == method) & (rows["seed"] == seed)
        if done.any() or method in missing:
            continue
        path = run(task, out, given)
        if isinstance(path, str):
            print(f"{data}, {method}, seed {seed}: {path}", flush=True)
            if "ModuleNotFoundError" in path:
                missing[method] = path
            continue
        new = scored(task, path, given.folder)
        rows = pd.concat([rows, new]) if len(rows) else new
        rows.to_csv(table, index=False)
        print(f"{data}, {method}, seed {seed}: done", flush=True)
    write_picture(rows, out / "peers.png")
    print(write_page(rows, out / "peers.md"))


def scored(task: tuple[str, str, int], path: Path, folder: Path | None) -> pd.DataFrame:
    """Return the rows of a run."""
    from benchmarks.peers.methods import Found
    from benchmarks.peers.scores import scib, scores

    data, method, seed = task
    kept = dict(np.load(path))
    found = Found(kept["z"], {k[2:]: v for k, v in kept.items() if k.startswith("t_")})
    adata = read(data, folder)
    values = scores(adata, found) | scib(adata, found)
    values |= {name: float(kept[name]) for name in COSTS}
    key = {"data": data, "method": method, "seed": seed}
    return pd.DataFrame([key | {"metric": m, "value": v} for m, v in values.items()])


if __name__ == "__main__":
    main()
