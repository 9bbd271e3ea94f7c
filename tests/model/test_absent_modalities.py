"""Random mosaics: what a cell or its group has not got is in no loss, gradient or latent."""

import warnings

import numpy as np
import pytest
import torch
from anndata import AnnData
from helpers.losses import assert_same_bits, assert_same_everywhere, losses, whole
from helpers.modalities import mudata_of, random_mosaic, small
from hypothesis import given, settings
from hypothesis import strategies as st

import pyro_mgvi
from pyro_mgvi import MGVI, NB, ZINB, Bernoulli, Poisson, ProteinNB, modality, private, shared

LATENTS = (
    shared(3),
    private(2),
    modality("prot", 2),
    shared(1, name="both", modalities=["rna", "atac"]),
)
OF = {"rna": (ZINB, NB), "prot": (NB, ProteinNB), "atac": (Poisson, Bernoulli)}
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]
MASKS = {f"d{b}": f"in_d{b}" for b in range(3)}
DECODERS = (pyro_mgvi.JointDecoder, pyro_mgvi.LogLinearDecoder)
ENCODERS = (pyro_mgvi.SeparateEncoders, pyro_mgvi.SharedTrunk)
some_mosaics = given(
    st.integers(0, 10_000),
    st.tuples(*(st.sampled_from(each) for each in OF.values())),
    st.sampled_from(DECODERS),
    st.sampled_from(ENCODERS),
)


def model_of(mdata, likelihoods, decoder, encoder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pyro_mgvi.ComponentWarning)
        mgvi = MGVI.from_mudata(
            mdata,
            "donor",
            dict(zip(OF, likelihoods)),
            latents=LATENTS,
            decoder=decoder,
            encoder=encoder,
            feature_masks=MASKS,
        )
    for parameter in mgvi.model.decoder.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return mgvi


def changed(mdata, change):
    """Return a MuData whose modalities were changed one by one; it has the cells in their order."""
    parts = {name: change(name, part.copy()) for name, part in mdata.mod.items()}
    made = mudata_of(parts)
    return made[list(mdata.obs_names)].copy() if len(made) == len(mdata) else made


@some_mosaics
@settings(max_examples=12, deadline=None)
def test_no_bit_depends_on_how_absence_is_written_down(seed, likelihoods, decoder, encoder):
    """Numbers at features that a group has not got; rows of zeros; an order of its own."""
    rng = np.random.default_rng(seed)
    mdata = random_mosaic(rng)
    torch.manual_seed(seed)
    mgvi = model_of(mdata, likelihoods, decoder, encoder)

    def filled(name, part):
        masks = part.var[[*MASKS.values()]].to_numpy(bool).T
        absent = ~masks[[int(donor[1:]) for donor in part.obs["donor"]]]
        part.X = np.where(absent, rng.poisson(50.0, part.shape), part.X).astype(np.float32)
        return part

    def with_rows_of_zeros(name, part):
        lacking = [cell for cell in mdata.obs_names if cell not in part.obs_names]
        x = np.vstack([part.X, np.zeros((len(lacking), part.n_vars), np.float32)])
        made = AnnData(x, var=part.var)
        made.obs_names = [*part.obs_names, *lacking]
        made.obs["donor"] = [f"d{int(name[4:]) % 3}" for name in made.obs_names]
        return made

    def shuffled(name, part):
        return part[rng.permutation(part.n_obs)].copy()

    assert_same_everywhere(
        mgvi, mdata, [changed(mdata, each) for each in (filled, with_rows_of_zeros, shuffled)]
    )


@some_mosaics
@settings(max_examples=12, deadline=None)
def test_numbers_in_a_users_own_tensors_are_dropped_too(seed, likelihoods, decoder, encoder):
    rng = np.random.default_rng(seed)
    mdata = random_mosaic(rng)
    mgvi = model_of(mdata, likelihoods, decoder, encoder)
    batch = whole(mgvi, mdata)
    absent_ng = torch.from_numpy(~mgvi.schema.measured_bg)[batch.group]
    junk = torch.from_numpy(rng.normal(scale=30, size=batch.counts.shape)).float()
    junk[junk > 40] = torch.nan
    other = batch._replace(counts=torch.where(absent_ng, junk, batch.counts))
    assert_same_bits(losses(mgvi, batch), losses(mgvi, other))


@some_mosaics
@settings(max_examples=12, deadline=None)
def test_cells_without_a_modality_do_not_move_what_is_of_it(seed, likelihoods, decoder, encoder):
    mdata = random_mosaic(np.random.default_rng(seed))
    mgvi = model_of(mdata, likelihoods, decoder, encoder)
    batch = whole(mgvi, mdata)
    mgvi.model.decoder.log_prior = lambda: None  # which is of all weights, whatever the cells
    for name, columns in mgvi.model.modalities.columns.items():
        without = batch.counts[:, columns].sum(1) == 0
        if not without.any() or without.all():
            continue
        found, others = (losses(mgvi, _cells(batch, mine)) for mine in (without, ~without))
        of_it = [key for key in found if key.startswith("model.") and f"parts.{name}." in key]
        assert len(of_it) > 2
        for key in of_it:
            assert found[key] is None or (found[key] == 0).all(), key
        moved = [key for key in of_it if others[key] is not None and (others[key] != 0).any()]
        assert len(moved) > 1


def _cells(batch, mine):
    return batch._replace(
        counts=batch.counts[mine],
        group=batch.group[mine],
        batch=batch.batch[mine],
        covariates=batch.covariates[mine],
    )


@given(
    st.integers(0, 10_000),
    st.sampled_from((ZINB, NB, Poisson, Bernoulli)),
    st.sampled_from((*DECODERS, pyro_mgvi.AdditiveDecoder, pyro_mgvi.BasisDecoder)),
    st.sampled_from(ENCODERS),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_one_modality_is_an_anndata_to_the_last_bit(
    seed, likelihood, decoder, encoder, masked, layer
):
    rng = np.random.default_rng(seed)
    rna = small(seed, n=36, groups=3).mod["rna"].copy()
    rna.obs["plate"] = rng.permutation([f"p{i % 2}" for i in range(36)])
    for b in range(3):
        rna.var[f"in_d{b}"] = (np.arange(rna.n_vars) < 4) | (rng.random(rna.n_vars) < 0.7)
    rna.var["in_d0"] |= ~(rna.var["in_d1"] | rna.var["in_d2"])
    if masked:
        absent_bg = ~rna.var[[*MASKS.values()]].to_numpy(bool).T
        rna.X = np.where(absent_bg[np.arange(36) % 3], 0, rna.X).astype(np.float32)
    if layer:
        rna.layers["raw"], rna.X = rna.X.copy(), np.log1p(rna.X)
    components = {"decoder": decoder, "encoder": encoder, "latents": (shared(3), private(2))}
    components |= {"batch_key": "plate", "feature_masks": MASKS if masked else None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pyro_mgvi.ComponentWarning)
        one = MGVI.from_mudata(
            mudata_of({"rna": rna}),
            "donor",
            {"rna": likelihood},
            layers={"rna": "raw"} if layer else None,
            **components,
        )
        other = MGVI.from_anndata(
            rna, "donor", layer="raw" if layer else None, likelihood=likelihood, **components
        )
    of_mudata, of_anndata = whole(one, mudata_of({"rna": rna})), whole(other, rna)
    assert torch.equal(of_mudata.counts, of_anndata.counts)
    assert torch.equal(of_mudata.covariates, of_anndata.covariates)
    assert_same_bits(losses(one, of_mudata), losses(other, of_anndata))
