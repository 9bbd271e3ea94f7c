"""Which groups are searched, how small ones are put together, and what residuals say."""

import numpy as np
import pytest
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
from pyro_mgvi.training.search.restart import plant_directions

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


@pytest.mark.parametrize("log_change", [0.02, 1.0, 3.0])
def test_an_effect_is_the_logarithm_of_a_change(log_change):
    score_n = torch.tensor([-1.0, 1.0]).repeat(50)
    relative_n = (log_change * score_n).exp() - 1
    change = (relative_n * score_n).mean().expand(2) * torch.tensor([1.0, -1.0])
    group = Residuals(torch.zeros(100, 2), torch.ones(2), np.arange(100))
    effect = group.effects(change, score_n)
    assert effect[0] == pytest.approx(log_change, rel=0.25) and effect[1] == -effect[0]
    assert torch.equal(group._replace(log_link=False).effects(change, score_n), change)


@pytest.mark.parametrize("seed", range(3))
def test_a_strong_program_starts_nearer_than_if_changes_were_logarithms(seed, monkeypatch):
    adata = strong_program(seed)

    def planted():
        mgvi = early(adata)
        data = mgvi.read(adata)
        own = data.subset(np.flatnonzero(data.group_n == 1))

        def fit():
            posterior = mgvi.posterior(own.rows(np.arange(len(own))))
            return float(posterior.log_likelihood(posterior.means()).detach().mean())

        before = fit()
        assert plant_directions(mgvi, data, seed=0)
        return fit() - before

    gain = planted()
    monkeypatch.setattr(Residuals, "effects", lambda self, change_g, score_n: change_g)
    assert gain > max(0.0, planted())
