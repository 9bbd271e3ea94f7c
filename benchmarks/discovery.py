"""Discovery: the right subset of groups for each program, none where there is no program.

    python -m benchmarks.discovery --draws 10 --out DIR
    python -m benchmarks.discovery --draws 2 --fits --out DIR

Simulated cells of eight groups (or of ``--groups``) with shared types, a shift of each group, and
programs that random subsets of one to all groups share, two states of each; and the same cells
without programs. A program is detectable if a probe of the score that knows its true factors tells
its states apart with a balanced accuracy of 0.8. It is matched with the discovered program whose
loadings are most like the true ones (correlation of 0.3 or more; those of two programs have none);
its subset is right if just its groups are called. That of a program of all groups is right, too, if
no group is called: the shared latent has learnt it then. A membership is false if a group is called
that has not got the program, or of a program that is like none and not of all groups.
With ``--fits``, the model with the discovered latents is fitted, too, beside the default one: how
long that takes, and what probes of each program say. What is there already is not run again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse

from pyro_mgvi import MGVI, Discovery, discover
from pyro_mgvi.analysis.metrics import probe
from pyro_mgvi.datasets.simulate import SplatParams, grouped

DETECTABLE = 0.8  # of a probe's balanced accuracy
ALIKE = 0.3  # correlation of loadings


def simulated(
    seed: int, n_groups: int, n_programs: int, n_cells: int, sizes: tuple[int, int]
) -> tuple[ad.AnnData, list[tuple[str, ...]]]:
    """Return cells, and the groups that have each program."""
    rng = np.random.default_rng([seed, 17])
    groups, owners = [f"g{i + 1}" for i in range(n_groups)], []
    while len(owners) < n_programs:
        size = rng.integers(1, n_groups + 1)
        subset = tuple(sorted(rng.choice(groups, size, replace=False)))
        if subset not in owners:
            owners.append(subset)
    # All genes of a cell have one depth: that of a block alone would be one more shared program.
    program = SplatParams(lib_loc=7.0, lib_scale=1e-3, de_prob=0.4, de_fac_loc=0.2)
    parts = (SplatParams(lib_loc=10.0), program, n_cells, *sizes)
    return grouped(seed, *parts, n_programs=1, groups=groups, pairs=owners), owners


def truth(adata: ad.AnnData, owners: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, float]:
    """Return a program's log factors, its state in each cell, and how well these can be told."""
    kind = f"pair_{'+'.join(owners)}"
    state_n = adata.obs[kind].astype(str).to_numpy()
    one_g, two_g = (np.log(adata.var[f"DEFac{kind}_{i}"].to_numpy(float)) for i in (1, 2))
    mine, genes = state_n != "none", (adata.var["kind"] == kind).to_numpy()
    x = sparse.csr_matrix(adata.X)[mine][:, genes].toarray()
    score = x / np.maximum(x.sum(1, keepdims=True), 1) @ (one_g - two_g)[genes]
    return (one_g - two_g) * genes, state_n, probe(score[:, None], state_n[mine])


def called(found: Discovery) -> dict[int, frozenset[str]]:
    """Return the groups that are called, of each program of some groups and of all."""
    n_groups = found.table["group"].nunique()
    specific = {p for p, (owners, _) in found.programs.items() if len(owners) < n_groups}
    rows = found.table[found.table["verdict"] == "varies"]
    whole = rows.groupby("program")["group"].transform("size") == n_groups
    rows = rows[rows["program"].isin(specific) | whole]
    return {int(p): frozenset(part["group"]) for p, part in rows.groupby("program")}


def scores(
    adata: ad.AnnData, owners: list[tuple[str, ...]], found: Discovery
) -> list[dict[str, object]]:
    """Return a row for each true program, and for each discovered one that is like none."""
    groups_of, n_groups = called(found), adata.obs["group"].nunique()
    loadings = {p: each.loading_g.numpy() for p, (_, each) in found.programs.items()}
    rows: list[dict[str, object]] = []
    matched = set()
    for subset in owners:
        true_g, _, ceiling = truth(adata, subset)
        alike = {p: abs(cosine(loading_g, true_g)) for p, loading_g in loadings.items()}
        likes = [p for p, value in alike.items() if value >= ALIKE]
        best = max(likes, key=lambda p: alike[p], default=None)
        matched |= set(likes)
        groups = frozenset() if best is None else groups_of.get(best, frozenset())
        unclaimed = len(subset) == n_groups and not groups  # learnt as shared before the search
        rows.append(
            {
                "truth": "+".join(subset),
                "called": "+".join(sorted(groups)),
                "ceiling": ceiling,
                "alike": max(alike.values(), default=0.0),
                "right": groups == set(subset) or unclaimed,
                "n_called": len(groups),
                "n_false": len(groups - set(subset)),
            }
        )
    for p, groups in groups_of.items():
        if p not in matched and len(groups) < n_groups:
            row = {"truth": "", "called": "+".join(sorted(groups)), "n_called": len(groups)}
            rows.append(row | {"n_false": len(groups)})
    return rows or [{"truth": "", "called": "", "n_called": 0, "n_false": 0}]


def cosine(one_g: np.ndarray, other_g: np.ndarray) -> float:
    """Return the correlation of two loadings about zero."""
    return float(one_g @ other_g / max(np.linalg.norm(one_g) * np.linalg.norm(other_g), 1e-12))


def probes(adata: ad.AnnData, owners: list[tuple[str, ...]], mgvi: MGVI) -> list[dict[str, object]]:
    """Return how well each latent tells the states of each program apart."""
    latents, rows = mgvi.latents(adata), []
    for subset in owners:
        _, state_n, ceiling = truth(adata, subset)
        for copy in mgvi.families.copies:
            if not copy.shared and set(copy.groups) != set(subset):
                continue
            value_nd = latents[copy.key].to_numpy()
            cells = (state_n != "none") & np.isfinite(value_nd).all(1)
            accuracy = probe(value_nd[cells], state_n[cells])
            row = {"truth": "+".join(subset), "latent": copy.key, "shared": copy.shared}
            rows.append(row | {"accuracy": accuracy, "ceiling": ceiling})
    return rows


def main() -> None:
    """Run what is not there yet, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="seed of the first draw")
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--programs", type=int, default=8)
    parser.add_argument("--cells", type=int, default=3200)
    parser.add_argument("--genes", type=int, nargs=2, default=[600, 60], help="types, programs")
    parser.add_argument(
        "--kinds", nargs="+", choices=("programs", "null"), default=["programs", "null"]
    )
    parser.add_argument("--fits", action="store_true", help="fit the models, too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("discovery"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    sizes = tuple(arguments.genes)
    for seed in range(arguments.first, arguments.first + arguments.draws):
        for kind in arguments.kinds:
            path = arguments.out / f"{kind}-{seed}.csv"
            fits = arguments.out / f"fits-{seed}.csv"
            wants_fit = arguments.fits and kind == "programs" and not fits.exists()
            if path.exists() and not wants_fit:
                continue
            n_programs = arguments.programs if kind == "programs" else 0
            adata, owners = simulated(seed, arguments.groups, n_programs, arguments.cells, sizes)
            start = time.process_time()
            found = discover(MGVI.from_anndata(adata, "group", seed=seed), adata, progress=False)
            seconds = time.process_time() - start
            table = pd.DataFrame(scores(adata, owners, found))
            table.assign(kind=kind, seed=seed, seconds=seconds).to_csv(path, index=False)
            if wants_fit:
                fitted(adata, owners, found, seed, seconds).to_csv(fits, index=False)
    print(summary(arguments.out))


def fitted(
    adata: ad.AnnData,
    owners: list[tuple[str, ...]],
    found: Discovery,
    seed: int,
    seconds: float,
) -> pd.DataFrame:
    """Return probes of the model with the discovered latents and of the default one."""
    tables = []
    for name, more in {"discovered": {"latents": found}, "default": {}}.items():
        start = time.process_time()
        mgvi = MGVI.from_anndata(adata, "group", seed=seed, **more)
        mgvi.fit(adata, progress=False)
        spent = time.process_time() - start + (seconds if more else 0.0)
        table = pd.DataFrame(probes(adata, owners, mgvi))
        tables.append(table.assign(model=name, seed=seed, seconds=spent))
    return pd.concat(tables)


def summary(folder: Path) -> str:
    """Return the shares of right subsets and of false memberships, and the seconds."""
    as_written = {"keep_default_na": False, "na_values": [""]}  # "null" is a kind, and no number
    read = [pd.read_csv(path, **as_written) for path in sorted(folder.glob("*-*.csv"))]
    draws = pd.concat([table for table in read if "kind" in table])
    rows = {}
    for kind, table in draws.groupby("kind"):
        true = table[table["truth"].notna()]
        clear = true[true["ceiling"] >= DETECTABLE] if len(true) else true
        rows[kind] = {
            "draws": table["seed"].nunique(),
            "detectable programs": len(clear),
            "right subset": clear["right"].astype(float).mean() if len(clear) else np.nan,
            "memberships called": table["n_called"].sum(),
            "false memberships": table["n_false"].sum(),
            "programs like none": int((table["truth"].isna() & (table["n_called"] > 0)).sum()),
            "seconds of CPU": table.groupby("seed")["seconds"].first().mean(),
        }
    text = pd.DataFrame(rows).T.round(3).to_string()
    fits = [table for table in read if "model" in table]
    if fits:
        table = pd.concat(fits)
        by = table.groupby(["model", "shared"])[["accuracy", "ceiling"]].mean()
        text += "\n\n" + by.round(3).to_string()
        text += "\n\n" + table.groupby("model")["seconds"].mean().round(1).to_string()
    return text


if __name__ == "__main__":
    main()
