"""What a component cannot do is said when a model is built."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers.fitting import LATENTS, untrained
from helpers.modalities import model, small

from pyro_mgvi import (
    NB,
    AdditiveDecoder,
    ComponentWarning,
    DataKind,
    Encoder,
    Gaussian,
    SettingsError,
    SharedTrunk,
)
from pyro_mgvi.model.component_checks import cannot_start, kind_of
from pyro_mgvi.training.search.restart import can_start


class Lengths(NB):
    """With a setting of each gene."""

    def __init__(self, initial, log_length_g):
        super().__init__(initial)
        self.log_theta = torch.nn.Parameter(initial.log_theta_g + torch.tensor(log_length_g))


def test_a_likelihood_may_have_a_setting_of_each_gene(adata):
    likelihood = partial(Lengths, log_length_g=np.zeros(adata.n_vars))
    assert isinstance(untrained(adata, likelihood=likelihood).model.likelihood, Lengths)


@pytest.mark.parametrize("of", [NB, Gaussian])
def test_the_kind_of_data_is_that_of_the_class_or_of_what_is_made(of):
    kind = DataKind.VALUES if of is Gaussian else DataKind.COUNTS
    for likelihood in (of, partial(of, unknown=1), lambda initial: of(initial)):
        assert kind_of(likelihood) is kind


class Corrects(SharedTrunk):
    """Has something to say about the library."""

    def __init__(self, latents, initial, location, scale):
        super().__init__(latents, initial)
        self.correction = location, scale

    def forward(self, x):
        return {**super().forward(x), "library": self.correction}


class Bare(Encoder):
    """Says the same of all cells."""

    def __init__(self, latents, initial):
        super().__init__()
        self.shapes = {x.name: (x.n_copies, x.dim) for x in latents}

    def forward(self, x):
        size = len(x.dense())
        of_all = {k: torch.zeros(s, size, dim) for k, (s, dim) in self.shapes.items()}
        return {k: (zero, zero + 1) for k, zero in of_all.items()}


@pytest.mark.parametrize(
    "location, scale, message",
    [
        (torch.zeros(2, 1), torch.ones(2), r"location of 'library' has shape .* \(cells,\), here"),
        (torch.zeros(2), torch.ones(2, 1), r"scale of 'library' has shape \(2, 1\); .* \(2,\)$"),
        (torch.zeros(2), torch.zeros(2), "a scale of 'library' is not positive"),
    ],
)
def test_what_an_encoder_says_of_the_library_is_checked(adata, location, scale, message):
    encoder = partial(Corrects, location=location, scale=scale)
    with pytest.raises(SettingsError, match=f"^encoder Corrects: {message}"):
        untrained(adata, encoder=encoder)
    right = partial(Corrects, location=torch.zeros(2), scale=torch.ones(2))
    assert untrained(adata, encoder=right, latents=LATENTS).guide.has_library


def test_what_cannot_start_a_dimension_is_found_among_the_modalities(adata):
    with pytest.warns(ComponentWarning, match="^the decoder AdditiveDecoder cannot start"):
        mudata = model(small(), decoder=AdditiveDecoder)
    with pytest.warns(ComponentWarning, match="^the encoder Bare cannot start"):
        anndata = untrained(adata, encoder=Bare)
    assert cannot_start(mudata.model, mudata.guide) == ["decoder AdditiveDecoder"]
    assert not can_start(mudata) and not can_start(anndata) and can_start(model(small()))
    with pytest.raises(SettingsError, match="which the decoder AdditiveDecoder cannot"):
        mudata.fit(small(), n_trainings=2)
