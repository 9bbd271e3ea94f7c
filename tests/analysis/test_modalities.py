"""What is asked of a model of several modalities takes the MuData, and tells them apart."""

import warnings

import numpy as np
import pandas as pd
import pytest
from helpers.modalities import LATENTS, LIKELIHOODS, fitted_mosaic, model, mosaic, mudata_of, small

from pyro_mgvi import MGVI, DataError, cross_fit, plots
from pyro_mgvi.data.modalities import labelled
from pyro_mgvi.model.decoding import Decoding
from pyro_mgvi.plots.programs import _observed

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def fitted():
    return fitted_mosaic(max_epochs=2)  # what is noise is closed later


@pytest.mark.parametrize("mdata", [small(), mosaic(prot="d0")], ids=["all", "mosaic"])
def test_a_latent_of_a_modality_is_nobody_s_own(mdata):
    """Whether a donor lacks proteins or not, their latent is no donor's variation."""
    families = model(mdata).families
    kept = Decoding.leaving_out(families).kept
    assert kept == {"z", "rna", "prot"}
    assert families.of_everyone == ("z", "rna", "prot")
    assert Decoding.keeping(families, ["z", "prot"]).averaged
    assert not Decoding.keeping(families, ["z", "t"]).averaged


@pytest.mark.slow
def test_programs_are_of_what_a_latent_reaches(fitted):
    mdata, mgvi = fitted
    table = mgvi.programs(mdata, calibration=False)
    assert "z" not in set(table["latent"]) and {"rna", "prot"} <= set(table["latent"])
    modality = table["gene"].str.partition(":")[0]
    for name in LIKELIHOODS:
        assert (modality[table["latent"] == name] == name).all()
    assert set(modality[table["latent"] == "t_d1"]) == {"rna", "prot"}
    genes = dict(zip(mgvi.summary(mdata).latents["latent"], mgvi.summary(mdata).latents["genes"]))
    assert genes["z"] == "" and "prot:" in genes["prot"] and "rna:" not in genes["prot"]


def test_latents_are_written_to_a_part_of_a_mudata_without_a_word(fitted):
    mdata, mgvi = fitted
    part = mdata[mdata.obs_names[::2]]
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        mgvi.write_latents(part)
    assert part.obsm["X_mgvi_z"].shape[0] == part.n_obs


def test_columns_of_the_modalities_are_labels(fitted):
    mdata, mgvi = fitted
    summary = mgvi.program_summary(mdata, label_key="kind")
    assert "varies_in" in summary
    ranked = mgvi.rank_genes(mdata, "d1", calibration=False, by="kind")
    assert set(ranked.index.get_level_values("label")) == {"a", "b"}
    axes = plots.latents(mdata, [("X_mgvi_z", "kind"), ("X_mgvi_prot", "donor")], layout=plots.pca)
    assert [ax.get_title() for ax in axes] == ["z by kind", "prot by donor"]
    used = int(summary.query("latent == 'prot'")["dimension"].iloc[0])
    ax = plots.program(mgvi, mdata, "prot", used, label_key="kind")
    assert all(label.get_text().startswith("prot:") for label in ax.get_yticklabels())
    ranked = mgvi.rank_genes(mdata, "d1", calibration=False, by="rna:kind")  # as mudata pulls it
    assert set(ranked.index.get_level_values("label")) == {"a", "b"}
    with pytest.raises(DataError, match="label_key 'organ' is not a column"):
        mgvi.program_summary(mdata, label_key="organ")


def test_labels_are_those_of_one_modality_if_its_name_says_so(fitted):
    """Whether or not mudata pulls them into the obs of the whole."""
    mdata, mgvi = fitted
    parts = {name: part.copy() for name, part in mdata.mod.items()}
    parts["prot"].obs["kind"] = "other"  # so that the column of both contradicts itself
    mdata = mudata_of(parts)
    mdata.obs = mdata.obs[[]]
    mgvi.write_latents(mdata)
    summary = mgvi.program_summary(mdata, label_key="rna:kind")
    assert summary["varies_in"].str.contains(r"[ab] \(").any()
    (ax,) = plots.latents(mdata, [("X_mgvi_z", "rna:kind")], layout=plots.pca)
    assert ax.get_title() == "z by rna:kind"
    used = int(summary.query("latent == 'prot'")["dimension"].iloc[0])
    plots.program(mgvi, mdata, "prot", used, label_key="rna:kind")
    with pytest.raises(DataError, match="'rna:organ' is a column neither"):
        mgvi.program_summary(mdata, label_key="rna:organ")


def test_a_column_that_contradicts_itself_is_left_out_unless_it_is_needed():
    mdata = small()
    for name, part in mdata.mod.items():
        part.obs["depth"] = np.arange(40) if name == "rna" else 0
    mdata = mudata_of(dict(mdata.mod))
    assert list(labelled(mdata).obs) == ["donor", "kind"]
    with pytest.raises(DataError, match="has depth 1 in one modality and 0 in 'prot'"):
        labelled(mdata, ["depth"])


def test_a_picture_shows_each_modality_at_its_own_depth(fitted):
    mdata, mgvi = fitted
    data = mgvi.read(mdata)
    x_ng = _observed(mgvi, data)
    lacks = (data.x[:, 12:].sum(1) == 0).nonzero()[0]
    assert len(lacks) == 20 and np.isnan(x_ng[lacks, 12:]).all()
    assert np.isfinite(x_ng[:, :12]).all()
    doubled = mudata_of({name: part.copy() for name, part in mdata.mod.items()})
    doubled.mod["prot"].X = doubled.mod["prot"].X * 2
    deeper = _observed(mgvi, mgvi.read(doubled))
    np.testing.assert_array_equal(deeper[:, :12], x_ng[:, :12])  # RNA is none of its business


def test_single_cells_without_a_modality_are_blank_in_a_picture():
    parts = {name: part.copy() for name, part in small().mod.items()}
    parts["prot"] = parts["prot"][5:].copy()
    mdata = mudata_of(parts)
    x_ng = _observed(model(mdata), model(mdata).read(mdata))
    lacks = ~mdata.obs_names.isin(parts["prot"].obs_names)
    assert lacks.sum() == 5 and np.isfinite(x_ng[:, :12]).all()
    assert np.isnan(x_ng[lacks, 12:]).all() and np.isfinite(x_ng[~lacks]).all()


def test_depths_are_compared_within_a_modality():
    """A donor with few proteins and no RNA is no shallow donor."""
    mdata = small(n=120, groups=2)
    parts = {name: part.copy() for name, part in mdata.mod.items()}
    parts["rna"].X = parts["rna"].X * 100
    parts["rna"] = parts["rna"][parts["rna"].obs["donor"] == "d0"].copy()
    mgvi = model(mudata_of(parts))
    said = mgvi.summary(mudata_of(parts)).hints
    assert not [hint for hint in said if "times the counts" in hint]
    deep = parts["prot"].obs["donor"].to_numpy() == "d0"
    parts["prot"].X[deep] *= 5
    said = mgvi.summary(mudata_of(parts)).hints
    assert [hint for hint in said if "times the counts of prot of one of d1" in hint]


def test_a_feature_s_means_are_over_the_cells_that_have_its_modality():
    mdata = small()
    own = np.flatnonzero(mdata["prot"].obs["donor"] == "d1")
    mdata["prot"].X[own[::2]] = 0  # half of the donor's cells have no proteins
    mgvi = model(mdata)
    mgvi.fit(mdata, max_epochs=2, progress=False)
    asked = {"calibration": False, "progress": False}
    has = np.isin(np.arange(mdata.n_obs), own[::2], invert=True)
    of_all, of_those = (mgvi.rank_genes(mdata, "d1", cells, **asked) for cells in (None, has))
    proteins = [name for name in of_all.index if name.startswith("prot:")]
    np.testing.assert_allclose(of_all.loc[proteins], of_those.loc[proteins], rtol=1e-4, atol=1e-6)
    genes = of_all.drop(index=proteins)
    np.testing.assert_allclose(genes["per_cell"], genes["bayes_factor"] / len(own), rtol=1e-6)
    np.testing.assert_allclose(of_all.loc[proteins, "mean_all"].sum(), 1e4, rtol=1e-3)


@pytest.mark.slow
def test_a_cell_without_a_modality_takes_no_q_value_from_its_genes():
    mdata = small(n=160)
    mdata["prot"].X[::20] = 0  # eight cells have no proteins
    mgvi = model(mdata, latents=LATENTS[:2])
    mgvi.fit(mdata, max_epochs=2, progress=False)
    refits = cross_fit(mgvi, mdata, max_epochs=2, progress=False)
    for offset in ("averaged", "own"):
        asked = {"offset": offset, "calibration": refits, "progress": False}
        z = mgvi.rank_genes(mdata, "d1", **asked)["z_score"]
        assert z.notna().all() and (z != 0).all()
    z = mgvi.programs(mdata, "t", calibration=refits, progress=False)["z_score"]
    assert z.notna().all() and (z != 0).mean() > 0.5
    has = np.arange(mdata.n_obs) % 20 != 0
    of_all, of_those = (
        mgvi.rank_genes(mdata, "d1", cells, calibration=refits, progress=False)["z_score"]
        for cells in (None, has)
    )
    proteins = of_all.index.str.startswith("prot:")
    np.testing.assert_allclose(
        of_all[proteins], of_those[of_all.index[proteins]], rtol=0.2, atol=0.2
    )


@pytest.mark.slow
def test_genes_that_too_few_cells_have_are_not_tested():
    mdata = small(n=160)
    own = np.flatnonzero(mdata["prot"].obs["donor"] == "d1")
    mdata["prot"].X[own[20:]] = 0  # 20 of the donor's 80 cells have proteins
    mgvi = model(mdata, latents=LATENTS[:2])
    mgvi.fit(mdata, max_epochs=2, progress=False)
    table = mgvi.rank_genes(mdata, "d1", calibration=True, progress=False)
    proteins = table.index.str.startswith("prot:")
    assert table.loc[proteins, "q_value"].isna().all()
    assert table.loc[~proteins, "q_value"].notna().all()
    assert table.attrs["genes_without_q"].startswith("6 genes have no q-value: too few cells")


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
def test_a_sample_without_a_modality_is_left_out_for_its_genes(paired):
    mdata = small(n=480)
    number = np.arange(480) // (2 if paired else 1) % 8
    for part in mdata.mod.values():
        part.obs["sample"] = [f"s{i}" for i in number]
    mdata["prot"].X[number == 0] = 0
    mdata = mudata_of(dict(mdata.mod))
    mgvi = MGVI.from_mudata(mdata, "donor", LIKELIHOODS, latents=LATENTS[:2], sample_key="sample")
    mgvi.fit(mdata, max_epochs=2, progress=False)
    refits = cross_fit(mgvi, mdata, max_epochs=2, progress=False)
    for offset in ("averaged", "own"):

        def ranked(left_out, offset=offset):
            cells = ~np.isin(number, left_out)
            table = mgvi.rank_genes(mdata, "d0", cells, offset, calibration=refits, progress=False)
            return table.sort_index()

        table, without, few = map(ranked, ([], [0], [2, 3, 4, 5, 6] if paired else [2]))
        proteins = table.index.str.startswith("prot:")
        assert table["z_score"].notna().all() and (table["z_score"] != 0).mean() > 0.5
        assert "genes_without_q" not in table.attrs
        order = table.index[proteins]  # genes are tested beside RNA of the same samples
        assert table.loc[order, "z_score"].corr(without.loc[order, "z_score"]) > 0.9
        assert few["q_value"].isna().equals(pd.Series(proteins, few.index))  # two samples are left
        assert "at least 3 samples" in few.attrs["genes_without_q"]
