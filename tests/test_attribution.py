"""Gene scores of the benchmark against closed forms and planted genes."""

from functools import partial

import anndata
import numpy as np
import pytest
import torch
from scipy import sparse

import pyro_mgvi
from pyro_mgvi import MGVI, DataError, SettingsError, attribution
from pyro_mgvi.analysis.attribution import hotspot, integrated_gradients


class LinearEncoders(torch.nn.Module):
    """Posterior means are a matrix product of the input."""

    def __init__(self, latents, start):
        super().__init__()
        self.shapes = {latent.name: (latent.n_subsets, latent.dim) for latent in latents}
        generator = torch.Generator().manual_seed(0)
        self.a = {
            name: torch.randn(*shape, start.n_genes, generator=generator)
            for name, shape in self.shapes.items()
        }

    def forward(self, x_ng, covariates=None):
        out = {"library": (torch.zeros(len(x_ng)), torch.ones(len(x_ng)))}
        for name, a_sdg in self.a.items():
            loc = torch.einsum("sdg,ng->snd", a_sdg, x_ng)
            loc = loc if len(a_sdg) > 1 else loc[0]
            out[name] = loc, torch.ones_like(loc)
        return out


def log_counts(adata):
    """The encoders' input, from its definition."""
    x = adata.X.toarray().astype(float)
    depth = np.median(x.sum(1))
    x = np.log1p(x * (depth / x.sum(1, keepdims=True)))
    return x - x.mean(0)


def test_of_a_linear_encoder_they_have_a_closed_form(adata):
    pytest.importorskip("captum", reason="needs the extra benchmark")
    latents = (pyro_mgvi.shared(3), pyro_mgvi.private(2), pyro_mgvi.pairwise(2))
    mgvi = MGVI.from_anndata(adata, "group", latents=latents, encoder=LinearEncoders)
    mgvi.guide.in_use_t[1, 0] = False  # a dimension out of use says nothing
    table = integrated_gradients(mgvi, adata, "group2")
    a = mgvi.guide.encoder.a
    pairs = [i for i, subset in enumerate(mgvi.model.latents[2].subsets) if "group2" in subset]
    a = torch.cat([a["t"][1][1:], *(a["pair"][i] for i in pairs)]).numpy().astype(float)
    x = log_counts(adata)[(adata.obs["group"] == "group2").to_numpy()]
    truth = np.abs(x * (x @ a.T @ a)).mean(0)
    found = table.set_index("gene")["score"].loc[list(adata.var_names)]
    np.testing.assert_allclose(found, truth, rtol=2e-4)
    assert table["score"].is_monotonic_decreasing


def test_attributions_add_up_to_what_they_explain(mgvi, adata, monkeypatch):
    pytest.importorskip("captum", reason="needs the extra benchmark")
    mgvi.fit(adata, max_epochs=2, batch_size=32, progress=False)
    monkeypatch.setattr(attribution, "STEPS", 2000)  # a rectifier has kinks along the path
    data = mgvi.read(adata).subset(np.arange(20))
    (attribution_ng, x_ng), *rest = attribution._attributions(mgvi, data, "group1")
    assert not rest
    with torch.no_grad():
        h, h_0 = (mgvi.guide.encode(x, None)["t"][0][0] for x in (x_ng, torch.zeros_like(x_ng)))
    np.testing.assert_allclose(attribution_ng.sum(1), (h * (h - h_0)).sum(1), rtol=5e-3, atol=1e-4)


def test_minibatches_of_cells_do_not_matter(mgvi, adata, monkeypatch):
    pytest.importorskip("captum", reason="needs the extra benchmark")
    cells = (adata.obs["celltype"] != "T1").to_numpy()
    whole = integrated_gradients(mgvi, adata, "group1", cells)
    monkeypatch.setattr(attribution, "CELLS", 5)
    parts = integrated_gradients(mgvi, adata[cells].copy(), "group1")
    np.testing.assert_allclose(whole["score"], parts["score"], rtol=1e-4)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_hotspot_finds_genes_that_follow_the_latent(form):
    pytest.importorskip("hotspot", reason="needs the extra benchmark")
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(200, 2))
    counts = rng.poisson(3.0, size=(200, 30)).astype(np.float32)
    counts[:, :5] = rng.poisson(3 * np.exp(0.5 * latent[:, :1]), size=(200, 5))
    counts[:, 7] = 4.0
    latent[150:] = np.nan  # foreign cells
    adata = anndata.AnnData(form(counts))
    table = hotspot(adata, latent)
    assert set(table["gene"][:5]) == set("01234") and table["score"][4] > 3
    assert abs(table["score"][5:-1].mean()) < 1  # others: about standard normal
    assert table["gene"].iloc[-1] == "7" and np.isnan(table["score"].iloc[-1])
    again = hotspot(adata[:150].copy(), latent[:150])
    np.testing.assert_array_equal(table["score"], again["score"])
    adata.layers["raw"], adata.X = adata.X, None
    np.testing.assert_array_equal(hotspot(adata, latent, layer="raw")["score"], table["score"])


def test_bad_input_is_explained(mgvi, adata, monkeypatch):
    latent = mgvi.latents(adata)["t_group1"]
    for values, cells, message in (
        (latent[:5], None, "120 cells x dims"),
        (latent, np.ones(5, bool), "boolean mask"),
        (latent, np.arange(120) < 31, "30 neighbours"),
        (0 * latent, None, "the same in all"),
    ):
        with pytest.raises(DataError, match=message):
            hotspot(adata, values, cells)
    alone = MGVI.from_anndata(adata, "group", latents=(pyro_mgvi.shared(3),))
    missing = partial(pytest.raises, SettingsError)
    for module in ("captum.attr", "hotspot"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with missing(match=r'pip install "pyro-mgvi\[benchmark\]"'):
        integrated_gradients(mgvi, adata, "group1")
    with missing(match=r'hotspot cannot.*pip install "pyro-mgvi\[benchmark\]"'):
        hotspot(adata, latent)
    monkeypatch.undo()
    with pytest.raises(DataError, match="group9"):
        integrated_gradients(mgvi, adata, "group9")
    pytest.importorskip("captum", reason="needs the extra benchmark")
    with missing(match="no latent of the model belongs to 'group1'"):
        integrated_gradients(alone, adata, "group1")
