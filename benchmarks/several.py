"""Whether two fits with different seeds say the same: single trainings, and several at once.

    python -m benchmarks.several --folder DATA --data "Kang, interferon" --seeds 2 --out DIR

For each set and number of trainings, fits with several seeds; for each pair of them and each
latent, the linear CKA (1 where both are empty, 0 where one is) and the mean share of a dimension's
variance that the other fit recovers. Beside them stand the held-out loss, how many dimensions are
in use, and how well labels are read from the private latents. Fits are kept, and not repeated.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch

from benchmarks.peers.sets import SETS, read
from pyro_mgvi import MGVI
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import (
    active_units,
    in_use,
    kmeans_ari,
    linear_cka,
    probe_and_chance,
    recovered,
)


def cells_of(name: str, folder: Path, most: int) -> ad.AnnData:
    """Return a set, of at most so many cells, drawn once."""
    adata = read(name, folder)
    chosen = np.random.default_rng(0).permutation(adata.n_obs)[:most]
    return adata[np.sort(chosen)].copy()


def fit(adata: ad.AnnData, n_trainings: int, seed: int) -> tuple[dict[str, np.ndarray], dict]:
    """Return the latents and the scores of a fit."""
    start = time.perf_counter()
    mgvi = MGVI.from_anndata(adata, "group", seed=seed)
    mgvi.fit(adata, n_trainings=n_trainings, progress=False)
    seconds = time.perf_counter() - start
    found = latent_values(mgvi, mgvi.read(adata))
    label = adata.obs["label"].to_numpy(str)
    scores = {
        "seconds": seconds,
        "loss": mgvi.history.loc[mgvi.history["kept"], "validation"].item(),
        "label ARI of z": kmeans_ari(found["z"], label),
    }
    for key, latent in found.items():
        scores[f"in use, {key}"] = active_units(latent, 0.0)
        reached = probe_and_chance(latent, label)
        if key != "z" and reached is not None:
            scores[f"label from {key}"] = reached[0]
    return found, scores


def same(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Return how far two fits of a latent agree."""
    own = np.isfinite(first).all(1)
    x, y = first[own], second[own]
    used = [bool(in_use(each).any()) for each in (x, y)]
    if not all(used):
        return {"cka": float(not any(used)), "recovered": float(not any(used))}
    shares = [np.nanmean(recovered(x, y)), np.nanmean(recovered(y, x))]
    return {"cka": linear_cka(x, y), "recovered": float(np.mean(shares))}


def main() -> None:
    """Run what is not there yet, then print means and worst pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="of the sets' files")
    parser.add_argument("--data", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--trainings", nargs="+", type=int, default=[1, 3])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cells", type=int, default=3500, help="at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("several"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "several.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    pairs = []
    for data in arguments.data:
        adata = cells_of(data, arguments.folder, arguments.cells)
        for n_trainings in arguments.trainings:
            fits = []
            for seed in range(arguments.seeds):
                kept = arguments.out / f"{data}-{n_trainings}-{seed}.npz"
                if not kept.exists():
                    found, scores = fit(adata, n_trainings, seed)
                    key = {"dataset": data, "trainings": n_trainings, "seed": seed}
                    rows += [key | {"score": k, "value": v} for k, v in scores.items()]
                    pd.DataFrame(rows).to_csv(path, index=False)
                    np.savez(kept, **found)
                fits.append(dict(np.load(kept)))
            for first, second in combinations(fits, 2):
                for latent in first:
                    key = {"dataset": data, "latent": latent, "trainings": n_trainings}
                    pairs.append(key | same(first[latent], second[latent]))
    table = pd.DataFrame(rows).pivot_table(
        index=["dataset", "score"], columns="trainings", values="value", sort=False
    )
    print(table.to_string(float_format="{:.3f}".format))
    agreement = pd.DataFrame(pairs).groupby(["dataset", "latent", "trainings"], sort=False)
    print(agreement.agg(["mean", "min"]).to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
