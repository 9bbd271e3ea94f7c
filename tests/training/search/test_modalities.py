"""What a direction reaches, and what wider latents say already."""

import numpy as np
import pytest
import torch
from helpers.modalities import LATENTS, model, mosaic, small

from pyro_mgvi import modality, private, shared
from pyro_mgvi.training.plan import SearchSettings
from pyro_mgvi.training.search.echoes import close_echoes
from pyro_mgvi.training.search.modality_reach import (
    covered,
    handed_down,
    having_any,
    modalities_in_use,
    owners_of_all,
)
from pyro_mgvi.training.search.residuals import Direction
from pyro_mgvi.training.search.restart import close_idle


def copy_of(mgvi, key):
    return next(copy for copy in mgvi.families.copies if copy.key == key)


def direction(*features):
    loading = torch.zeros(18)
    loading[list(features)] = 1.0
    return Direction(loading, torch.ones(3), np.arange(3))


@pytest.mark.parametrize(
    "features, key",
    [
        ((0, 1, 2), "rna"),
        ((12, 13, 14), "prot"),
        ((0, 1, 2, 12, 13, 14), "z"),
        ((0, 1, 2, 12), "rna"),
    ],
)
def test_a_direction_goes_to_the_narrowest_copy_that_reaches_its_features(features, key):
    mgvi = model(small())
    found = handed_down(mgvi, {copy_of(mgvi, "z"): [direction(*features)]}, SearchSettings())
    ((copy, (given,)),) = found.items()
    assert copy.key == key
    assert (given.loading_g[12:] == 0).all() or key != "rna"


def test_a_direction_stays_where_no_narrower_copy_has_the_same_owners():
    mgvi = model(small())
    found = handed_down(mgvi, {copy_of(mgvi, "t_d0"): [direction(0, 1, 2)]}, SearchSettings())
    assert [copy.key for copy in found] == ["t_d0"]
    mgvi = model(small(), latents=(*LATENTS, private(2, modalities=["rna"])))
    found = handed_down(mgvi, {copy_of(mgvi, "t_d0"): [direction(0, 1, 2)]}, SearchSettings())
    assert [copy.key for copy in found] == ["t_rna_d0"]


def test_owners_are_those_that_have_what_is_reached():
    mgvi = model(mosaic(prot="d0", rna="d1"))
    families, everyone = mgvi.families, np.ones(3, bool)
    z, rna = copy_of(mgvi, "z"), copy_of(mgvi, "rna")
    assert owners_of_all(families, z, everyone).tolist() == [False, False, True]
    assert having_any(families, rna).tolist() == [True, False, True]
    assert covered(families, rna) and not covered(families, z)


def test_a_dimension_is_used_by_the_modalities_that_its_loadings_are_of():
    mgvi = model(small(n=200), latents=(shared(1), modality("rna", 1), modality("prot", 1)))
    data, z = mgvi.read(small(n=200)), copy_of(mgvi, "z")
    decoders = mgvi.model.decoder.parts
    with torch.no_grad():
        for name, strength in (("rna", 1.0), ("prot", 0.0)):
            decoders[name].trunk.weight.zero_()
            decoders[name].linear[0] = strength * torch.randn(decoders[name].linear.shape[1])
    assert modalities_in_use(mgvi, data, z, 0, 1.0, SearchSettings()) == ("rna",)
    with torch.no_grad():
        decoders["prot"].linear[0] = torch.randn(6)
    assert modalities_in_use(mgvi, data, z, 0, 1.0, SearchSettings()) == ("rna", "prot")


def test_what_wider_latents_foretell_is_closed(monkeypatch):
    mdata = small(n=300)
    mgvi = model(mdata, latents=(shared(1), modality("rna", 2), modality("prot", 1)))
    data, rng = mgvi.read(mdata), np.random.default_rng(0)
    z = rng.normal(size=(300, 1))
    own = rng.normal(size=(300, 1))
    means = {"z": z, "rna": np.hstack([np.tanh(z), own]), "prot": own}
    module = "pyro_mgvi.training.search.echoes"
    monkeypatch.setattr(f"{module}._owned_means", lambda program, part: means)
    assert close_echoes(mgvi, data, SearchSettings()) == 1
    assert mgvi.model.active["rna"].tolist() == [[False, True]]
    assert mgvi.model.active["z"].all() and mgvi.model.active["prot"].all()


def test_idle_dimensions_that_everyone_may_own_stay_open():
    mdata = small(n=300)
    mgvi = model(mdata)
    close_idle(mgvi, mgvi.read(mdata), SearchSettings(idle=1e9))
    active = {copy.key: int(mgvi.model.active.of(copy).sum()) for copy in mgvi.families.copies}
    assert active == {"z": 3, "t_d0": 0, "t_d1": 0, "rna": 2, "prot": 2}
