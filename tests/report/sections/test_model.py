"""Genes and predictive checks are those of the model."""

import numpy as np
import pytest
from helpers.html_reader import Reader, number

import pyro_mgvi
from pyro_mgvi.report import render


@pytest.mark.slow
def test_genes_are_those_of_the_ranking(fitted, page):
    adata, mgvi = fitted
    table = Reader(page).table("group", "gene")
    for group in mgvi.schema.groups:
        rows = table[table["group"] == group]
        truth = mgvi.rank_genes(adata, group, calibration=False).head(15)
        assert list(rows["gene"]) == list(truth.index)
        found = rows["nats per cell"].map(number)
        np.testing.assert_allclose(found, truth["per_cell"], rtol=0.06)
    assert "too few cells for q-values" in page  # 40 cells per group


@pytest.mark.slow
def test_predictive_checks_are_those_of_the_model(fitted, page):
    adata, _ = fitted
    table = Reader(page).table("statistic").set_index("statistic")
    zeros = 1 - adata.X.nnz / np.prod(adata.shape)
    assert number(table.at["gene zeros", "observed"]) == pytest.approx(zeros, abs=0.001)
    library = adata.X.sum() / adata.n_obs
    assert number(table.at["cell library", "observed"]) == pytest.approx(library, rel=0.01)


@pytest.mark.slow
def test_transformed_data_have_no_ranking_and_no_zeros(adata):
    adata = adata.copy()
    adata.X = np.log1p(adata.X.toarray())
    mgvi = pyro_mgvi.MGVI.from_anndata(
        adata, "group", latents=[pyro_mgvi.shared(2)], likelihood=pyro_mgvi.Gaussian
    )
    mgvi.fit(adata, max_epochs=1, progress=False)
    mgvi.write_latents(adata)
    reader = Reader(render(adata, mgvi, progress=False))
    hints = [text for text in reader.texts["p"] if text.startswith("No ")]
    assert len(hints) == 2 and all("Gaussian" in hint for hint in hints)
