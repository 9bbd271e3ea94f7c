"""Whether this checkout and another commit train a model to the same bits.

    git worktree add ../before f993248
    python -m benchmarks.equal_against ../before DATA.h5ad ... --group group --epochs 20

Each checkout fits in a process of its own, with the schedule that both know: today's clock may
hurry where the loss has come to rest, which the commit before did not. Compared are the losses of
all epochs and the latents of all cells, number by number.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parents[1]


def fit(data: Path, group: str, epochs: int, seed: int, out: Path) -> None:
    """Fit a file with the code at hand, and write losses and latents."""
    import anndata

    from pyro_mgvi import MGVI

    try:
        from pyro_mgvi.training import TrainingPlan

        plan = {"plan": TrainingPlan(max_epochs=epochs, hurry=1.0)}
    except (ImportError, TypeError):  # before a plan could be told not to hurry
        plan = {"max_epochs": epochs}
    adata = anndata.read_h5ad(data)
    mgvi = MGVI.from_anndata(adata, group, seed=seed)
    mgvi.fit(adata, **plan)
    losses = {f"loss {name}": np.asarray(mgvi.history[name], float) for name in mgvi.history}
    latents = mgvi.latents(adata)
    values = {f"latent {key}": np.asarray(latents[key]) for key in latents}
    np.savez(out, **losses, **values)


def run(checkout: Path, arguments: list[str], threads: int) -> None:
    """Run the fit with the code of a checkout."""
    subprocess.run(
        [sys.executable, __file__, "--fit", *arguments],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def compare(other: Path, data: Path, settings: list[str], threads: int) -> dict[str, object]:
    """Return how many arrays both have, and the largest difference of any number."""
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for name, checkout in {"ours": HERE, "theirs": other.resolve()}.items():
            out = Path(folder) / f"{name}.npz"
            run(checkout, [str(data.resolve()), *settings, "--out", str(out)], threads)
            results.append(dict(np.load(out)))
    ours, theirs = results
    both = sorted(set(ours) & set(theirs))
    if not any(name.startswith("latent") for name in both):
        raise SystemExit(f"{data.name}: no array is common to {sorted(ours)} and {sorted(theirs)}")
    apart = [float(np.nanmax(np.abs(ours[name] - theirs[name]), initial=0.0)) for name in both]
    return {
        "data": data.stem,
        "arrays": len(both),
        "losses": sum(name.startswith("loss") for name in both),
        "equal bit for bit": all(
            np.array_equal(ours[name], theirs[name], equal_nan=True) for name in both
        ),
        "largest difference": max(apart),
    }


def main() -> None:
    """Compare on each file and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", type=Path, nargs="+", help="the other checkout, then data files")
    parser.add_argument("--group", default="group", help="column of obs with the groups")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fit", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fit:
        fit(given.paths[0], given.group, given.epochs, given.seed, given.out)
        return
    settings = ["--group", given.group, "--epochs", str(given.epochs), "--seed", str(given.seed)]
    other, *files = given.paths
    rows = [compare(other, data, settings, given.threads) for data in files]
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
