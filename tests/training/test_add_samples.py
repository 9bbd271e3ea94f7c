"""Further samples for a trained model: nothing else changes, and what cannot be is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.fitting import PLAN, fitted, same
from helpers.masked import masked, masks_of

from pyro_mgvi import MGVI, NB, DataError, DataWarning, Discovery, SettingsError
from pyro_mgvi.analysis.discovery.discovery import COLUMNS


@pytest.fixture(scope="module")
def donors(adata):
    copy = adata.copy()
    number = copy.obs.groupby("group", observed=True).cumcount() % 4
    copy.obs["donor"] = [f"{g}.{i}" for g, i in zip(copy.obs["group"], number)]
    return copy


@pytest.fixture(scope="module")
def known(donors):
    return donors[donors.obs["donor"] != "group2.1"].copy()


@pytest.fixture(scope="module")
def trained(known):
    return fitted(known, likelihood=NB, sample_key="donor")


def test_the_further_sample_alone_is_learnt(trained, donors, known, tmp_path):
    before = {k: v.clone() for k, v in trained.model.state_dict().items()}
    larger = trained.add_samples(donors, PLAN, progress=False)  # cells of known ones are left out
    assert larger.schema.samples == (*trained.schema.samples, "group2.1")
    effects = larger.sample_effects()
    np.testing.assert_array_equal(effects.iloc[:-1], trained.sample_effects())
    assert (effects.loc["group2.1"] != 0).all()
    after = larger.model.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert same(larger.latents(known), trained.latents(known))
    np.testing.assert_array_equal(
        larger.normalized_expression(known), trained.normalized_expression(known)
    )
    new = donors[donors.obs["donor"] == "group2.1"]
    assert not np.allclose(larger.normalized_expression(new), trained.normalized_expression(new))
    larger.save(tmp_path / "larger")
    loaded = MGVI.load(tmp_path / "larger")
    np.testing.assert_array_equal(loaded.sample_effects(), effects)
    assert loaded.schema.samples == larger.schema.samples
    with pytest.raises(DataError, match=r"has no new sample: the model knows group1\.0"):
        larger.add_samples(donors)


def test_a_group_is_added_beside_samples(trained, donors):
    other = donors[donors.obs["group"] == "group1"].copy()
    other.obs["group"] = "group4"
    larger = trained.add_group(other, PLAN, progress=False)
    np.testing.assert_array_equal(larger.sample_effects(), trained.sample_effects())


def test_absent_genes_of_a_further_sample_have_no_effect(donors):
    has_bg = np.ones((3, 60), bool)
    has_bg[1, 40:] = False
    copy = masked(donors, has_bg)
    some = copy[copy.obs["donor"] != "group2.1"].copy()
    mgvi = fitted(some, feature_masks=masks_of(some), sample_key="donor")
    effects = mgvi.add_samples(copy, PLAN, progress=False).sample_effects().loc["group2.1"]
    assert (effects.iloc[40:] == 0).all() and (effects.iloc[:40] != 0).all()


def test_a_model_without_effects_is_refused(donors):
    mgvi = fitted(donors, sample_key="donor", sample_effects=False)
    with pytest.raises(SettingsError, match="samples have no effects in this model"):
        mgvi.add_samples(donors)


def test_who_shares_what_and_how_well_trainings_agree_stay(trained, donors):
    trained.agreement = pd.DataFrame({"cka": [0.9]})
    trained.discovery = Discovery(pd.DataFrame(columns=list(COLUMNS)), (), {}, np.zeros(0))
    other = donors[donors.obs["group"] == "group1"].copy()
    other.obs["group"] = "group4"
    for larger in (
        trained.add_samples(donors, PLAN, progress=False),
        trained.add_group(other, PLAN, progress=False),
    ):
        assert larger.discovery is trained.discovery and larger.agreement is trained.agreement


def test_training_on_with_samples_that_are_not_known_is_said(known, donors):
    mgvi = fitted(known, likelihood=NB, sample_key="donor")
    with pytest.warns(DataWarning, match=r"10 cells are of samples .*\(group2\.1\).*add_samples"):
        mgvi.fit(donors, PLAN, progress=False)
