"""Are donors in the latents? With and without effects of samples in the model.

    python -m benchmarks.sample_effects cells PIG.h5ad --sample sample --seeds 2
    python -m benchmarks.sample_effects halves ONEK1K.h5ad --donors 12 --seeds 2
    python -m benchmarks.sample_effects simulated --seeds 2

``cells`` takes the groups of ``obs["group"]`` and the types of ``obs["label"]``; ``halves`` draws
donors and halves them at random. ``simulated`` gives Splat's cells (``clear_recipe``, 1500 of them)
four donors in each group, whose genes are thinned by effects of a given size. Printed are the
validation loss (nats per cell); how well the type is read from z; how often a donor is guessed
within a type from z, and from the group's own latent, relative to chance (1 where donors are not in
it); and the dimensions in use.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from benchmarks.donors.cells import thinned_by_donors
from benchmarks.donors.rows import expressed
from pyro_mgvi import MGVI
from pyro_mgvi.analysis.metrics.scores import probe_and_chance
from pyro_mgvi.datasets import clear_recipe

FEWEST = 100  # cells of a type, for donors to be guessed within it


def above_chance(latent_nk: np.ndarray, sample_n: np.ndarray, label_n: np.ndarray) -> float:
    """Return how often a sample is guessed within a label, relative to chance: the mean of all."""
    ratios, weights = [], []
    known_n = ~np.isnan(latent_nk).any(1)
    used = latent_nk[known_n].std(0) > 0
    if not used.any():
        return 1.0
    for label in np.unique(label_n):
        mine = known_n & (label_n == label)
        found = None
        if mine.sum() >= FEWEST:
            found = probe_and_chance(latent_nk[mine][:, used], sample_n[mine])
        if found is not None:
            ratios.append(found[0] / found[1])
            weights.append(mine.sum())
    return float(np.average(ratios, weights=weights)) if ratios else np.nan


def compared(adata: ad.AnnData, sample: str, seed: int, epochs: int | None) -> pd.DataFrame:
    """Return a row for the model without effects, and one with."""
    sample_n, label_n = (adata.obs[key].astype(str).to_numpy() for key in (sample, "label"))
    rows = {}
    for effects in (False, True):
        mgvi = MGVI.from_anndata(
            adata, "group", sample_key=sample, sample_effects=effects, seed=seed
        )
        mgvi.fit(adata, max_epochs=epochs, progress=False)
        latents = {key: value.to_numpy() for key, value in mgvi.latents(adata).items()}
        z_nk = latents.pop("z")
        kept = mgvi.history[mgvi.history["kept"]].iloc[0]
        rows["effects" if effects else "none"] = {
            "validation": round(kept["validation"], 2),
            "type in z": round(probe_and_chance(z_nk, label_n)[0], 3),
            "sample in z": round(above_chance(z_nk, sample_n, label_n), 2),
            **{
                f"sample in {key}": round(above_chance(value, sample_n, label_n), 2)
                for key, value in latents.items()
            },
            "dimensions": [int(mgvi.model.active.of(c).sum()) for c in mgvi.families.copies],
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def cells(arguments: argparse.Namespace) -> None:
    """Compare the groups that there are."""
    adata = expressed(ad.read_h5ad(arguments.data))
    for seed in range(arguments.seeds):
        print(compared(adata, arguments.sample, seed, arguments.epochs).to_string(), flush=True)


def halves(arguments: argparse.Namespace) -> None:
    """Halve some donors at random."""
    adata = ad.read_h5ad(arguments.data)
    donors = np.unique(adata.obs["donor"].astype(str))
    for seed in range(arguments.seeds):
        n = arguments.donors
        drawn = np.random.default_rng([n, seed]).permutation(donors)[:n]
        some = expressed(adata[adata.obs["donor"].isin(drawn)])
        first = some.obs["donor"].isin(drawn[: n // 2])
        some.obs["group"] = np.where(first, "first", "second")
        print(compared(some, "donor", seed, arguments.epochs).to_string(), flush=True)


def simulated(arguments: argparse.Namespace) -> None:
    """Thin each gene of each simulated donor."""
    for seed in range(arguments.seeds):
        adata = clear_recipe(seed, n_cells=1500, n_shared_genes=600, n_program_genes=150)
        rng = np.random.default_rng(seed)
        number = rng.integers(4, size=adata.n_obs)
        adata.obs["donor"] = [f"{g}.{i}" for g, i in zip(adata.obs["group"], number)]
        adata.obs["label"] = adata.obs["celltype"]
        for size in (0.0, 0.3):
            thinned = adata.copy()
            x = np.asarray(adata.X.todense(), int)
            kept = thinned_by_donors(x, adata.obs["donor"].to_numpy(), size, rng)
            thinned.X = kept.astype(np.float32)
            print(f"effects of {size}, seed {seed}")
            print(compared(thinned, "donor", seed, arguments.epochs).to_string(), flush=True)


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = parser.add_subparsers(required=True)
    for part in (cells, halves, simulated):
        add = parts.add_parser(part.__name__, help=part.__doc__)
        if part is not simulated:
            add.add_argument("data", type=Path)
        add.add_argument("--seeds", type=int, default=1)
        add.add_argument("--epochs", type=int, default=40, help="at most")
        add.set_defaults(run=part)
    parts.choices["cells"].add_argument("--sample", required=True, help="column of obs")
    parts.choices["halves"].add_argument("--donors", type=int, default=12)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
