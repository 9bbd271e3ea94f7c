"""Which groups are searched, how small ones are put together, and what residuals say."""

import numpy as np
import torch
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from pyro_mgvi import MGVI, SearchSettings, TrainingPlan
from pyro_mgvi.core import Design
from pyro_mgvi.training.search.residuals import (
    Residuals,
    residuals_of_groups,
    searched_groups,
    units,
)

LEAST = 100


@given(st.lists(st.integers(0, 300), min_size=1, max_size=8))
def test_of_one_column_large_groups_are_searched(sizes):
    design = Design.of([f"g{i}" for i in range(len(sizes))])
    sizes_b = np.array(sizes)
    assert (searched_groups(design, sizes_b, LEAST) == (sizes_b >= LEAST)).all()


def test_a_small_combination_of_a_large_level_is_searched():
    donors = Design(("drug", "donor"), (("no", "d0"), ("no", "d1"), ("yes", "d2"), ("yes", "d3")))
    searched = [True, True, False, False]
    assert searched_groups(donors, np.array([60, 60, 40, 40]), LEAST).tolist() == searched
    crossed = Design(("a", "b"), (("x", "u"), ("x", "v"), ("y", "u"), ("y", "v")))
    assert searched_groups(crossed, np.array([60, 60, 60, 60]), LEAST).all()
    assert searched_groups(crossed, np.array([90, 0, 20, 5]), LEAST).tolist() == [
        True, False, True, False
    ]  # fmt: skip


def residuals(n, first, small):
    cells = np.arange(first, first + n)
    return Residuals(torch.full((n, 3), float(first)), torch.full((3,), float(n)), cells, small)


def test_small_groups_are_one_unit():
    large, one, two = residuals(120, 0, False), residuals(60, 120, True), residuals(90, 180, True)
    assert units([large], LEAST) == [large]
    kept, together = units([large, one, two], LEAST)
    assert kept is large and together.r_ng.shape == (150, 3)
    assert (together.cells == np.arange(120, 270)).all()
    torch.testing.assert_close(together.slope_g, torch.full((3,), (60 * 60 + 90 * 90) / 150))
    assert units([large, one], LEAST) == [large]  # too few to be asked
    assert len(units([one], LEAST)) == 1


def strong_program(seed=0):
    """Return cells of two groups; a quarter of b has 40 times as much of 8 genes; a lacks one."""
    rng = np.random.default_rng(seed)
    rate_ng = np.tile(rng.lognormal(0, 0.5, 60), (600, 1))
    group_n = np.repeat(["a", "b"], 300)
    rate_ng[np.ix_((group_n == "b") & (rng.random(600) < 0.25), np.arange(8))] *= 40
    rate_ng[group_n == "a", 20] = 0
    return AnnData(rng.poisson(rate_ng).astype(np.float32), obs={"group": group_n})


def early(adata):
    """Return a model that has learnt means, and not the program."""
    mgvi = MGVI.from_anndata(adata, "group", latents=["z:1", "t:2"])
    mgvi.fit(adata, TrainingPlan(max_epochs=2, search=None, prune_below=0.0), progress=False)
    return mgvi


def test_a_gene_without_a_count_in_a_group_is_no_evidence_there():
    adata = strong_program()
    mgvi = early(adata)
    groups = residuals_of_groups(mgvi, mgvi.read(adata), SearchSettings(), seed=0)
    assert (groups[0].r_ng[:, 20] == 0).all() and groups[1].r_ng[:, 20].std() > 0.5
    assert (groups[0].r_ng.std(0)[np.arange(60) != 20] > 0.1).all()
