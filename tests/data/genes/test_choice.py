"""A choice of genes: what varies in one small group stays."""

import anndata as ad
import numpy as np
import pytest
from helpers.masked import masked, masks_of
from helpers.variable import SMALL, large_and_small, most_expressed
from hypothesis import given
from hypothesis import strategies as st

from pyro_mgvi import DataError, GroupedCounts, SettingsError, choose_genes
from pyro_mgvi.data.genes.choice import by_best_rank
from pyro_mgvi.data.genes.deviance import excess_deviance
from pyro_mgvi.data.stores import on_disk

LOUD = most_expressed(large_and_small(), 80)
PROGRAM, OF_LARGE = LOUD[:30:3], np.setdiff1d(LOUD, LOUD[:30:3])


def test_a_program_of_twenty_cells_is_kept_and_lost_over_all_cells():
    adata = large_and_small(PROGRAM, OF_LARGE)
    assert (adata.obs["group"] == "small").sum() == SMALL
    assert choose_genes(adata, 30, "group").iloc[PROGRAM].all()
    data = GroupedCounts.from_anndata(adata, "group")
    pooled_g = excess_deviance(data.with_groups(np.zeros(len(data), int)))[0]
    assert np.isin(PROGRAM, np.argsort(-pooled_g)[:30]).sum() < 3


@pytest.mark.parametrize("n", [2, 3, 7, 150])
def test_as_many_genes_as_asked_for_and_each_groups_best(n):
    adata = large_and_small(PROGRAM)
    chosen = choose_genes(adata, n, "group")
    assert chosen.dtype == bool and chosen.sum() == n
    assert list(chosen.index) == list(adata.var_names)
    for score_g in excess_deviance(GroupedCounts.from_anndata(adata, "group")):
        assert chosen.iloc[np.argsort(-score_g)[: n // 2]].all()
    assert adata[:, chosen].shape == (adata.n_obs, n)


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=5, max_size=5), min_size=1, max_size=4),
    st.integers(0, 99),
)
def test_ranks_are_joined_as_by_hand(rows, seed):
    rng = np.random.default_rng(seed)
    score_bg = np.array(rows) + rng.random((len(rows), 5)) / 2  # no ties
    score_bg[rng.random(score_bg.shape) < 0.2] = np.nan
    ranks = []
    for gene in range(5):
        found = [5 if np.isnan(row[gene]) else int((row > row[gene]).sum()) for row in score_bg]
        ranks.append((sorted(found), gene))
    assert by_best_rank(score_bg).tolist() == [gene for _, gene in sorted(ranks)]


def test_counts_are_taken_from_where_they_are(tmp_path, monkeypatch):
    adata = large_and_small(PROGRAM)
    wanted = choose_genes(adata, 30, "group")
    other = ad.AnnData(np.log1p(adata.X), obs=adata.obs, var=adata.var, layers={"n": adata.X})
    other.raw = adata
    before = other.copy()
    assert choose_genes(other, 30, "group", layer="n").equals(wanted)
    chosen = choose_genes(other[:, :50].copy(), 30, "group", use_raw=True)
    assert chosen.equals(wanted) and other.raw[:, chosen].shape == (adata.n_obs, 30)
    assert (other.X == before.X).all() and other.obs.equals(before.obs) and not len(other.uns)
    adata.write_h5ad(tmp_path / "x.h5ad")
    monkeypatch.setattr(on_disk, "IN_MEMORY", 0.0)
    stored = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    assert choose_genes(stored, 30, "group").equals(wanted)


def test_a_gene_of_one_group_is_judged_by_it():
    adata = large_and_small(PROGRAM, OF_LARGE)
    has_bg = np.ones((2, adata.n_vars), bool)
    has_bg[0, PROGRAM] = False  # the large group has not got the small one's program
    filled = masked(adata, has_bg, fill=9.0)
    chosen = choose_genes(filled, 30, "group", feature_masks=masks_of(filled))
    assert chosen.iloc[PROGRAM].all()


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"n": 1}, SettingsError, "n must be at least 2, not 1"),
        ({"n": 151}, SettingsError, "n must be at most 150, not 151"),
        ({"n": 2.5}, SettingsError, "n must be a whole number"),
        ({"group_key": "tissue"}, DataError, "group_key 'tissue' is not a column"),
        ({"layer": "counts"}, DataError, "layer 'counts' is not in adata.layers"),
        ({"batch_key": "donor"}, DataError, "batch_key 'donor' is not a column"),
        ({"feature_masks": {"small": "x"}}, DataError, "feature mask"),
    ],
)
def test_what_is_at_fault_is_named(how, error, message):
    with pytest.raises(error, match=message):
        choose_genes(large_and_small(), **{"n": 20, "group_key": "group"} | how)


def test_normalised_values_are_refused():
    adata = large_and_small()
    adata.X = np.log1p(adata.X)
    with pytest.raises(DataError, match="fractional value"):
        choose_genes(adata, 20, "group")
