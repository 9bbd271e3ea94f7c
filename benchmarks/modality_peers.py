"""Several modalities by other methods: totalVI, MultiVI and MOFA-FLEX beside ours.

    python -m benchmarks.modality_peers citeseq pbmc_citeseq_mosaic.h5mu --seeds 3 --out DIR
    python -m benchmarks.modality_peers multiome snare_cortex_multiome.h5mu --seeds 3 --out DIR

Each method has its authors' defaults, donors or batches as its batches (MOFA-FLEX: as its groups),
and as many dimensions as it has by default. Of the mosaic, totalVI takes the cells with RNA alone;
one more donor's proteins are hidden (``--hide``) and predicted. Scores, of all cells that a method
takes: the best adjusted Rand index of Leiden clusters over a grid (needs igraph), and the donor
read from z within types beside chance; those of methods that take all cells also of the cells with
RNA. Seconds are of the processor, of fit and latents. What is not installed
(scvi-tools; mofaflex with pyarrow) is a row that says so. Rows are written as they come; a
run that is there is not repeated.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scipy import sparse

from benchmarks.modalities import correlations, obs_column, read, transfer, without_proteins
from benchmarks.species import FEW, leiden_ari, within
from pyro_mgvi import MGVI
from pyro_mgvi.analysis.metrics import probe_and_chance
from pyro_mgvi.likelihoods import NB, ZINB, Poisson


class Task(NamedTuple):
    """What a file's modalities are called, and the column of its groups."""

    second: str
    likelihood: type
    group: str


TASKS = {"citeseq": Task("adt", NB, "donor"), "multiome": Task("atac", Poisson, "batch")}


class Found(NamedTuple):
    """A latent of some cells, and shares of proteins that are predicted for all of them."""

    cells: pd.Index
    z_nk: np.ndarray
    proteins: pd.DataFrame | None = None


def whole(mdata: Any, task: Task, need: str | None = None) -> Any:
    """Return the same cells in each modality, with zeros where they lack one."""
    names = mdata.obs_names if need is None else mdata.mod[need].obs_names
    group = pd.Series(obs_column(mdata, task.group), index=mdata.obs_names).loc[names]
    parts = {}
    for name, part in mdata.mod.items():
        row_m = pd.Index(part.obs_names).get_indexer(names)
        here = np.flatnonzero(row_m >= 0)
        spread = sparse.csr_matrix(
            (np.ones(len(here)), (here, row_m[here])), shape=(len(names), part.n_obs)
        )
        x = sparse.csr_matrix(spread @ part.X).astype(np.float32)
        var = pd.DataFrame(index=part.var_names)
        parts[name] = AnnData(x, pd.DataFrame({"group": pd.Categorical(group)}, names), var)
    return type(mdata)(parts)


def ours(mdata: Any, task: Task, seed: int) -> Found:
    """Fit this package's model with its defaults."""
    likelihoods = {"rna": ZINB, task.second: task.likelihood}
    mgvi = MGVI.from_mudata(mdata, task.group, likelihoods, seed=seed)
    mgvi.fit(mdata, progress=False)
    z = mgvi.latents(mdata)["z"]
    if task.second != "adt":
        return Found(z.index, z.to_numpy())
    names = [f"adt:{name}" for name in mdata.mod["adt"].var_names]
    table = mgvi.normalized_expression(mdata, genes=names, predict_absent=True)
    return Found(z.index, z.to_numpy(), table)


def totalvi(mdata: Any, task: Task, seed: int) -> Found:
    """Fit totalVI to the cells that have RNA; proteins that a donor lacks are missing to it."""
    import scvi

    if task.second != "adt":
        raise ImportError("totalVI is for proteins")
    scvi.settings.seed = seed
    same = whole(mdata, task, need="rna")
    adata = same.mod["rna"]
    adata.obsm["adt"] = same.mod["adt"].to_df()
    scvi.model.TOTALVI.setup_anndata(adata, "adt", batch_key="group")
    model = scvi.model.TOTALVI(adata)
    model.train(accelerator="cpu", enable_progress_bar=False)
    measured = adata.obsm["adt"].groupby(adata.obs["group"], observed=True).sum().sum(axis=1)
    _, protein = model.get_normalized_expression(
        transform_batch=[*measured.index[measured > 0]],
        n_samples=5,
        include_protein_background=True,
    )
    return Found(adata.obs_names, model.get_latent_representation(), protein)


def multivi(mdata: Any, task: Task, seed: int) -> Found:
    """Fit MultiVI; a cell whose modality is all zeros lacks it."""
    import scvi

    scvi.settings.seed = seed
    same = whole(mdata, task)
    layer = {"adt": "protein_layer", "atac": "atac_layer"}[task.second]
    names = {"rna_layer": "rna", layer: task.second, "batch_key": "rna"}
    scvi.model.MULTIVI.setup_mudata(same, batch_key="group", modalities=names)
    model = scvi.model.MULTIVI(same)
    model.train(accelerator="cpu", enable_progress_bar=False)
    return Found(same.obs_names, model.get_latent_representation())


def mofaflex(mdata: Any, task: Task, seed: int) -> Found:
    """Fit MOFA-FLEX, 15 factors of logarithms of shares, with groups whose factors are aligned."""
    import mofaflex
    import mudata

    parts = {}
    for name, part in mdata.mod.items():
        share = part.X.toarray() / part.X.sum(1)
        logs = np.log1p(1e4 * np.asarray(share)).astype(np.float32)
        parts[name] = AnnData(logs, obs=part.obs, var=pd.DataFrame(index=part.var_names))
    logs = mudata.MuData(parts)
    logs.obs["group"] = pd.Categorical(obs_column(mdata, task.group))
    model = mofaflex.MOFAFLEX(
        logs,
        mofaflex.DataOptions(group_by="group", subset_var=None, plot_data_overview=False),
        mofaflex.ModelOptions(n_factors=15, likelihoods="Normal"),
        mofaflex.TrainingOptions(device="cpu", seed=seed, save_path=False),
    )
    z = pd.concat([*model.get_factors().values()])
    return Found(z.index, z.to_numpy())


METHODS: dict[str, Callable[[Any, Task, int], Found]] = {
    "ours": ours,
    "totalVI": totalvi,
    "MultiVI": multivi,
    "MOFA-FLEX": mofaflex,
}


def scores(mdata: Any, task: Task, found: Found, cells: pd.Index) -> dict[str, float]:
    """Return how well a latent of some cells holds types, and how little their group."""
    row = pd.Index(found.cells).get_indexer(cells)
    z_nk = found.z_nk[row]
    at = pd.Index(mdata.obs_names).get_indexer(cells)
    label_n, group_n = (obs_column(mdata, key)[at] for key in ("label", task.group))
    group, chance = within(z_nk, group_n, label_n, FEW)
    label = probe_and_chance(z_nk, label_n)
    result = {"cells": len(cells), "ari": leiden_ari(z_nk, label_n)}
    result |= {"label": np.nan if label is None else label[0]}
    result |= {"group": group, "group_chance": chance}
    names = set(group_n)
    for one, other in (("p1", "p2"), ("p1", "p3"), ("p3", "p4")):
        if {one, other} <= names:
            told = transfer(z_nk, label_n, group_n == one, group_n == other)
            result[f"label_{one}_to_{other}"] = told
    return result


def run(what: str, mdata: Any, method: str, seed: int, hide: str) -> list[dict[str, Any]]:
    """Return a method's scores on all cells that it takes, and on those that have RNA."""
    task, row = TASKS[what], {"method": method, "seed": seed}
    hidden = None
    if what == "citeseq":
        mdata, hidden = without_proteins(mdata, hide)
    start = time.process_time()
    try:
        found = METHODS[method](mdata, task, seed)
    except ImportError as error:
        return [row | {"said": str(error)}]
    row["seconds"] = time.process_time() - start
    with_rna = mdata.mod["rna"].obs_names
    kinds = {"all": pd.Index(found.cells)}
    if len(with_rna) < len(kinds["all"]):
        kinds["with RNA"] = with_rna
    rows = [row | {"of": of} | scores(mdata, task, found, cells) for of, cells in kinds.items()]
    if hidden is not None and found.proteins is not None:
        share_ng = found.proteins.loc[hidden.obs_names].to_numpy()
        rows[0] |= correlations(hidden.X.toarray().astype(float), share_ng)
    return rows


def main() -> None:
    """Run what is asked for, and print the means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=[*TASKS])
    parser.add_argument("data", type=Path)
    parser.add_argument("--methods", nargs="+", choices=[*METHODS], default=[*METHODS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hide", default="p3", help="a donor whose proteins are hidden")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    args.out.mkdir(parents=True, exist_ok=True)
    mdata, tables = read(args.data), []
    for method in args.methods:
        for seed in range(args.seeds):
            file = args.out / f"{args.what}_{method}_{seed}.csv"
            if not file.exists():
                rows = run(args.what, mdata, method, seed, args.hide)
                pd.DataFrame(rows).to_csv(file, index=False)
                print(pd.DataFrame(rows).round(3).T.to_string(), flush=True)
            tables.append(pd.read_csv(file))
    table = pd.concat(tables)
    means = table.groupby(["method", "of"], dropna=False).mean(numeric_only=True)
    print(means.round(3).T.to_string())


if __name__ == "__main__":
    main()
