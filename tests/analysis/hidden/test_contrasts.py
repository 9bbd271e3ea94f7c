"""Genes are hidden a tenth at a time, and looked at in as many parts as memory wants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mgvi.analysis.gene_effects import unseen
from pyro_mgvi.analysis.hidden import contrasts
from pyro_mgvi.analysis.hidden.contrasts import TABLE, hidden_genes, unseen_contrasts
from pyro_mgvi.model.decoding import Decoding
from pyro_mgvi.support import progress


@given(st.integers(2, 400), st.integers(1, TABLE))
def test_every_gene_is_looked_at_once_while_its_tenth_is_hidden(n_genes, n_cells):
    looked_at = []
    for hidden, genes in hidden_genes(n_genes, n_cells, seed=3):
        assert set(genes) <= set(hidden) and len(hidden) <= -(-n_genes // 10)
        assert len(genes) == 1 or len(genes) * n_cells <= 2 * TABLE
        looked_at += list(genes)
    assert sorted(looked_at) == list(range(n_genes))


def tables(mgvi, data, **how):
    """Return what all genes' contrasts are, and how many genes came at a time."""
    own_n, without = data.group_n == 0, Decoding.leaving_out(mgvi.families)
    whole, sizes = np.empty((3, *data.shape), np.float32), []
    for genes, found in unseen_contrasts(mgvi, data, own_n, without, 0, **how):
        whole[:, :, genes] = found[:3]
        sizes.append(len(genes))
    return whole, sizes


@pytest.mark.slow
def test_results_do_not_depend_on_how_much_is_held(trained, adata, monkeypatch):
    data = trained.read(adata)
    at_once, sizes = tables(trained, data)
    monkeypatch.setattr(contrasts, "TABLE", 120 * 4)  # four genes of all cells
    in_parts, smaller = tables(trained, data)
    assert set(sizes) == {6} and set(smaller) == {3}
    np.testing.assert_array_equal(in_parts, at_once)
    assert np.abs(at_once).max(axis=(1, 2)).min() > 0


@pytest.mark.slow
def test_scores_along_a_dimension_do_not_either(mgvi, adata, monkeypatch):
    data, copy = mgvi.read(adata), mgvi.families.copies[1]
    own = data.subset(np.flatnonzero(data.group_n == 0))
    of_fold = mgvi, own, copy, np.eye(1 + copy.dim)[:, 1:], 0
    at_once = unseen._fold_scores(*of_fold)
    monkeypatch.setattr(contrasts, "TABLE", len(own))
    np.testing.assert_array_equal(unseen._fold_scores(*of_fold), at_once)
    assert at_once.shape == (2, 60) and np.isfinite(at_once).all() and at_once.all()


@pytest.mark.parametrize("delay, shown", [(0.0, True), (60.0, False)])
def test_a_bar_counts_the_genes_of_a_long_pass(trained, adata, monkeypatch, capsys, delay, shown):
    monkeypatch.setattr(progress, "DELAY", delay)
    tables(trained, trained.read(adata), progress=contrasts.said(0, 2))
    assert ("testing genes, fold 1 of 2" in capsys.readouterr().err) is shown
    tables(trained, trained.read(adata))
    assert not capsys.readouterr().err
