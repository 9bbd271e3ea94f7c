"""The test across samples alone, in simulated sums of samples: no cells, and no model."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from benchmarks.donors.cells import PLANTED
from pyro_mgvi.analysis.efficient_scores import q_values
from pyro_mgvi.analysis.gene_effects.unseen import shrunk
from pyro_mgvi.analysis.sample_tests import Units, sample_scores

GENES = 490
SD = 0.3  # of the effects of samples, on the log scale
SHIFT = np.log(0.6)  # of the first genes in the second group
SPREADS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "all the same": lambda rng: np.full(GENES, SD),
    "inverse chi-square, 10 degrees": lambda rng: SD * np.sqrt(10 / rng.chisquare(10, GENES)),
    "inverse chi-square, 4 degrees": lambda rng: SD * np.sqrt(4 / rng.chisquare(4, GENES)),
    "log-normal": lambda rng: SD * rng.lognormal(0, 0.4, GENES),
    "a twentieth three times as wide": lambda rng: np.where(rng.random(GENES) < 0.05, 3 * SD, SD),
}


def units(arguments: argparse.Namespace) -> None:
    """Count calls of the test across samples, by how much their variances spread over genes."""
    rows = []
    for n in arguments.donors:
        for spread in SPREADS:
            rng = np.random.default_rng(1)
            calls = [_calls(rng, spread, n) for _ in range(arguments.datasets)]
            means = pd.DataFrame(calls).mean()
            rows.append({"donors": f"2 x {n}", "sd over genes": spread, **means.round(3)})
            pd.DataFrame(rows).to_csv(arguments.out / "units.csv", index=False)
            print(pd.Series(rows[-1]).to_string(header=False), end="\n\n", flush=True)


def simulated_units(rng: np.random.Generator, spread: str, n: int) -> Units:
    """Return sums of n samples in each of two groups that differ in nothing, in two folds."""
    typical_g = rng.lognormal(4.0, 1.5, GENES)
    information_ug = typical_g * rng.lognormal(0.0, 0.2, (2 * n, 1))
    sd_ug = np.sqrt(SPREADS[spread](rng) ** 2 + 1 / information_ug)
    own, fold = np.repeat([0.0, 1.0], n), np.tile(np.arange(n) % 2, 2)
    design_uk = np.column_stack([fold == 0, fold == 1, own]).astype(float)
    return Units(rng.normal(0.0, sd_ug) * information_ug, information_ug, design_uk)


def _calls(rng: np.random.Generator, spread: str, n: int) -> dict[str, float]:
    """Return what is called at q < 0.05 where nothing is true, and where some genes are shifted."""
    null = simulated_units(rng, spread, n)
    shift_ug = np.zeros_like(null.score_ug)
    shift_ug[n:, :PLANTED] = SHIFT
    shifted = replace(null, score_ug=null.score_ug + shift_ug * null.information_ug)
    called_g, found_g = (
        q_values(np.abs(shrunk(sample_scores(each)))) < 0.05 for each in (null, shifted)
    )  # of either sign
    return {
        "null sets with a call": float(called_g.any()),
        f"shifted genes called, of {PLANTED}": float(found_g[:PLANTED].sum()),
        "others called beside them": float(found_g[PLANTED:].sum()),
    }
