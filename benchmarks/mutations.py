"""Deliberate faults, each of which the tests should catch.

    python -m benchmarks.mutations [--only PART ...] [--jobs 2] [--mirrored]

Each mutation of mutations.toml replaces one text of the package in a copy of the checkout. Then the
quick tests that mirror the file run, the slow ones that do, and all quick ones, until one notices.
Printed is which. While a test is being written, ``--mirrored`` leaves out the last of these runs.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Mutation(NamedTuple):
    """One fault: in which file which text becomes which, and the tests that should notice."""

    what: str
    file: str
    old: str
    new: str
    tests: str


def mutations() -> list[Mutation]:
    """Return all faults."""
    found = tomllib.loads((ROOT / "benchmarks/mutations.toml").read_text(encoding="utf-8"))
    return [Mutation(**each) for each in found["mutation"]]


def run(mutation: Mutation, mirrored_only: bool = False) -> str:
    """Return by which tests a mutation was caught, or an empty text."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        ignored = shutil.ignore_patterns(".git", "__pycache__", "_build")
        shutil.copytree(ROOT, copy, ignore=ignored)
        file = copy / "pyro_mgvi" / mutation.file
        text = file.read_text(encoding="utf-8")
        if mutation.old not in text:
            return "NOT APPLIED: the text is no longer there"
        file.write_text(text.replace(mutation.old, mutation.new, 1), encoding="utf-8")
        mirrored = [f"tests/{name}" for name in mutation.tests.split()]
        # The test that every fault's text is there would catch any.
        everything = ["tests", "--ignore=tests/benchmarks/test_mutations.py"]
        rounds = [("not slow", mirrored), ("slow", mirrored), ("not slow", everything)]
        for speed, tests in rounds[:2] if mirrored_only else rounds:
            code = (
                f"import sys, pytest; sys.path.insert(0, {str(copy)!r}); "
                f"sys.exit(pytest.main(['-x', '-q', '-n0', '-m', {speed!r}, "
                f"'-p', 'no:cacheprovider', "
                f"'-W', 'ignore::pytest.PytestUnraisableExceptionWarning', *{tests!r}]))"
            )
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=copy, capture_output=True, text=True
            )
            failed = [x for x in done.stdout.splitlines() if x.startswith("FAILED")]
            if done.returncode == 1 and failed:
                return failed[0].split(" - ")[0].removeprefix("FAILED ")
            if done.returncode not in (0, 1, 5):  # 5: these files have no test of this speed
                return f"ERROR {done.stdout[-300:]}{done.stderr[-300:]}"
    return ""


def main() -> None:
    """Try all mutations, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", default=[""], help="mutations whose file or fault holds one of these"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--mirrored", action="store_true", help="only the tests that mirror a file")
    arguments = parser.parse_args()
    chosen = [
        mutation
        for mutation in mutations()
        if any(part in f"{mutation.file} {mutation.what}" for part in arguments.only)
    ]
    begin, missed = time.time(), []
    print("| fault | file | caught by |\n|---|---|---|")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for mutation, caught in zip(
            chosen, pool.map(partial(run, mirrored_only=arguments.mirrored), chosen)
        ):
            print(
                f"| {mutation.what} | `{mutation.file}` | {caught or '**nothing**'} |", flush=True
            )
            if not caught or caught.startswith(("NOT", "ERROR")):
                missed.append(mutation.what)
    print(f"\n{len(chosen) - len(missed)} of {len(chosen)} caught in {time.time() - begin:.0f} s")
    if missed:
        print("not caught:", "; ".join(missed))


if __name__ == "__main__":
    main()
