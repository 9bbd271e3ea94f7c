"""Several modalities: what each shows alone, what they share, and cells that lack one.

    python -m benchmarks.modalities truth --seeds 5 --out DIR
    python -m benchmarks.modalities citeseq pbmc_citeseq_mosaic.h5mu --seeds 3 --out DIR
    python -m benchmarks.modalities multiome snare_cortex_multiome.h5mu --seeds 1 --out DIR

``truth`` simulates a shared, an RNA-only, a protein-only and a private program
(:func:`pyro_mgvi.datasets.two_modalities`) and probes each latent for each program; with
``--shuffled``, proteins are those of another cell of the group, and nothing is shared. ``citeseq``
has four donors, one without proteins and one without RNA: the adjusted Rand index of Leiden
clusters of z (best of a grid, needs igraph) over all cells and of each donor, the donor read from z
within types, beside chance, and with ``--hide`` the correlation of the proteins of one more donor,
taken away, with what is predicted for them. ``multiome`` scores the labels in z, and times the fit.
Rows are written as they come; a run that is there is not repeated.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.species import FEW, leiden_ari, within
from pyro_mgvi import MGVI
from pyro_mgvi.analysis.metrics import kmeans_ari, probe_and_chance
from pyro_mgvi.datasets import two_modalities
from pyro_mgvi.likelihoods import NB, ZINB, Poisson

PROGRAMS = ("shared", "rna_only", "prot_only", "private")
HOLDS = {"shared": "z", "rna_only": "rna", "prot_only": "prot", "private": "t_group2"}


def truth(args: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Return what a probe reads of each program in each latent, beside ceiling and chance."""
    mdata = two_modalities(seed)
    if args.shuffled:
        rng, order = np.random.default_rng(seed), np.arange(mdata.n_obs)
        for group in ("group1", "group2"):
            mine = np.flatnonzero(mdata.obs["group"] == group)
            order[mine] = rng.permutation(mine)
        mdata.mod["prot"].X = mdata.mod["prot"].X[order]
        mdata.obs["prot_only"] = mdata.obs["prot_only"].to_numpy()[order]
    start = time.process_time()
    mgvi = MGVI.from_mudata(mdata, "group", {"rna": ZINB, "prot": NB}, seed=seed)
    mgvi.fit(mdata, progress=False)
    seconds = time.process_time() - start
    found = mgvi.latents(mdata)
    second_n = (mdata.obs["group"] == "group2").to_numpy()
    rows = []
    for program in PROGRAMS:
        state_n = mdata.obs[program].to_numpy()
        for copy in mgvi.families.copies:
            cells = np.isin(mdata.obs["group"].to_numpy(), copy.groups)
            if program == "private":
                cells &= second_n
            if not cells.any():
                continue
            scores = probe_and_chance(found[copy.key].to_numpy()[cells], state_n[cells])
            accuracy, chance = (np.nan, np.nan) if scores is None else scores
            own = HOLDS[program] == copy.key
            row = {"seed": seed, "program": program, "latent": copy.key, "own": own}
            row |= {"probe": accuracy, "chance": chance, "ceiling": mdata.uns["ceiling"][program]}
            row |= {"dims": int(mgvi.model.active.of(copy).sum()), "seconds": seconds}
            rows.append(row)
    return rows


def citeseq(args: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Return how well z holds types of donors with RNA, with proteins and with both."""
    mdata = read(args.data)
    hidden = None
    if args.hide:
        mdata, hidden = without_proteins(mdata, args.hide)
    start = time.process_time()
    mgvi = MGVI.from_mudata(mdata, "donor", {"rna": ZINB, "adt": NB}, seed=seed)
    mgvi.fit(mdata, progress=False)
    row = {"seed": seed, "hidden": args.hide, "seconds": time.process_time() - start}
    row |= _used(mgvi)
    data = mgvi.read(mdata)
    z_nk = mgvi.latents(mdata)["z"].to_numpy()
    donor_n = np.array(mgvi.schema.groups)[data.group_n]
    label_n = obs_column(mdata, "label")[data.cells]
    row["ari"] = leiden_ari(z_nk, label_n)
    for donor in mgvi.schema.groups:
        mine = donor_n == donor
        row[f"ari_{donor}"] = leiden_ari(z_nk[mine], label_n[mine])
    row["donor"], row["donor_chance"] = within(z_nk, donor_n, label_n, FEW)
    for one, other in (("p1", "p2"), ("p1", "p3"), ("p2", "p3"), ("p3", "p4")):
        pair = np.isin(donor_n, [one, other])
        accuracy, chance = within(z_nk[pair], donor_n[pair], label_n[pair], FEW)
        row |= {f"{one}_{other}": accuracy, f"{one}_{other}_chance": chance}
        row[f"label_{one}_to_{other}"] = transfer(z_nk, label_n, donor_n == one, donor_n == other)
    if hidden is not None:
        row |= predicted(mgvi, mdata, hidden)
    return [row]


def transfer(z_nk: np.ndarray, label_n: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """Return how often neighbours among one donor's cells give another's cells their label."""
    from sklearn.neighbors import KNeighborsClassifier

    learnt = KNeighborsClassifier(15).fit(z_nk[one], label_n[one])
    return float((learnt.predict(z_nk[other]) == label_n[other]).mean())


def without_proteins(mdata: Any, donor: str) -> tuple[Any, Any]:
    """Return the cells without one donor's proteins, and these."""
    adt = mdata.mod["adt"]
    mine = adt.obs["donor"] == donor
    return type(mdata)({"rna": mdata.mod["rna"], "adt": adt[~mine].copy()}), adt[mine].copy()


def correlations(x_ng: np.ndarray, share_ng: np.ndarray) -> dict[str, float]:
    """Return correlations of proteins with predicted shares: of each protein, and of all entries.

    Those of each are over cells, medians of all and of the 20 most variable.
    """
    true_ng, guess_ng = (
        np.log1p(1e4 * each / each.sum(1, keepdims=True)) for each in (x_ng, share_ng)
    )
    tell = (true_ng.std(0) > 0) & (guess_ng.std(0) > 0)
    r_g = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(true_ng.T[tell], guess_ng.T[tell])])
    variable = np.argsort(-true_ng.var(0)[tell])[:20]
    return {
        "protein_r_median": float(np.median(r_g)),
        "protein_r_overall": float(np.corrcoef(true_ng.ravel(), guess_ng.ravel())[0, 1]),
        "protein_r_top20": float(np.median(r_g[variable])),
    }


def predicted(mgvi: MGVI, mdata: Any, hidden: Any) -> dict[str, float]:
    """Return the correlations of hidden proteins with what a model predicts for them."""
    names = [f"adt:{name}" for name in hidden.var_names]
    table = mgvi.normalized_expression(mdata, genes=names, predict_absent=True)
    share_ng = table.loc[hidden.obs_names].to_numpy()
    return correlations(hidden.X.toarray().astype(float), share_ng)


def multiome(args: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Return how well z holds the types of cortex cells, and the seconds of a fit."""
    mdata = read(args.data)
    start = time.process_time()
    mgvi = MGVI.from_mudata(mdata, "batch", {"rna": ZINB, "atac": Poisson}, seed=seed)
    summary = mgvi.fit(mdata, progress=False)
    row = {"seed": seed, "seconds": time.process_time() - start, "epochs": len(mgvi.history)}
    row |= _used(mgvi)
    del summary
    label_n, found = obs_column(mdata, "label"), mgvi.latents(mdata)
    row["ari"] = leiden_ari(found["z"].to_numpy(), label_n)
    row["kmeans_ari"] = kmeans_ari(found["z"].to_numpy(), label_n, seed=seed)
    for name in ("z", "rna", "atac"):
        scores = probe_and_chance(found[name].to_numpy(), label_n)
        row[f"label_{name}"], row["label_chance"] = (np.nan, np.nan) if scores is None else scores
    batch_n = obs_column(mdata, "batch")
    row["batch"], row["batch_chance"] = within(found["z"].to_numpy(), batch_n, label_n, FEW)
    return [row]


def _used(mgvi: MGVI) -> dict[str, int]:
    return {
        f"dims_{copy.key}": int(mgvi.model.active.of(copy).sum()) for copy in mgvi.families.copies
    }


def read(path: Path) -> Any:
    """Return the cells of an h5mu file."""
    import mudata

    return mudata.read_h5mu(path)


def obs_column(mdata: Any, key: str) -> np.ndarray:
    """Return a column of the modalities' tables, for all cells."""
    whole = pd.Series(index=mdata.obs_names, dtype=object)
    for part in mdata.mod.values():
        whole.loc[part.obs_names] = part.obs[key].astype(str).to_numpy()
    return whole.to_numpy(str)


def main() -> None:
    """Run what is asked for, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["truth", "citeseq", "multiome"])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shuffled", action="store_true")
    parser.add_argument("--hide", help="a donor whose proteins are taken away")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    args.out.mkdir(parents=True, exist_ok=True)
    run = {"truth": truth, "citeseq": citeseq, "multiome": multiome}[args.what]
    name = "_".join(map(str, filter(None, [args.what, args.shuffled and "shuffled", args.hide])))
    tables = []
    for seed in range(args.seeds):
        file = args.out / f"{name}_{seed}.csv"
        if not file.exists():
            pd.DataFrame(run(args, seed)).to_csv(file, index=False)
        tables.append(pd.read_csv(file))
    table = pd.concat(tables)
    if args.what == "truth":
        keys = ["program", "latent"]
        print(table.groupby(keys)[["probe", "chance", "ceiling", "dims"]].mean().round(3))
        print(table.groupby(keys)["probe"].agg(["min", "max"]).round(3))
    else:
        print(table.T.round(3).to_string())


if __name__ == "__main__":
    main()
