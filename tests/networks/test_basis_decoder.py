import numpy as np
import pytest
import torch
from helpers.models import moved_decoder
from scipy.special import gammaln

from pyro_mgvi import BasisDecoder, LogLinearDecoder, SettingsError, WassersteinTraceELBO


def test_the_programs_prior_is_the_collapsed_dirichlet(adata):
    """For certain assignments: the Dirichlet-multinomial probability of the labels."""
    mgvi, batch = moved_decoder(adata, BasisDecoder)
    decoder = mgvi.model.decoder
    labels = np.arange(60) % 3
    decoder.logits.data = 200.0 * torch.eye(20)[labels]
    a = np.full(20, 0.5)
    sizes = np.bincount(labels, minlength=20)
    expected = gammaln(10.0) - gammaln(70.0) + (gammaln(a + sizes) - gammaln(a)).sum()
    assert decoder.log_prior().item() == pytest.approx(expected, rel=1e-5)
    terms = WassersteinTraceELBO().terms(mgvi.model, mgvi.guide, *batch)
    assert terms["decoder_prior"].item() == pytest.approx(-expected, rel=1e-5)
    table = mgvi.gene_programs()
    assert table.index.name == "gene" and list(table.index) == list(adata.var_names)
    assert list(table.columns) == ["cluster", "probability"]
    np.testing.assert_array_equal(table["cluster"], labels)
    np.testing.assert_allclose(table["probability"], 1)
    with pytest.raises(SettingsError, match="no gene programs"):
        moved_decoder(adata, LogLinearDecoder)[0].gene_programs()
