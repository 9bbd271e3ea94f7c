"""The guide: what encoders say, who owns it, and what the objective does with it."""

import numpy as np
import pytest
import torch
from pyro import poutine
from scipy import sparse

from pyro_mgvi import MGVI, Gaussian, SettingsError, private, shared


def test_moments_have_one_shape_for_every_family(mgvi, batch):
    moments = mgvi.guide.moments(batch.counts, batch.covariates)
    shapes = {name: [tuple(part.shape) for part in parts] for name, parts in moments.items()}
    assert shapes == {
        "z": [(1, 120, 3)] * 2,
        "t": [(3, 120, 2)] * 2,
        "library": [(120,)] * 2,
    }
    assert all((scale > 0).all() for _, scale in moments.values())


def test_the_input_is_log_counts_at_one_depth_centred_per_gene(mgvi, batch):
    x = batch.counts.numpy().astype(float)
    depth = mgvi.guide.depth.item()
    expected = np.log1p(x * depth / x.sum(1, keepdims=True))
    found = mgvi.guide.input(batch.counts).numpy()
    np.testing.assert_allclose(found, expected - expected.mean(0), atol=1e-5)


def test_each_site_declares_its_owners(mgvi, batch):
    trace = poutine.trace(mgvi.guide).get_trace(*batch)
    member = batch.group == torch.arange(3)[:, None]
    assert torch.equal(trace.nodes["t"]["infer"]["owned"], member)
    assert trace.nodes["z"]["infer"]["owned"].all()
    assert "owned" not in trace.nodes["library"]["infer"]


def test_genes_that_are_not_seen_change_nothing(mgvi, batch):
    seen = torch.ones(60)
    seen[::3] = 0.0
    other = batch.counts + 7 * (1 - seen)
    first, second = (mgvi.guide.moments(x, batch.covariates, seen) for x in (batch.counts, other))
    for name, parts in first.items():
        for a, b in zip(parts, second[name], strict=True):
            torch.testing.assert_close(a, b)
    for a, b in zip(mgvi.guide.moments(batch.counts)["z"], first["z"], strict=True):
        assert not torch.allclose(a, b)


def test_a_sample_of_no_foreign_cell_is_refused(adata):
    with pytest.raises(SettingsError, match="foreign_sample must be at least 1"):
        MGVI.from_anndata(adata, "group", latents=(shared(3), private(2)), foreign_sample=0)


def test_values_that_are_mostly_zero_say_the_same_sparse_and_dense(adata):
    values = adata.copy()
    values.X = sparse.csr_matrix(np.log1p(values.X.toarray()) * (np.arange(60) % 6 == 0))
    mgvi = MGVI.from_anndata(values, "group", likelihood=Gaussian, latents=(shared(3), private(2)))
    data = mgvi.read(values)
    assert data.mostly_zero
    few = np.arange(50)
    said = [mgvi.posterior(data.rows(few, keep_sparse=kept)).moments for kept in (True, False)]
    for name, moments in said[0].items():
        for ours, theirs in zip(moments, said[1][name], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    mgvi.fit(values, max_epochs=1, progress=False)
    assert np.isfinite(mgvi.history["train"]).all()
