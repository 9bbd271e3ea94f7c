"""Seconds and memory where genes, groups or files are many.

    python -m benchmarks.many genes --cells 5000 --out DIR     # x 20,000 genes
    python -m benchmarks.many groups --out DIR                 # 300, a program in ten
    python -m benchmarks.many files --cells 200000 --out DIR   # four files, joined and fitted

Every stage is a process of its own, so that its peak is its own. Wall times mean something on a
machine that does nothing else; CPU seconds are given beside them.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse

from benchmarks.scale import sharded
from pyro_mgvi import MGVI, SharedTrunk
from pyro_mgvi.analysis.hidden import contrasts
from pyro_mgvi.analysis.metrics import recovered
from pyro_mgvi.cli.main import main as command
from pyro_mgvi.data.stores import on_disk
from pyro_mgvi.report import write_report
from pyro_mgvi.support.memory import peak_bytes

WITH_PROGRAM, PROGRAM_GENES, TYPES = 10, 30, 5
FILES = 4


def alone(stage: Callable[..., dict[str, Any]], **given: Any) -> dict[str, Any]:
    """Run a stage in a process of its own, and say what it took."""
    with get_context("spawn").Pool(1) as pool:
        row = pool.apply(_measured, (stage, given))
    print(json.dumps(row, default=str), flush=True)
    return row


def _measured(stage: Callable[..., dict[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    start, cpu = time.perf_counter(), time.process_time()
    found = stage(**given)
    took = {"wall, s": time.perf_counter() - start, "CPU, s": time.process_time() - cpu}
    return {"stage": stage.__name__, **took, "peak, GB": peak_bytes() / 1e9, **found}


def fitted(path: Path, model: Path, epochs: int | None) -> dict[str, Any]:
    """Fit in memory, save the model and the result."""
    cells = ad.read_h5ad(path)
    mgvi = MGVI.from_anndata(cells, "group")
    mgvi.fit(cells, max_epochs=epochs, progress=False)
    mgvi.save(model)
    mgvi.write_latents(cells, progress=False)
    cells.write_h5ad(model.with_suffix(".h5ad"))
    return {"cells": cells.n_obs, "genes": cells.n_vars, "epochs": len(mgvi.history)}


def ranked(model: Path, tenths: int) -> dict[str, Any]:
    """Rank the genes of a group, with refits and q-values.

    Each tenth of the genes takes as long and as much memory as any other: of some, the rest is not
    tested, and q-values mean nothing.
    """
    parts = contrasts.gene_parts
    contrasts.gene_parts = lambda n_genes, seed: parts(n_genes, seed)[:tenths]
    mgvi, cells = MGVI.load(model), ad.read_h5ad(model.with_suffix(".h5ad"))
    table = mgvi.rank_genes(cells, mgvi.schema.groups[0], progress=False)
    called = int((table["q_value"] < 0.1).sum()) if tenths == contrasts.GENE_FOLDS else None
    return {"tenths of the genes tested": tenths, "genes at q < 0.1": called}


def reported(model: Path) -> dict[str, Any]:
    """Write the report."""
    page = model.with_suffix(".html")
    write_report(page, ad.read_h5ad(model.with_suffix(".h5ad")), MGVI.load(model), progress=False)
    return {"page, MB": page.stat().st_size / 1e6}


def grouped(groups: int, per_group: int, genes: int, seed: int = 0) -> ad.AnnData:
    """Return cells of some types in every group, and a program within ten of the groups.

    The first genes carry the types, the last ones the program; ``obs["program"]`` is its score.
    """
    rng, n = np.random.default_rng(seed), groups * per_group
    group_n, type_n = np.repeat(np.arange(groups), per_group), rng.integers(TYPES, size=n)
    log_tg = np.zeros((TYPES, genes))
    marker = rng.random((TYPES, genes - PROGRAM_GENES)) < 0.1
    log_tg[:, : genes - PROGRAM_GENES] = marker * rng.normal(0, 1.2, marker.shape)
    score_n = np.where(group_n < WITH_PROGRAM, rng.normal(size=n), 0.0)
    log_ng = rng.normal(-0.7, 0.8, genes) + log_tg[type_n] + rng.normal(0, 0.3, (n, 1))
    log_ng += rng.normal(0, 0.15, (groups, genes))[group_n]  # what groups do to all their cells
    log_ng[:, -PROGRAM_GENES:] += 0.7 * score_n[:, None]
    counts = rng.poisson(rng.gamma(4.0, np.exp(log_ng) / 4.0))
    obs = pd.DataFrame(
        {
            "group": pd.Categorical([f"p{g:03d}" for g in group_n]),
            "type": pd.Categorical(type_n.astype(str)),
            "program": score_n,
        },
        index=[f"cell{i}" for i in range(n)],
    )
    return ad.AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs)


def many_groups(groups: int, per_group: int, genes: int, epochs: int | None) -> dict[str, Any]:
    """Fit many groups as the page on scale says, and say where the program was found."""
    cells = grouped(groups, per_group, genes)
    settings = {"encoder": SharedTrunk, "foreign_sample": 8}
    mgvi = MGVI.from_anndata(cells, "group", latents=["z:10", "t:2"], **settings)
    start = time.perf_counter()
    mgvi.fit(cells, max_epochs=epochs, progress=False)
    seconds = time.perf_counter() - start
    trained = peak_bytes()
    latents = mgvi.latents(cells, progress=False)
    has_it = (cells.obs["program"] != 0).to_numpy()
    truth_n1, z_nd = cells.obs[["program"]].to_numpy(), latents["z"].to_numpy()
    t_of = {g: latents[f"t_{g}"].to_numpy()[cells.obs["group"] == g] for g in mgvi.schema.groups}
    in_use = [bool((t_nd.var(0) > 0.01).any()) for t_nd in t_of.values()]
    start, cpu = time.perf_counter(), time.process_time()
    found = mgvi.discover(cells, progress=False).table
    discovering = time.perf_counter() - start, time.process_time() - cpu
    named = found[found["verdict"] == "varies"].groupby("program")["group"].nunique()
    with_it, without = in_use[:WITH_PROGRAM], in_use[WITH_PROGRAM:]
    return {
        "groups": groups, "cells": cells.n_obs, "genes": genes, "epochs": len(mgvi.history),
        "fit, s": seconds, "steps": len(mgvi.history) * round(0.9 * cells.n_obs / 128),
        "peak of the fit, GB": trained / 1e9,
        "its variance that z tells there": float(recovered(truth_n1[has_it], z_nd[has_it])[0]),
        "t in use, of groups with the program": f"{sum(with_it)} of {len(with_it)}",
        "t in use, of the others": f"{sum(without)} of {len(without)}",
        "discover, s and CPU s": discovering, "groups of each program": named.tolist(),
    }  # fmt: skip


def many_files(paths: list[Path], out: Path, epochs: int) -> dict[str, Any]:
    """Join files and fit them where they are, by the command."""
    on_disk.IN_MEMORY = 0.0  # of less than 1 GB, too
    options = [
        "--group-key",
        "group",
        "--file-key",
        "file",
        "--backed",
        "--quiet",
        "--rename-cells",
    ]
    done = command(["fit", *map(str, paths), *options, "--epochs", str(epochs), "--out", str(out)])
    return {"done": done == 0, "files": len(paths), "MB": out.stat().st_size / 1e6}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("genes", "groups", "files"))
    parser.add_argument("--cells", type=int, default=5000)
    parser.add_argument("--genes", type=int, help="20,000; of groups 300")
    parser.add_argument("--groups", type=int, default=300)
    parser.add_argument("--per-group", type=int, default=150)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--tenths", type=int, default=10, help="of the genes that are tested")
    parser.add_argument("--stages", nargs="+", default=["fit", "rank", "report"])
    parser.add_argument("--out", type=Path, required=True, help="folder")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = []
    if given.what == "genes":
        genes = given.genes or 20_000
        name = f"{given.cells}x{genes}"
        path, model = given.out / f"{name}.in.h5ad", given.out / f"model_{name}"
        sharded(path, given.cells, genes)
        if "fit" in given.stages:
            rows.append(alone(fitted, path=path, model=model, epochs=given.epochs))
        if "rank" in given.stages:
            rows.append(alone(ranked, model=model, tenths=given.tenths))
        if "report" in given.stages:
            rows.append(alone(reported, model=model))
    elif given.what == "groups":
        size = {"groups": given.groups, "per_group": given.per_group, "genes": given.genes or 300}
        rows.append(alone(many_groups, **size, epochs=given.epochs))
    else:
        each = given.cells // FILES
        paths = [given.out / f"file{i}_{each}.h5ad" for i in range(FILES)]
        for path in paths:
            sharded(path, each)
        out = given.out / "joined.h5ad"
        rows.append(alone(many_files, paths=paths, out=out, epochs=given.epochs or 1))
    pd.DataFrame(rows).to_csv(given.out / f"many_{given.what}.csv", index=False)


if __name__ == "__main__":
    main()
