"""Models of a MuData: what a latent reaches, what is absent, and what is refused by name."""

import numpy as np
import pytest
import torch
from anndata import AnnData
from helpers.modalities import LATENTS, LIKELIHOODS, model, mosaic, mudata_of, small

from pyro_mgvi import (
    MGVI,
    NB,
    ZINB,
    DataError,
    Gaussian,
    GroupedCounts,
    Latents,
    SettingsError,
    SharedTrunk,
    modality,
    private,
    shared,
)
from pyro_mgvi.analysis.folds import shuffled_groups
from pyro_mgvi.analysis.hidden.contrasts import nuisance, observed_size
from pyro_mgvi.core.latents.text import as_text, parse


def test_with_one_modality_the_model_is_that_of_an_anndata():
    mdata = small()
    one = MGVI.from_mudata(mdata, "donor", {"rna": ZINB}, latents=(shared(3), private(2)))
    other = MGVI.from_anndata(mdata.mod["rna"], "donor", latents=(shared(3), private(2)))
    for mgvi, data in ((one, mdata), (other, mdata.mod["rna"])):
        mgvi.fit(data, max_epochs=3, progress=False)
    assert one.schema.genes == other.schema.genes
    for part in ("model", "guide"):
        mine, theirs = getattr(one, part).state_dict(), getattr(other, part).state_dict()
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    for key, table in one.latents(mdata).items():
        assert table.equals(other.latents(mdata.mod["rna"])[key])


def test_a_latent_does_nothing_where_it_does_not_reach():
    mgvi = model(small())
    batch = mgvi.read(small()).rows(np.arange(40))
    values = {name: value.requires_grad_() for name, value in mgvi.posterior(batch).means().items()}
    (part,) = mgvi.model.decode(values, batch.group)
    rna, prot = mgvi.model.modalities.split(part[0])
    names = [*values]
    found = []
    for output in (rna, prot):
        grads = torch.autograd.grad(output.sum(), [*values.values()], retain_graph=True)
        found.append([bool((grad != 0).any()) for grad in grads])
    reaches = dict(zip(names, zip(*found)))
    both = (True, True)
    assert reaches == {"z": both, "t": both, "rna": (True, False), "prot": (False, True)}


@pytest.mark.parametrize("encoder", [None, SharedTrunk])
def test_an_encoder_sees_what_its_latent_reaches(encoder):
    mdata = small()
    mgvi = model(mdata, **({} if encoder is None else {"encoder": encoder}))
    before = mgvi.latents(mdata)
    mdata.mod["prot"].X = mdata.mod["prot"].X[::-1].copy()
    after = mgvi.latents(mdata)
    assert after["rna"].equals(before["rna"])
    assert not after["prot"].equals(before["prot"]) and not after["z"].equals(before["z"])


def test_sparse_and_dense_counts_give_the_same_posteriors():
    mgvi = model(mosaic(prot="d0", rna="d1"))
    data = mgvi.read(mosaic(prot="d0", rna="d1"))
    cells = np.arange(len(data))
    dense, sparse = (
        mgvi.guide.moments(batch.counts, batch.covariates, group=batch.group)
        for batch in (data.rows(cells), data.rows(cells, keep_sparse=True))
    )
    for name in dense:
        for one, other in zip(dense[name], sparse[name]):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_a_donor_has_not_got_has_no_influence():
    mdata = mosaic(prot="d0")
    mgvi = model(mdata)
    assert mgvi.schema.absent.keys() == {"d0"}
    assert mgvi.families["prot"].owners == (("d1", "d2"),)
    data = mgvi.read(mdata)
    batch = data.rows(np.arange(len(data)))
    filled = batch.counts.clone()
    filled[batch.group == 0, 12:] = 7.0
    results = []
    for counts in (batch.counts, filled):
        torch.manual_seed(0)
        mgvi.model.zero_grad(), mgvi.guide.zero_grad()
        setup = mgvi.training_setup(mdata)
        loss = setup.elbo.differentiable_loss(
            setup.model, setup.guide, *batch._replace(counts=counts)
        )
        loss.backward()
        parts = [*mgvi.model.parameters(), *mgvi.guide.parameters()]
        results.append([loss.detach(), *(p.grad.clone() for p in parts if p.grad is not None)])
    assert len(results[0]) > 10
    assert all(torch.equal(one, other) for one, other in zip(*results))


def test_cells_of_one_donor_may_differ_in_their_modalities():
    mdata = small()
    rna = mdata.mod["rna"]
    few = mudata_of({"rna": rna.copy(), "prot": mdata.mod["prot"][5:].copy()})
    mgvi = model(few)
    assert not mgvi.schema.absent  # both donors have proteins of some cells
    data = mgvi.read(few)
    batch = data.rows(np.arange(len(data)))
    row = list(few.obs_names).index("cell0")
    log_nk = mgvi.model.observed_log_library(batch.counts)
    assert log_nk[row, 1] == -1e4 and (log_nk[:, 0] > 0).all()
    parts = mgvi.model.decode(mgvi.posterior(batch).means(), batch.group)
    log_p = mgvi.model.distribution(parts, log_nk, batch.group).gene_log_prob(batch.counts)
    assert (log_p[row, 12:] == 0).all() and (log_p[:, :12] != 0).all()
    x = mgvi.guide.input(batch.counts, group=batch.group)
    assert (x[row, 12:] == 0).all() and (x[list(few.obs_names).index("cell9"), 12:] != 0).any()
    mgvi.fit(few, max_epochs=2, progress=False)
    assert np.isfinite(mgvi.history["train"]).all()


def test_predictions_for_cells_without_a_modality_are_marked():
    mdata = mosaic(prot="d0")
    mgvi = model(mdata)
    measured = mgvi.normalized_expression(mdata)
    predicted = mgvi.normalized_expression(mdata, predict_absent=True)
    proteins = [name for name in mgvi.schema.genes if name.startswith("prot:")]
    lacks = ~mdata.obs_names.isin(mdata.mod["prot"].obs_names)
    assert measured.loc[lacks, proteins].isna().all().all()
    np.testing.assert_allclose(predicted[proteins].sum(axis=1), 1.0, rtol=1e-4)
    assert predicted.attrs["predicted"] == {"d0": proteins}
    table = mgvi.rank_genes(mdata, "d1", calibration=False)
    assert {name.split(":")[0] for name in table.index} == {"rna", "prot"}
    of_first = mgvi.rank_genes(mdata, "d0", calibration=False)
    assert {name.split(":")[0] for name in of_first.index} == {"rna"}


def test_a_saved_model_is_the_same_and_latents_are_written(tmp_path):
    mdata = mosaic(prot="d0", rna="d1")
    mgvi = model(mdata, latents=(*LATENTS, private(2, modalities=["rna"])))
    mgvi.fit(mdata, max_epochs=2, progress=False)
    mgvi.save(tmp_path / "m")
    loaded = MGVI.load(tmp_path / "m")
    assert loaded.schema == mgvi.schema and loaded.own_weight == mgvi.own_weight
    before, after = mgvi.latents(mdata), loaded.latents(mdata)
    assert all(before[key].equals(after[key]) for key in before)
    loaded.write_latents(mdata)
    keys = {f"X_mgvi_{copy.key}" for copy in mgvi.families.copies}
    assert keys <= set(mdata.obsm)
    assert {"X_mgvi_t_rna_d0", "X_mgvi_t_rna_d2"} <= keys and "X_mgvi_t_rna_d1" not in keys
    np.testing.assert_array_equal(mdata.obsm["X_mgvi_z"], before["z"].to_numpy())


def test_genes_hidden_from_the_encoder_are_made_up_for_by_the_others():
    mdata = small()
    mgvi = model(mdata)
    data = mgvi.read(mdata)
    batch = data.rows(np.arange(len(data)))
    full, part = (
        mgvi.posterior(batch, seen).mean("z")
        for seen in (torch.ones(18), torch.ones(18).index_fill(0, torch.tensor([0, 13]), 0.0))
    )
    torch.testing.assert_close(full, mgvi.posterior(batch).mean("z"), rtol=1e-4, atol=1e-5)
    assert not torch.equal(full, part)


def test_owners_and_copies_follow_from_who_has_what():
    having = {"rna": ("a", "b"), "prot": ("b", "c")}
    latents = Latents([shared(2), private(1, modalities=["prot"])], ("a", "b", "c"), having)
    assert [copy.key for copy in latents.copies] == ["z", "t_prot_b", "t_prot_c"]
    assert [x.name for x in latents.reaching("rna")] == ["z"]
    with pytest.raises(SettingsError, match=r"'x'\]; they have \['rna', 'prot'\]"):
        Latents([modality("x", 2)], ("a", "b", "c"), having)
    with pytest.raises(SettingsError, match="they have one"):
        Latents([modality("prot", 2)], ("a", "b"))
    with pytest.raises(SettingsError, match="no list of names"):
        shared(2, modalities="rna")


@pytest.mark.parametrize("text", ["z:2@rna+prot", "t:3@prot", "modality:prot:2", "u=a+b:2@r\\+n"])
def test_latents_with_a_reach_are_texts(text):
    latent = parse(text).over(("a", "b"))
    assert latent.modalities
    assert parse(as_text(latent, ("a", "b"))).over(("a", "b")) == latent


def broken(change):
    mdata = small()
    parts = {name: part.copy() for name, part in mdata.mod.items()}
    change(parts)
    return mudata_of(parts)


def test_bad_data_are_named():
    mdata = small()
    with pytest.raises(DataError, match=r"modalities not in the data: atac; they have \['rna'"):
        MGVI.from_mudata(mdata, "donor", {"atac": NB})
    with pytest.raises(DataError, match=r"no modality is given"):
        MGVI.from_mudata(mdata, "donor", {})
    with pytest.raises(SettingsError, match="give a likelihood for each"):
        MGVI.from_mudata(mdata, "donor", ["rna"])
    with pytest.raises(SettingsError, match="'prot': Gaussian is of transformed"):
        MGVI.from_mudata(mdata, "donor", {"rna": ZINB, "prot": Gaussian})
    with pytest.raises(DataError, match="AnnData, not a MuData"):
        MGVI.from_mudata(mdata.mod["rna"], "donor", {"rna": NB})
    with pytest.raises(SettingsError, match="latents='discover' is for one modality"):
        MGVI.from_mudata(small(), "donor", LIKELIHOODS, latents="discover")
    with pytest.raises(DataError, match=r"'nothing' is a column neither of .*have: donor, kind$"):
        MGVI.from_mudata(mdata, "nothing", LIKELIHOODS)
    with pytest.raises(DataError, match="layers are named of modalities"):
        MGVI.from_mudata(mdata, "donor", {"rna": NB}, layers={"prot": "counts"})
    with pytest.raises(DataError, match="modality 'rna': layer 'x' is not in"):
        MGVI.from_mudata(mdata, "donor", LIKELIHOODS, layers={"rna": "x"})
    with pytest.raises(SettingsError, match="no latent reaches modality 'prot'"):
        model(mdata, latents=(shared(2, modalities=["rna"]),))
    with pytest.raises(DataError, match="from_mudata for several"):
        MGVI.from_anndata(mdata, "donor")
    with pytest.raises(SettingsError, match=r"not support several .*rna and prot"):
        model(mdata).add_group(mdata)


def test_bad_counts_are_named():
    def logs(parts):
        parts["prot"].X = np.log1p(parts["prot"].X)

    with pytest.raises(DataError, match=r"modality 'prot': adata.X has the fractional value"):
        model(broken(logs))

    def other_donor(parts):
        parts["prot"].obs["donor"] = parts["prot"].obs["donor"].to_numpy()[::-1].copy()

    with pytest.raises(
        DataError, match="'cell0' has donor 'd0' in one modality and 'd1' in 'prot'"
    ):
        model(broken(other_donor))

    def nothing(parts):
        parts["prot"].X = np.zeros_like(parts["prot"].X)

    with pytest.raises(DataError, match="no cell has a count in prot"):
        model(broken(nothing))

    def twice(parts):
        parts["prot"].var_names = ["p"] * parts["prot"].n_vars

    with pytest.raises(DataError, match="'prot' has features of one name: p"):
        model(broken(twice))


def test_cells_of_one_name_are_refused():
    mdata = small()
    names = list(mdata.mod["rna"].obs_names)
    names[1] = names[0]
    mdata.mod["rna"].obs_names = names
    with pytest.raises(DataError, match="different cells of one name: cell0"):
        model(mdata)


def test_donors_that_have_nothing_in_common_are_refused():
    mdata = mosaic()
    parts = {
        "rna": mdata.mod["rna"][mdata.mod["rna"].obs["donor"] == "d0"].copy(),
        "prot": mdata.mod["prot"][mdata.mod["prot"].obs["donor"] != "d0"].copy(),
    }
    with pytest.raises(DataError, match=r"group\(s\) d0 share no feature"):
        model(mudata_of(parts))


def test_a_model_of_one_anndata_takes_no_mudata():
    mdata = small()
    mgvi = MGVI.from_anndata(mdata.mod["rna"], "donor", latents=(shared(2),))
    with pytest.raises(DataError, match="of one AnnData, not of a MuData"):
        mgvi.latents(mdata)


def test_steps_of_training_lower_the_loss():
    mdata = small(n=120)
    mgvi = model(mdata)
    mgvi.fit(mdata, max_epochs=12, progress=False)
    assert mgvi.history["train"].iloc[-1] < mgvi.history["train"].iloc[0]
    assert isinstance(mgvi.read(mdata), GroupedCounts)
    assert isinstance(mdata.mod["rna"], AnnData)


def test_groups_are_shuffled_among_those_with_the_same_modalities():
    mdata = mosaic(prot="d0")
    data = model(mdata).read(mdata)
    shuffled = shuffled_groups(data, seed=0)
    assert (shuffled.group_n[data.group_n == 0] == 0).all()
    moved = shuffled.group_n != data.group_n
    assert moved.any() and (np.bincount(shuffled.group_n) == np.bincount(data.group_n)).all()
    alone = mosaic(prot="d0", rna="d1")
    with pytest.raises(DataError, match="no two groups have the same modalities"):
        shuffled_groups(model(alone).read(alone), seed=0)


def test_scores_are_freed_from_each_modality_s_size():
    mdata = mosaic(prot="d0")
    mgvi = model(mdata)
    data = mgvi.read(mdata)
    ((_, posterior),) = mgvi.posteriors(data)
    found = nuisance(posterior, observed_size(posterior))
    everyones = 3 + 2  # z and rna
    assert found.shape == (60, 1 + 2 + 2 * everyones) and torch.isfinite(found).all()
