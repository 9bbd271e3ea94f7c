"""Many groups take their own columns alone, which changes no result."""

from functools import partial

import numpy as np
import pytest
import torch

import pyro_mgvi
from pyro_mgvi import MGVI, JointDecoder, LogLinearDecoder, WassersteinTraceELBO

LATENTS = (pyro_mgvi.shared(3), pyro_mgvi.private(2))
THRESHOLD = "pyro_mgvi.networks.joint_decoder.GROUP_BY_GROUP"


def loss_and_gradients(mgvi, batch):
    torch.manual_seed(0)
    parameters = dict(mgvi.model.named_parameters()) | dict(mgvi.guide.named_parameters())
    loss = sum(WassersteinTraceELBO().terms(mgvi.model, mgvi.guide, *batch).values())
    values = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    return loss.item(), dict(zip(parameters, values))


@pytest.mark.parametrize(
    "decoder",
    [
        partial(JointDecoder, response=0.1),
        LogLinearDecoder,
        partial(JointDecoder, hidden=0, response=0.1),
        partial(JointDecoder, linear=False, response=0.1),
        partial(JointDecoder, offset=False, response=0.1),
        partial(JointDecoder, response=0.0),
        partial(JointDecoder, linear=False, offset=False, response=0.0),
    ],
)
@pytest.mark.parametrize("families", [("z", "t"), ("t", "z", "pair"), ("t", "some")])
def test_each_group_s_own_columns_give_the_dense_product(adata, monkeypatch, decoder, families):
    some = pyro_mgvi.subsets("some", [["group1", "group3"], ["group3"]], 2)
    known = {"z": LATENTS[0], "t": LATENTS[1], "pair": pyro_mgvi.pairwise(2), "some": some}
    mgvi = MGVI.from_anndata(
        adata,
        "group",
        batch_key="celltype",
        latents=[known[name] for name in families],
        decoder=decoder,
    )
    for parameter in mgvi.model.decoder.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    data = mgvi.read(adata)
    for cells in (np.arange(50), np.flatnonzero(data.group_n != 1)[:30]):  # or without a group
        batch = data.rows(cells)
        dense_loss, dense = loss_and_gradients(mgvi, batch)
        with monkeypatch.context() as patch:
            patch.setattr(THRESHOLD, 1)
            loss, found = loss_and_gradients(mgvi, batch)
        assert loss == pytest.approx(dense_loss, rel=1e-6)
        for name, gradient in dense.items():
            scale = gradient.abs().max().clamp(min=1)
            torch.testing.assert_close(found[name] / scale, gradient / scale, rtol=1e-4, atol=1e-5)


def test_many_groups_take_their_own_columns_only_for_their_own_offsets(adata, monkeypatch):
    """Averaged offsets use every group's; several draws at once keep the dense product."""
    mgvi = MGVI.from_anndata(adata, "group", latents=LATENTS)
    mgvi.model.decoder.response.data.normal_()
    expected = mgvi.normalized_expression(adata, latents=["z"])
    monkeypatch.setattr(THRESHOLD, 1)
    found = mgvi.normalized_expression(adata, latents=["z"])
    np.testing.assert_array_equal(found, expected)
    batch = mgvi.read(adata).rows(np.arange(20))
    losses = []
    for threshold in (1, 99):
        monkeypatch.setattr(THRESHOLD, threshold)
        torch.manual_seed(0)
        elbo = WassersteinTraceELBO(num_particles=2, vectorize_particles=True)
        losses.append(elbo.loss(mgvi.model, mgvi.guide, *batch))
    assert losses[0] == losses[1]
