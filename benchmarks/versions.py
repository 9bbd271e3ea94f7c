"""The quick tests with the newest and the lowest versions of what the package depends on.

    python -m benchmarks.versions --out DIR [--rows NAME ...] [--torch "torch==2.13.0"] [--install]

Each row of the table is an environment of its own in DIR: a Python, and bounds on what pip would
choose. ``lowest`` pins every dependency of pyproject.toml to the lower bound that is declared
there. An environment that is there already is used again. The table is written to
``benchmarks/notes/RESULTS_versions.md`` when all rows have run.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
NOTE = ROOT / "benchmarks" / "notes" / "RESULTS_versions.md"
SHOWN = "torch pyro-ppl anndata pandas numpy arviz scipy scikit-learn zarr".split()


class Row(NamedTuple):
    """One environment: its name, its Python, and bounds beside those of pyproject.toml."""

    name: str
    python: str
    bounds: tuple[str, ...] = ()
    lowest: bool = False


ZARR = "zarr<3"  # anndata reads and writes with zarr 3 from 0.12 on
SCIPY = "scipy<1.15"  # with which anndata before 0.12 takes cells of backed sparse counts
# anndata 0.12 is that of the newest row of Python 3.11; it cannot write the strings of pandas 3.
ROWS = (
    Row("newest, 3.11", "3.11"),
    Row("newest, 3.12", "3.12"),
    Row("newest, 3.13", "3.13"),
    Row("lowest", "3.11", (ZARR,), lowest=True),
    Row("anndata 0.10", "3.11", ("anndata<0.11", "pandas<3", "numpy<2", "arviz<1", SCIPY, ZARR)),
    Row("anndata 0.11", "3.11", ("anndata<0.12", "pandas<3", "arviz<1", SCIPY, ZARR)),
    Row("ArviZ 0.x", "3.12", ("arviz<1", "pandas<3")),
)


def lowest() -> list[str]:
    """Return every main dependency at its declared lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = []
    for text in project["dependencies"]:
        requirement = Requirement(text)
        (bound,) = [each.version for each in requirement.specifier if each.operator == ">="]
        pins.append(f"{requirement.name}=={bound}")
    return pins


def interpreter(version: str) -> str:
    """Return the path of an installed Python.

    Raises
    ------
    SystemExit
        If there is none of this version.
    """
    pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    found = str(pyenv[-1]) if pyenv else shutil.which(f"python{version}")
    if not found:
        raise SystemExit(f"Python {version} is not installed")
    return found


def install(row: Row, out: Path, torch: str | None) -> Path:
    """Make a row's environment, if it is not there, and return its Python."""
    folder = out / re.sub(r"[^\w.]+", "_", row.name)
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.exists():
        return python
    pins = [*row.bounds, *(lowest() if row.lowest else [torch] if torch else [])]
    bounds = out / f"{folder.name}.txt"
    bounds.write_text("\n".join(pins) + "\n")
    with open(out / f"{folder.name}.install.log", "w") as log:
        told = {"stdout": log, "stderr": log, "cwd": ROOT}
        if not python.exists():
            subprocess.run([interpreter(row.python), "-m", "venv", folder], check=True, **told)
        first = [pin for pin in pins if pin.startswith("torch==")]
        for wanted in (first, ["-c", str(bounds), "-e", f"{ROOT}[test]"]):
            if wanted:
                subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True, **told)
    ready.touch()
    return python


def run(row: Row, out: Path, torch: str | None) -> dict[str, str]:
    """Run the quick tests in a row's environment and return what came of them."""
    python = install(row, out, torch)
    told_in = out / f"{python.parents[1].name}.log"
    # Old releases warn of what newer ones have mended: only today's must be silent.
    warn = ["-o", "filterwarnings=default"] if row.bounds or row.lowest else []
    start = time.perf_counter()
    with open(told_in, "w") as log:
        tests = [python, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *warn]
        environ = os.environ | {"PYTHONPATH": ""}
        subprocess.run(tests, stdout=log, stderr=log, cwd=ROOT, env=environ)
    seconds = time.perf_counter() - start
    versions = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True
    )
    installed = dict(re.findall(r"^([\w-]+)==(\S+)$", versions.stdout, flags=re.M))
    shown = {name: installed.get(name, "-") for name in SHOWN}
    last = told_in.read_text().strip().splitlines()[-1]
    result = re.sub(r"\s+in .*|=+\s*", "", last)
    return {"row": row.name, "Python": row.python, **shown, "tests": result} | {
        "seconds": f"{seconds:.0f}"
    }


def write_table(done: pd.DataFrame) -> None:
    """Replace the table in the note, and keep what is written around it."""
    lines = [" | ".join(row) for row in [done.columns, ["-"] * done.shape[1], *done.to_numpy()]]
    body = "\n".join(f"| {line} |" for line in lines)
    text = NOTE.read_text()
    NOTE.write_text(re.sub(r"(?:^\|.*\n)+", lambda _: body + "\n", text, count=1, flags=re.M))


def main() -> None:
    """Run the rows and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the environments")
    parser.add_argument("--rows", nargs="+", default=[row.name for row in ROWS])
    parser.add_argument("--torch", help="the torch of all rows but the lowest")
    parser.add_argument("--install", action="store_true", help="only make the environments")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    table = out / "table.csv"
    for row in ROWS:
        if row.name not in arguments.rows:
            continue
        try:
            if arguments.install:
                print(install(row, out, arguments.torch), flush=True)
                continue
            result = run(row, out, arguments.torch)
        except subprocess.CalledProcessError as error:
            result = {"row": row.name, "Python": row.python, "tests": f"not installed: {error}"}
        print(result, flush=True)
        rows = [result]
        if table.exists():
            earlier = pd.read_csv(table, dtype=str)
            rows = [*earlier[earlier["row"] != row.name].to_dict("records"), result]
        pd.DataFrame(rows).to_csv(table, index=False)
    if not table.exists():
        return
    done = pd.read_csv(table, dtype=str).fillna("-").set_index("row")
    done = done.loc[[row.name for row in ROWS if row.name in done.index]].reset_index()
    if len(done) == len(ROWS):
        write_table(done)


if __name__ == "__main__":
    sys.exit(main())
