"""Genes that only a latent's owners have follow it, and do not move it."""

import numpy as np
import pytest
import torch
from helpers.columns import GROUPS, KEYS
from helpers.losses import whole
from helpers.masked import masked, masks_of, random_masks
from hypothesis import given, settings
from hypothesis import strategies as st

import pyro_mgvi
from pyro_mgvi import MGVI, pairwise, per, private, shared
from pyro_mgvi.core import Latents
from pyro_mgvi.core.design import Design
from pyro_mgvi.model.evidence import Evidence

CROSSED = Design(KEYS, tuple(tuple(group.split("_")) for group in GROUPS))
FAMILIES = (
    (shared(2), private(2)),
    (shared(2), private(1), pairwise(1)),
    (shared(1), per("tissue", 1), per("drug", 1)),
    (private(2),),
)


@pytest.mark.slow
@given(st.integers(0, 10_000), st.sampled_from(FAMILIES), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_gene_moves_a_copy_if_a_group_that_is_no_owner_has_it(seed, families, by_level):
    rng = np.random.default_rng(seed)
    has_bg = random_masks(rng, 4, 9, 0.4)
    if by_level:  # as two species with two treatments have
        has_bg = random_masks(rng, 2, 9, 0.4)[[0, 0, 1, 1]]
    latents = Latents(families, CROSSED)
    evidence = Evidence(latents, torch.from_numpy(has_bg))
    group = torch.arange(4)
    values, loadings = {}, {}
    for x in latents:
        values[x.name] = torch.randn(x.n_copies, 4, x.dim, requires_grad=True)
        loadings[x.name] = torch.randn(x.n_copies, x.dim, 9)

    def decode(values):
        owned = (
            (values[name] * latents.membership(name)[:, group, None]) @ loading
            for name, loading in loadings.items()
        )
        return [(sum(each.sum(0) for each in owned),)]

    ((found,),) = evidence.decoded(decode, values)
    assert torch.equal(found, decode(values)[0][0])
    for gene in range(9):
        for cell in np.flatnonzero(has_bg[:, gene]):
            wanted = torch.autograd.grad(found[cell, gene], [*values.values()], retain_graph=True)
            for name, gradient in zip(values, wanted):
                member_sb = latents.membership(name).numpy()
                for copy, owners in enumerate(member_sb):
                    moved = bool((gradient[copy, cell] != 0).any())
                    told = owners.all() or has_bg[~owners, gene].any()
                    assert moved == bool(owners[cell] and told)


@pytest.mark.parametrize("decoder", [pyro_mgvi.JointDecoder, pyro_mgvi.LogLinearDecoder])
def test_in_training_own_genes_teach_loadings_and_not_the_private_encoder(adata, decoder):
    """In evaluation, as samplers want it, the gradient is that of the log density."""
    has_bg = np.ones((3, adata.n_vars), bool)
    has_bg[1:, 5] = False
    some = masked(adata, has_bg)
    mgvi = MGVI.from_anndata(
        some, "group", latents=["z:2", "t:2"], decoder=decoder, feature_masks=masks_of(some)
    )
    batch = whole(mgvi, some)
    moments = mgvi.guide.moments(batch.counts, batch.covariates, group=batch.group)
    found = {}
    for training in (True, False):
        mgvi.model.train(training)
        values = {name: moments[name][0].detach().requires_grad_() for name in ("z", "t")}
        parts = mgvi.model._learnt(values, batch.group, batch.covariates)
        weights = [*mgvi.model.decoder.parameters()]
        of_gene = sum(output[:, 5].square().sum() for part in parts for output in part)
        found[training] = torch.autograd.grad(
            of_gene, [*values.values(), *weights], allow_unused=True
        )
    (z, t, *weights), (z_all, t_all, *weights_all) = found[True], found[False]
    assert (t[0] == 0).all() and (t_all[0] != 0).any()
    torch.testing.assert_close(z, z_all)
    for one, other in zip(weights, weights_all):
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
