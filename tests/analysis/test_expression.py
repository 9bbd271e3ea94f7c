"""Expected expression, at the posterior means and over draws, against draws by hand."""

from functools import partialmethod

import numpy as np
import pytest
import torch

from pyro_mgvi import DataError, Posterior, SettingsError
from pyro_mgvi.analysis import expression_draws
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.training.program import Program


@pytest.mark.parametrize("latents", [None, "z", ["t"]])
def test_draws_at_the_mean_are_normalized_expression(trained, adata, latents, monkeypatch):
    monkeypatch.setattr(Posterior, "draw", lambda self, generator: self.means())
    genes = list(adata.var_names[[5, 2]])
    mean, std = tables = trained.expression_draws(adata, latents, genes, n_draws=3)
    assert all(list(table.columns) == genes for table in tables)
    np.testing.assert_allclose(mean, trained.normalized_expression(adata, latents, genes), 1e-5)
    np.testing.assert_allclose(std, 0, atol=1e-9)


@pytest.mark.slow
def test_draws_have_the_moments_of_draws_by_hand(trained, adata, monkeypatch):
    n = 600
    monkeypatch.setattr(Program, "posteriors", partialmethod(Program.posteriors, size=50))
    mean, std = trained.expression_draws(adata, n_draws=n, seed=3)
    data, model = trained.read(adata), trained.model
    batch = data.rows(np.arange(len(data)))
    by_hand = []
    for seed in range(n):
        drawn = latent_values(trained, data, foreign="encode", draw=seed)
        t = torch.stack([torch.from_numpy(drawn[k]) for k in model.latents["t"].keys])
        values = {"z": torch.from_numpy(drawn["z"])[None], "t": t}
        with torch.no_grad():
            parts = model.decode(values, batch.group, batch.covariates)
            by_hand.append(model.likelihood.expression(parts).numpy())
    truth, spread = np.mean(by_hand, 0), np.std(by_hand, 0, ddof=1)
    error = np.abs(mean - truth) / (spread * np.sqrt(2 / n))
    assert error.to_numpy().max() < 6 and 0.5 < error.to_numpy().mean() < 1.1  # E|N(0,1)| = 0.8
    assert abs(np.log(std / spread)).to_numpy().mean() < 0.05


def test_bad_input_is_explained(mgvi, adata):
    with pytest.raises(SettingsError, match="n_draws"):
        mgvi.expression_draws(adata, n_draws=1)
    with pytest.raises(DataError, match="no_such_gene"):
        expression_draws(mgvi, adata, genes=["no_such_gene"])
