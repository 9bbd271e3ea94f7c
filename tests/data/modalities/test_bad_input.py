"""What cannot be a model of several modalities is refused by name, and nothing else is."""

import mudata
import numpy as np
import pytest
import torch
from helpers.losses import assert_same_bits, losses, whole
from helpers.modalities import LIKELIHOODS, model, mosaic, mudata_of, small
from scipy import sparse

from pyro_mgvi import MGVI, NB, ZINB, DataError, SettingsError
from pyro_mgvi.data.modalities import labelled

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def parts_of(**options):
    return {name: part.copy() for name, part in small(**options).mod.items()}


@pytest.mark.parametrize(
    "value, said", [(np.nan, "not finite value nan"), (-1, "negative value -1.0"), (2.5, "2.5")]
)
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_values_that_are_no_counts(value, said, form):
    parts = parts_of()
    x = parts["prot"].X.copy()
    x[3, 2] = value
    parts["prot"].X = form(x)
    with pytest.raises(DataError, match=f"modality 'prot': .*{said} .*'cell3', gene 'prot2'"):
        model(mudata_of(parts))


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda prot: prot[:0], "no cell has a count in prot"),
        (lambda prot: prot[:, :0], "modality 'prot' has no feature"),
    ],
)
def test_empty_modalities(change, said):
    parts = parts_of()
    parts["prot"] = change(parts["prot"]).copy()
    with pytest.raises(DataError, match=said):
        model(mudata_of(parts))


def test_a_modality_without_values():
    parts = parts_of()
    parts["prot"].X = None
    with pytest.raises(DataError, match=r"modality 'prot': adata\.X is empty: name the layer"):
        model(mudata_of(parts))


def test_cells_of_one_name_in_one_modality():
    parts = parts_of()
    names = list(parts["prot"].obs_names)
    names[3] = names[2]
    parts["prot"].obs_names = names
    with pytest.raises(DataError, match="different cells of one name: cell2; rename them"):
        model(mudata_of(parts))


def test_a_group_column_that_only_one_modality_has():
    parts = parts_of()
    del parts["prot"].obs["donor"]
    whole_one = model(mudata_of(parts))
    assert whole_one.schema == model(small()).schema
    parts["rna"] = parts["rna"][5:].copy()  # five cells have no group then
    with pytest.raises(DataError, match=r"obs\['donor'\] is missing \(NaN\) for 5 cell\(s\): cell"):
        model(mudata_of(parts))


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"covariate_keys": [7]}, r"covariate_keys 7 is no text.*obs.columns.map\(str\)"),
        ({"batch_key": 7}, "batch_key 7 is no text"),
        ({"group_key": 7}, "group_key 7 is no text"),
        ({"covariate_keys": [["age"]]}, "covariate_keys must be the name of one column"),
        ({"batch_key": ["lane"]}, "batch_key must be the name of one column"),
        ({"group_key": {}}, "group_key must be the name of one column"),
    ],
)
def test_names_of_columns_that_are_none(keys, message):
    mdata = small()
    mdata.obs[7] = np.arange(mdata.n_obs) % 2
    with pytest.raises(DataError, match=message):
        MGVI.from_mudata(mdata, **{"group_key": "donor", "modalities": LIKELIHOODS} | keys)


def test_a_column_that_is_the_same_in_other_words():
    parts = parts_of()
    parts["rna"].obs["donor"] = parts["rna"].obs["donor"].astype("category")
    assert model(mudata_of(parts)).schema == model(small()).schema


def test_a_modality_that_was_changed_behind_the_back_of_its_mudata():
    mdata = small()
    other = mdata.mod["rna"].copy()
    other.obs_names = [f"new{name}" for name in other.obs_names]
    mdata.mod["rna"] = other
    for ask in (model, labelled):
        with pytest.raises(DataError, match=r"'rna' has cells that mdata does not know: newcell0"):
            ask(mdata)
    mdata = small()
    mdata.mod["rna"] = mdata.mod["rna"][::-1].copy()  # an order of its own is no harm
    mgvi = model(mdata)
    assert_same_bits(losses(mgvi, whole(mgvi, mdata)), losses(mgvi, whole(mgvi, small())))


def test_other_kinds_of_mudata():
    parts = parts_of()
    nested = mudata_of({"rna": parts["rna"], "prot": mudata_of({"x": parts["prot"]})})
    with pytest.raises(DataError, match="modality 'prot' is a MuData, not an AnnData"):
        model(nested)
    other = parts_of()["rna"]
    other.obs_names = [f"other{name}" for name in other.obs_names]
    with pytest.raises(DataError, match=r"have features in common, not cells \(axis=1\)"):
        model(mudata.MuData({"rna": parts["rna"], "prot": other}, axis=1))
    with pytest.raises(DataError, match="no cell has a count in rna, prot"):
        model(small()[:0])


def test_a_file_that_is_opened_in_backed_mode(tmp_path):
    small().write_h5mu(tmp_path / "x.h5mu")
    mdata = mudata.read_h5mu(tmp_path / "x.h5mu", backed="r")
    mgvi = model(mdata)
    assert_same_bits(losses(mgvi, whole(mgvi, mdata)), losses(mgvi, whole(mgvi, small())))


@pytest.mark.parametrize("name", ["a.b", "a/b", "a:b", "a b", "keys", "type", "training", "1"])
def test_a_modality_may_have_any_name(name, tmp_path):
    parts = parts_of()
    mdata = mudata_of({"rna": parts["rna"], name: parts["prot"]})
    mgvi = MGVI.from_mudata(mdata, "donor", {"rna": ZINB, name: NB})
    mgvi.save(tmp_path / "m")
    mgvi.fit(mdata, max_epochs=1, progress=False)
    usual = MGVI.from_mudata(small(), "donor", LIKELIHOODS)
    loaded = MGVI.load(tmp_path / "m")
    for one, other in zip(loaded.model.state_dict().values(), usual.model.state_dict().values()):
        assert torch.equal(one, other)


def test_settings_that_are_none():
    with pytest.raises(DataError, match=r"layers='counts': name the layer of each modality"):
        model(small(), layers="counts")
    with pytest.raises(DataError, match="modality 'rna': layer must be the name of one layer"):
        model(small(), layers={"rna": 3})
    with pytest.raises(SettingsError, match="latent name 'keys' is a word of torch: use another"):
        model(small(), latents=["keys=d0:2", "z:2"])
    with pytest.raises(DataError, match=r"modalities not in the data: 1"):
        MGVI.from_mudata(small(), "donor", {1: NB})


def test_a_model_of_several_modalities_is_given_one():
    mdata = mosaic(prot="d0")
    mgvi = model(mdata)
    with pytest.raises(DataError, match="features of a modality: pass the MuData that it belongs"):
        mgvi.latents(mdata.mod["rna"])
    with pytest.raises(DataError, match="write_rankings is for an AnnData"):
        mgvi.write_rankings(mdata, {})
    with pytest.raises(DataError, match=r"call mgvi\.write_latents\(mdata\)"):
        mgvi.own(mdata, "d1")
    mgvi.write_latents(mdata)
    cells = mgvi.own(mdata, "d1")
    assert cells.n_obs == 20 and {"donor", "kind"} <= set(cells.obs)
    assert {"X_mgvi_z", "X_mgvi_t_d1"} <= set(cells.obsm)
    assert np.isfinite(cells.obsm["X_mgvi_t_d1"]).all()
