"""Single training steps on simulated counts, and their times when they take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping

import numpy as np
import pandas as pd
import pyro
import torch
from anndata import AnnData
from scipy import sparse

from pyro_mgvi import MGVI, GroupedCounts, WassersteinTraceELBO
from pyro_mgvi.kernels.compiled import compilation
from pyro_mgvi.training.objective import Objective

Step = Callable[[], None]
WARM_UP = 2  # turns that do not count: the first ones compile


def grouped_counts(n_cells: int, genes: int, groups: int, density: float, seed: int = 0) -> AnnData:
    """Return negative binomial counts of groups, about ``density`` of them above zero."""
    rng, theta = np.random.default_rng(seed), 2.0
    mean_g = rng.lognormal(0, 1.5, genes)
    low, high = 1e-6, 1e3
    for _ in range(60):  # bisect for the scale of the means that gives the density
        scale = np.sqrt(low * high)
        above = (1 - (theta / (theta + scale * mean_g)) ** theta).mean() > density
        low, high = (low, scale) if above else (scale, high)
    blocks = []
    for start in range(0, n_cells, 4096):
        size = min(4096, n_cells - start)
        rate = rng.gamma(theta, scale * mean_g / theta, (size, genes))
        blocks.append(sparse.csr_matrix(rng.poisson(rate).astype(np.int32)))
    x = sparse.vstack(blocks, format="csr")
    empty = np.flatnonzero(np.diff(x.indptr) == 0)
    x = x[np.setdiff1d(np.arange(n_cells), empty)]
    return AnnData(x, obs={"group": [f"g{i % groups}" for i in range(x.shape[0])]})


def our_step(
    mgvi: MGVI, data: GroupedCounts, cells: int, compiled: bool, keep_sparse: bool
) -> Step:
    """Return a function that takes one training step, minibatch included."""
    objective = Objective(mgvi.model, mgvi.guide, WassersteinTraceELBO(own_weight=mgvi.own_weight))
    objective.train()
    adam = torch.optim.Adam(objective.parameters(), lr=1e-4, fused=True)
    rng = np.random.default_rng(0)

    def step() -> None:
        chosen = rng.choice(len(data), cells, replace=False)
        batch = data.rows(chosen, torch.from_numpy(chosen), len(data), keep_sparse)
        with pyro.validation_enabled(False), compilation(compiled):
            loss = sum(objective(*batch).values()) / len(data)
            adam.zero_grad()
            loss.backward()
            adam.step()

    return step


def in_turns(steps: Mapping[Hashable, Step], repeats: int) -> pd.DataFrame:
    """Return the seconds of each step, a row per turn and a column per step."""
    rows = []
    for turn in range(WARM_UP + repeats):
        row = {}
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            row[name] = time.perf_counter() - start
        if turn >= WARM_UP:
            rows.append(row)
    return pd.DataFrame(rows)
