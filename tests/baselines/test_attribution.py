"""Integrated gradients of the encoders against closed forms."""

import sys

import numpy as np
import pytest
import torch

import pyro_mgvi
from pyro_mgvi import MGVI, ComponentWarning, DataError, Encoder, EncoderInput, SettingsError
from pyro_mgvi.baselines import attribution, integrated_gradients


class LinearEncoders(Encoder):
    """Posterior means are a matrix product of the input."""

    def __init__(self, latents, initial):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a = {
            latent.name: torch.randn(
                latent.n_copies, latent.dim, initial.n_genes, generator=generator
            )
            for latent in latents
        }

    def forward(self, x):
        means = {name: torch.einsum("sdg,ng->snd", a_sdg, x.x) for name, a_sdg in self.a.items()}
        return {name: (loc, torch.ones_like(loc)) for name, loc in means.items()}


def log_counts(adata):
    """The encoders' input, from its definition."""
    x = adata.X.toarray().astype(float)
    depth = np.median(x.sum(1))
    x = np.log1p(x * (depth / x.sum(1, keepdims=True)))
    return x - x.mean(0)


def test_of_a_linear_encoder_they_have_a_closed_form(adata):
    pytest.importorskip("captum", reason="needs the extra benchmark")
    latents = (pyro_mgvi.shared(3), pyro_mgvi.private(2), pyro_mgvi.pairwise(2))
    with pytest.warns(ComponentWarning, match="LinearEncoders"):
        mgvi = MGVI.from_anndata(adata, "group", latents=latents, encoder=LinearEncoders)
    mgvi.model.active["t"][1, 0] = False  # an inactive dimension says nothing
    table = integrated_gradients(mgvi, adata, "group2")
    a = mgvi.guide.encoder.a
    pairs = [copy.index for copy in mgvi.families.copies_of("pair") if "group2" in copy.groups]
    a = torch.cat([a["t"][1][1:], *(a["pair"][i] for i in pairs)]).numpy().astype(float)
    x = log_counts(adata)[(adata.obs["group"] == "group2").to_numpy()]
    truth = np.abs(x * (x @ a.T @ a)).mean(0)
    assert table.index.name == "gene"
    np.testing.assert_allclose(table["score"].loc[list(adata.var_names)], truth, rtol=2e-4)
    assert table["score"].is_monotonic_decreasing


@pytest.mark.slow
def test_attributions_add_up_to_what_they_explain(mgvi, adata, monkeypatch):
    pytest.importorskip("captum", reason="needs the extra benchmark")
    plan = pyro_mgvi.TrainingPlan(max_epochs=2, batch_size=32)
    mgvi.fit(adata, plan, progress=False)
    monkeypatch.setattr(attribution, "STEPS", 2000)  # a rectifier has kinks along the path
    data = mgvi.read(adata).subset(np.arange(20))
    (attribution_ng, x_ng), *rest = attribution._attributions(mgvi, data, "group1")
    assert not rest
    with torch.no_grad():
        h, h_0 = (
            mgvi.guide.encode(EncoderInput(x))["t"][0][0] for x in (x_ng, torch.zeros_like(x_ng))
        )
    np.testing.assert_allclose(attribution_ng.sum(1), (h * (h - h_0)).sum(1), rtol=5e-3, atol=1e-4)


def test_minibatches_of_cells_do_not_matter(mgvi, adata, monkeypatch):
    pytest.importorskip("captum", reason="needs the extra benchmark")
    cells = (adata.obs["celltype"] != "T1").to_numpy()
    whole = integrated_gradients(mgvi, adata, "group1", cells)
    monkeypatch.setattr(attribution, "CELLS", 5)
    parts = integrated_gradients(mgvi, adata[cells].copy(), "group1")
    np.testing.assert_allclose(whole["score"], parts["score"], rtol=1e-4)


def test_bad_input_is_explained(mgvi, adata, monkeypatch):
    alone = MGVI.from_anndata(adata, "group", latents=(pyro_mgvi.shared(3),))
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(SettingsError, match=r'pip install "pyro-mgvi\[benchmark\]"'):
        integrated_gradients(mgvi, adata, "group1")
    monkeypatch.undo()
    with pytest.raises(DataError, match="group9"):
        integrated_gradients(mgvi, adata, "group9")
    pytest.importorskip("captum", reason="needs the extra benchmark")
    with pytest.raises(SettingsError, match="no latent of the model belongs to 'group1'"):
        integrated_gradients(alone, adata, "group1")
