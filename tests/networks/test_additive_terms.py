"""What levels of several columns do is added up in the decoder."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers.columns import KEYS, LATENTS, tissue_by_drug

from pyro_mgvi import (
    MGVI,
    BasisDecoder,
    ComponentWarning,
    JointDecoder,
    Posterior,
    private,
    shared,
)
from pyro_mgvi.model.decoding import Decoding

RESPONDING = partial(JointDecoder, response=0.1)


ADDITIVE = (shared(3), private(2))


def moved(decoder=RESPONDING, latents=ADDITIVE):
    adata = tissue_by_drug()
    mgvi = MGVI.from_anndata(adata, KEYS, latents=latents, decoder=decoder)
    for parameter in mgvi.model.decoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    data = mgvi.read(adata)
    return mgvi, data.rows(np.arange(len(data)))


def location(mgvi, batch, decoding, z=1.0):
    n, values = len(batch.group), {}
    for family in mgvi.families:
        values[family.name] = torch.zeros(family.n_copies, n, family.dim)
    values["z"] += z
    return decoding.parts(Posterior(mgvi.model, batch, {}), values)[0][0]


def test_offsets_and_responses_of_levels_are_added():
    mgvi, batch = moved()
    decoder = mgvi.model.decoder
    assert decoder.offset.shape[0] == 4 and decoder.response.shape[0] == 4 * 3
    found = location(mgvi, batch, Decoding.everything(mgvi.families))
    response_tg = decoder.response.unflatten(0, (4, 3)).sum(1)  # z is 1 in each dimension
    table = np.array([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1]], np.float32)
    by_hand = torch.from_numpy(table)[batch.group] @ (decoder.offset + response_tg)
    rest = found - by_hand  # what all cells have in common
    torch.testing.assert_close(rest, rest[:1].expand_as(rest), rtol=1e-4, atol=1e-4)


def test_one_column_s_offsets_are_averaged_and_the_other_s_kept():
    mgvi, batch = moved()
    decoder, families = mgvi.model.decoder, mgvi.families
    term_tg = decoder.offset + decoder.response.unflatten(0, (4, 3)).sum(1)
    own = location(mgvi, batch, Decoding.everything(families))
    without = Decoding.leaving_out(families, columns=("drug",))
    assert without.kept == {"z", "t_tissue_Colon", "t_tissue_Ileum"} and without.averaged
    gap = own - location(mgvi, batch, without)
    drug = batch.group % 2
    wanted = term_tg[2 + drug] - term_tg[2:].mean(0)
    torch.testing.assert_close(gap, wanted, rtol=1e-4, atol=1e-4)


def test_what_is_kept_says_which_columns_are_averaged():
    mgvi, _ = moved(latents=LATENTS)
    families = mgvi.families
    assert Decoding.keeping(families, "z") == Decoding(
        frozenset({"z"}), averaged=True, samples=False
    )
    assert not Decoding.keeping(families).averaged
    tissue = Decoding.keeping(families, ["z", "t_tissue"])
    assert tissue.averaged and tissue.columns == ("drug",)
    both = Decoding.keeping(families, ["z", "t_tissue", "t_drug"])
    assert not both.averaged
    own = Decoding.leaving_out(families, "t_tissue_drug", columns=("drug",))
    assert not own.averaged and own.columns == ()


@pytest.mark.parametrize("decoder", [RESPONDING, BasisDecoder])
def test_group_offsets_are_sums_of_levels_and_can_be_replaced(decoder):
    if decoder is BasisDecoder:
        with pytest.warns(ComponentWarning):
            mgvi, _ = moved(decoder)
    else:
        mgvi, _ = moved(decoder)
    decoder = mgvi.model.decoder
    offset_bg = decoder.group_offsets()
    assert offset_bg.shape[0] == 4
    interaction_g = offset_bg[0] - offset_bg[1] - offset_bg[2] + offset_bg[3]
    assert interaction_g.abs().max() < 1e-5
    wanted = torch.tensor([[1.0], [2.0], [4.0], [5.0]]).expand_as(offset_bg)
    decoder.set_group_offsets(wanted)
    torch.testing.assert_close(decoder.group_offsets(), wanted, rtol=1e-4, atol=1e-4)


def test_an_interaction_has_terms_of_its_own():
    mgvi, _ = moved(latents=LATENTS)
    assert mgvi.model.decoder.offset.shape[0] == 8
    wanted = torch.randn_like(mgvi.model.decoder.group_offsets())
    mgvi.model.decoder.set_group_offsets(wanted)
    torch.testing.assert_close(mgvi.model.decoder.group_offsets(), wanted, rtol=1e-4, atol=1e-4)


def test_one_column_has_a_term_for_each_group_and_no_product(mgvi):
    decoder = mgvi.model.decoder
    assert decoder.terms_bt is None and decoder.offset.shape[0] == 3
    assert decoder.group_offsets() is decoder.offset


def test_own_inputs_give_the_dense_product(monkeypatch):
    mgvi, batch = moved(latents=LATENTS)
    everything = Decoding.everything(mgvi.families)
    dense = location(mgvi, batch, everything)
    monkeypatch.setattr("pyro_mgvi.networks.joint_decoder.GROUP_BY_GROUP", 1)
    found = location(mgvi, batch, everything)
    torch.testing.assert_close(found, dense, rtol=1e-4, atol=1e-4)
