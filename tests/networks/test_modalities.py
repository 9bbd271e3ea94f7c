"""Encoders and decoders of several modalities: one for each reach, with what it sees."""

import numpy as np
import pytest
import torch
from helpers.modalities import LATENTS, LIKELIHOODS, model, mosaic, mudata_of, small
from helpers.models import component_warning

from pyro_mgvi import (
    MGVI,
    AdditiveDecoder,
    JointDecoder,
    LogLinearDecoder,
    SettingsError,
    WassersteinTraceELBO,
    modality,
    private,
    shared,
)
from pyro_mgvi.core import EncoderInput, InitialValues, Latents
from pyro_mgvi.networks import ModalityDecoders, ModalityEncoders
from pyro_mgvi.training.objective import Objective


def test_half_of_the_cells_are_shown_from_one_modality_in_training():
    encoder = model(small()).guide.encoder
    x = EncoderInput(torch.ones(2000, 18), has=torch.ones(2000, 2, dtype=torch.bool))
    torch.manual_seed(0)
    shown = encoder.partly_hidden(x).x
    rna, prot = (part.any(1) for part in shown.split([12, 6], 1))
    counts = torch.stack([rna & prot, rna & ~prot, ~rna & prot]).sum(1)
    expected = torch.tensor([1000.0, 500.0, 500.0])
    assert ((counts - expected).abs() < 5 * expected.sqrt()).all() and counts.sum() == 2000


def test_a_cell_of_one_modality_is_shown_as_it_is():
    encoder = model(small()).guide.encoder
    has = torch.tensor([[True, False]]).expand(500, 2)
    shown = encoder.partly_hidden(EncoderInput(torch.ones(500, 18), has=has)).x
    assert (shown[:, :12] == 1).all()


def test_hiding_is_for_training_and_for_latents_with_narrower_ones_beside_them():
    mdata = small()
    for latents, hides in (
        (LATENTS, [True, False, False, False]),
        ((shared(3), private(2), modality("rna", 2)), [False, False]),
    ):
        encoder = model(mdata, latents=latents).guide.encoder
        assert encoder.hides == hides
    mgvi = model(mdata)
    first, second = mgvi.latents(mdata), mgvi.latents(mdata)
    assert all(first[key].equals(second[key]) for key in first)


def test_each_network_of_each_encoder_learns():
    mdata = small()
    mgvi = model(mdata)
    batch = mgvi.read(mdata).rows(np.arange(40))
    sum(Objective(mgvi.model, mgvi.guide, WassersteinTraceELBO())(*batch).values()).backward()
    for part in mgvi.guide.encoder.parts.values():
        copies = sum(n_copies for n_copies, _ in part.shapes.values())
        moved = part.first.weight.grad.flatten(1).any(1)
        assert moved.tolist() == [True] * copies  # none is for the library, which is observed


def test_any_decoder_may_be_that_of_a_modality():
    mdata = mosaic(prot="d0")
    mgvi = model(mdata, decoder=LogLinearDecoder)
    mgvi.fit(mdata, max_epochs=2, progress=False)
    assert np.isfinite(mgvi.history["train"]).all()


def test_offsets_are_those_of_all_features():
    decoder = model(small()).model.decoder
    offset = torch.randn(2, 18)
    decoder.set_group_offsets(offset)
    torch.testing.assert_close(decoder.group_offsets(), offset)


def test_data_of_one_modality_are_refused():
    latents, initial = Latents(["z:2"], ("a", "b")), InitialValues.blank(5, 2)
    for component in (ModalityEncoders, lambda *given: ModalityDecoders(*given, n_outputs=1)):
        with pytest.raises((SettingsError, TypeError), match="several modalities"):
            component(latents, initial)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", [JointDecoder, AdditiveDecoder])
def test_a_modality_that_one_group_alone_has_is_trained(decoder):
    mdata = mosaic(prot="d0")
    keep = (mdata["prot"].obs["donor"] == "d1").to_numpy()
    mdata = mudata_of({"rna": mdata["rna"].copy(), "prot": mdata["prot"][keep].copy()})
    with component_warning(decoder):
        mgvi = MGVI.from_mudata(mdata, "donor", LIKELIHOODS, decoder=decoder, latents=LATENTS)
    assert all(torch.isfinite(value).all() for value in mgvi.model.state_dict().values())
    mgvi.fit(mdata, max_epochs=2, progress=False)
    assert np.isfinite(mgvi.history[["train", "validation"]]).all(axis=None)
