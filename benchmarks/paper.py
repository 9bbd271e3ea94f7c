"""The paper's benchmark (section 5): simulate, train every method, score, draw figures 2 to 4.

    python -m benchmarks.paper --recipe clear --seeds 5 --jobs 2 --out DIR
    python -m benchmarks.paper --data splatter.h5ad --methods GMDF MGFA --seeds 3 --out DIR

One dataset, and ``--seeds`` trainings of each method on it, as in the paper. Each training leaves
its latents and scores in ``DIR/runs``; with ``--resume`` only what is missing is run. Results:
``figure3.csv``, ``figure4.csv``, ``table.md``, ``figure2.png``, ``figure3.png``, ``figure4.png``.
A dataset that was simulated elsewhere has ``obs["celltype"]``, ``["group"]`` and ``["program"]``,
``var["is_program"]`` and the true factors ``var["DEFacP1"]``, ...
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from benchmarks.paper_figures import figure2, figure3, figure4, genes_markdown, markdown
from benchmarks.paper_scores import (
    EXTRA,
    RANKINGS,
    agreement,
    flatten,
    recovery,
    references,
    scores,
)
from benchmarks.recipes import RECIPES
from pyro_mgvi import GroupedCounts, SettingsError
from pyro_mgvi.baselines import METHODS, method

SMALL = {"n_cells": 300, "n_shared_genes": 200, "n_program_genes": 60}
DRAWN = ("MGVI (defaults)", "MGVI")  # whose latents and genes are drawn (figures 2 and 4)
NULL = ("private -> type, ", "private -> program, ", "program ARI, ", "active private units, ")


class Task(NamedTuple):
    """One training: of a method, with a seed, on the data or with their groups shuffled."""

    method: str
    seed: int
    shuffled: bool = False

    @property
    def file(self) -> str:
        """Name of the files in ``runs``, without ending."""
        name = "".join(x if x.isalnum() or x in "+-" else "_" for x in self.method)
        return f"{name}.{self.seed}" + ".null" * self.shuffled


def run(task: Task, out: Path, epochs: int, rankings: list[str]) -> None:
    """Train, score and write the results; the scores come last and mark the task as done."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        adata = ad.read_h5ad(out / "data.h5ad")
        if task.shuffled:
            rng = np.random.default_rng(task.seed)
            adata.obs["group"] = rng.permutation(adata.obs["group"].to_numpy())
        start = time.perf_counter(), time.process_time()
        data = GroupedCounts.from_anndata(adata, "group")
        fitted = method(task.method).train(data, task.seed, max_epochs=epochs)
        seconds = {"seconds": time.perf_counter() - start[0]}
        seconds["CPU seconds"] = time.process_time() - start[1]  # what counts on a shared machine
        found = scores(adata, fitted.means, fitted.draws) | seconds
        if task.shuffled:
            found = {f"null: {k}": v for k, v in found.items() if k.startswith(NULL)}
        genes = [] if task.shuffled else recovery(adata, fitted, rankings)
    np.savez_compressed(out / "runs" / f"{task.file}.npz", **flatten(fitted.means))
    done = {**task._asdict(), "scores": found, "genes": genes}
    partial = out / "runs" / f"{task.file}.partial"
    partial.write_text(json.dumps(done, default=float))
    os.replace(partial, out / "runs" / f"{task.file}.json")


def prepare(out: Path, settings: dict, resume: bool) -> ad.AnnData:
    """Make the folder, or check that it is one of this run; return the data."""
    record = out / "settings.json"
    if out.exists() and any(out.iterdir()):
        if not record.exists():
            raise SettingsError(f"{out} holds files of something else: choose another --out")
        if not resume:
            raise SettingsError(f"{out} holds a run: go on with --resume, or choose another --out")
        theirs = json.loads(record.read_text())
        differ = [f"{k} {theirs.get(k)!r}" for k in settings if settings[k] != theirs.get(k)]
        if differ:
            raise SettingsError(
                f"{out} holds a run with other settings ({', '.join(differ)}): use the same ones, "
                "or choose another --out"
            )
    (out / "runs").mkdir(parents=True, exist_ok=True)
    if not (out / "data.h5ad").exists():
        if settings["data"]:
            adata = ad.read_h5ad(settings["data"])
        else:
            sizes = SMALL if settings["quick"] else {}
            adata = RECIPES[settings["recipe"]](settings["data_seed"], **sizes)
        adata.write_h5ad(out / "data.partial", compression="gzip")
        os.replace(out / "data.partial", out / "data.h5ad")
    if not record.exists():
        origin = {"command": " ".join(sys.argv), "commit": _commit()}
        record.write_text(json.dumps(settings | origin, indent=1))
    return ad.read_h5ad(out / "data.h5ad")


def _commit() -> str:
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"


def work(tasks: list[Task], jobs: int, *arguments) -> None:
    """Run the tasks, ``jobs`` at a time with one thread each: small models gain nothing by more."""
    bar = tqdm(total=len(tasks), unit="fit", desc="benchmark")
    if jobs == 1:
        for task in tasks:
            bar.set_postfix_str(task.file)
            run(task, *arguments)
            bar.update()
    elif tasks:
        os.environ["OMP_NUM_THREADS"] = "1"
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=spawn) as pool:
            futures = {pool.submit(run, task, *arguments): task for task in tasks}
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.set_postfix_str(futures[future].file)
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    bar.close()


def collect(adata, tasks: list[Task], out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tidy tables of figures 3 and 4 from what the tasks have written."""
    ceiling, chance = references(adata)
    rows = [
        {"method": name, "seed": -1, "metric": metric, "value": value}
        for name, values in (("ceiling", ceiling), ("chance", chance))
        for metric, value in values.items()
    ]
    genes = []
    for name in dict.fromkeys(task.method for task in tasks):
        mine = [task for task in tasks if task.method == name]
        for task in mine:
            done = json.loads((out / "runs" / f"{task.file}.json").read_text())
            key = {"method": name, "seed": task.seed}
            rows += [key | {"metric": k, "value": v} for k, v in done["scores"].items()]
            genes += [key | row for row in done["genes"]]
        latents = {
            task.seed: dict(np.load(out / "runs" / f"{task.file}.npz"))
            for task in mine
            if not task.shuffled
        }
        rows += [{"method": name} | row for row in agreement(latents)]
    return pd.DataFrame(rows), pd.DataFrame(genes)


def report(adata, tasks: list[Task], out: Path, title: str) -> None:
    """Write the tables and draw the figures."""
    scored, genes = collect(adata, tasks, out)
    scored.to_csv(out / "figure3.csv", index=False)
    text = f"## {title}\n\n{markdown(scored)}"
    if len(genes):
        text += f"\n{genes_markdown(genes)}"
    (out / "table.md").write_text(text)
    print(text)
    shown = min(tasks, key=lambda task: (task.shuffled, task.method not in DRAWN, task.seed))
    latents = dict(np.load(out / "runs" / f"{shown.file}.npz"))
    figures = {
        "figure2": figure2(adata, latents, f"{shown.method}, {title}"),
        "figure3": figure3(scored, f"{title}: mean and standard error over seeds"),
    }
    if len(genes):
        genes.to_csv(out / "figure4.csv", index=False)
        chosen = genes.method.isin(DRAWN)
        drawn = genes[chosen] if chosen.any() else genes
        figures["figure4"] = figure4(drawn, f"genes with an effect of the group, {title}")
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=130)


def main(arguments: list[str] | None = None) -> None:
    """Run what is not there yet, then write tables and figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--recipe", choices=RECIPES, default="clear")
    source.add_argument("--data", metavar="H5AD", help="simulated cells instead of a recipe's")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, help="trainings of each method (5; 2 with --quick)")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="METHOD")
    parser.add_argument("--epochs", type=int, help="of deep methods (60; 3 with --quick)")
    parser.add_argument("--rankings", nargs="*", choices=RANKINGS, default=list(RANKINGS))
    parser.add_argument("--null-seeds", type=int, default=1, help="trainings on shuffled groups")
    parser.add_argument("--data-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    parser.add_argument("--quick", action="store_true", help="tiny data and few epochs")
    parser.add_argument("--resume", action="store_true", help="go on with what --out holds")
    options = parser.parse_args(arguments)
    seeds = options.seeds or (2 if options.quick else 5)
    epochs = options.epochs or (3 if options.quick else 60)
    try:
        check(options)
        settings = {key: getattr(options, key) for key in ("recipe", "data", "data_seed", "quick")}
        adata = prepare(options.out, settings | {"epochs": epochs}, options.resume)
    except SettingsError as error:
        parser.error(str(error))
    # Seeds first, so that an interrupted run has something of every method.
    tasks = [Task(name, seed) for seed in range(seeds) for name in options.methods]
    tasks += [Task(m, s, True) for s in range(options.null_seeds) for m in options.methods]
    missing = [t for t in tasks if not (options.out / "runs" / f"{t.file}.json").exists()]
    work(missing, options.jobs, options.out, epochs, options.rankings)
    title = Path(options.data).stem if options.data else f"{options.recipe} recipe"
    report(adata, tasks, options.out, title)


def check(options) -> None:
    """Refuse unknown methods, numbers out of range, and what needs an extra that is absent."""
    needed = {EXTRA[name] for name in options.rankings if name in EXTRA}
    for name in options.methods:
        needed |= set(method(name).needs)
    absent = sorted(package for package in needed if find_spec(package) is None)
    if absent:
        raise SettingsError(
            f'{", ".join(absent)} missing: pip install "pyro-mgvi[benchmark]", or leave out the '
            "--methods and --rankings that need them"
        )
    if options.data and not Path(options.data).is_file():
        raise SettingsError(f"--data: there is no file {options.data}")
    for name in ("seeds", "epochs", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise SettingsError(f"--{name} must be at least 1, not {value}")


if __name__ == "__main__":
    main()
