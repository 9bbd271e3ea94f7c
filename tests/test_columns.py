"""Groups of several columns, from the data to results: each part knows levels by name."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.columns import GROUPS, KEYS, LATENTS, tissue_by_drug
from helpers.fitting import same

from pyro_mgvi import (
    MGVI,
    DataError,
    DataWarning,
    SettingsError,
    TrainingPlan,
    cross_fit,
    plots,
    shared,
    subsets,
)
from pyro_mgvi.analysis.cross_fit import shuffled_fit
from pyro_mgvi.analysis.metrics import probe
from pyro_mgvi.cli.main import main
from pyro_mgvi.report import render

PLAN = TrainingPlan(max_epochs=12, batch_size=40, prune_below=0)
KEPT = {"z", "t_tissue_Colon", "t_tissue_Ileum", "t_drug_ctrl", "t_drug_stim"}


@pytest.fixture(scope="module")
def fitted():
    torch.set_num_threads(1)
    adata = tissue_by_drug()
    mgvi = MGVI.from_anndata(adata, KEYS, latents=LATENTS)
    found = mgvi.fit(adata, PLAN, progress=False)
    mgvi.write_latents(adata)
    return adata, mgvi, found


@pytest.mark.slow
def test_latents_are_named_by_column_and_level(fitted):
    adata, mgvi, _ = fitted
    latents = mgvi.latents(adata)
    assert set(latents) == KEPT | {f"t_tissue_drug_{group}" for group in GROUPS}
    ileum = (adata.obs["tissue"] == "Ileum").to_numpy()
    np.testing.assert_array_equal(latents["t_tissue_Ileum"].notna().all(axis=1), ileum)
    both = ileum & (adata.obs["drug"] == "stim").to_numpy()
    np.testing.assert_array_equal(latents["t_tissue_drug_Ileum_stim"].notna().all(axis=1), both)
    assert {f"X_mgvi_{key}" for key in latents} == set(adata.obsm)
    settings = json.loads(adata.uns["mgvi"]["settings"])
    assert settings["group_key"] == list(KEYS)


def test_by_default_each_column_s_levels_have_a_latent():
    mgvi = MGVI.from_anndata(tissue_by_drug(), KEYS)
    assert {copy.key for copy in mgvi.families.copies} == KEPT
    assert [family.dim for family in mgvi.families] == [10, 10, 10]


def test_the_summary_says_who_owns_what(fitted):
    table = fitted[2].latents.set_index("latent")
    assert table.loc["t_drug_stim", "owns"] == "drug stim" and table.loc["z", "owns"] == "all"
    assert table.loc["t_tissue_drug_Ileum_stim", "owns"] == "tissue x drug Ileum_stim"
    assert "Ileum_stim" in str(fitted[2])


def test_a_saved_model_says_the_same(fitted, tmp_path):
    adata, mgvi, _ = fitted
    mgvi.save(tmp_path / "model")
    loaded = MGVI.load(tmp_path / "model")
    assert loaded.schema == mgvi.schema and loaded.families.design == mgvi.families.design
    assert same(loaded.latents(adata), mgvi.latents(adata))
    pd.testing.assert_frame_equal(
        loaded.rank_genes(adata, "stim", calibration=False),
        mgvi.rank_genes(adata, "stim", calibration=False),
    )


def test_a_level_s_genes_are_ranked_on_all_of_its_cells(fitted):
    adata, mgvi, _ = fitted
    table = mgvi.rank_genes(adata, "stim", calibration=False)
    stim = (adata.obs["drug"] == "stim").to_numpy()
    np.testing.assert_allclose(table["bayes_factor"] / table["per_cell"], stim.sum())
    own = mgvi.rank_genes(adata, "stim", offset="own", calibration=False)
    named = mgvi.rank_genes(adata, "t_drug_stim", offset="own", latents="t_drug", calibration=False)
    pd.testing.assert_frame_equal(own, named)
    assert not own["bayes_factor"].equals(table["bayes_factor"])
    combination = mgvi.rank_genes(adata, "Ileum_stim", calibration=False)
    assert not combination["bayes_factor"].equals(table["bayes_factor"])
    with pytest.raises(DataError, match="'lung' is unknown"):
        mgvi.rank_genes(adata, "lung", calibration=False)


@pytest.mark.slow
def test_q_values_of_a_level(fitted):
    adata, mgvi, _ = fitted
    refits = cross_fit(mgvi, adata, max_epochs=2, progress=False)
    table = mgvi.rank_genes(adata, "stim", calibration=refits)
    assert table["q_value"].between(0, 1).all()
    programs = mgvi.programs(adata, "t_drug_stim", calibration=refits)
    assert set(programs["latent"]) <= {"t_drug_stim"}
    null = shuffled_fit(mgvi, adata, max_epochs=2, progress=False)
    verdict = str(mgvi.diagnose(adata, refits=refits, shuffled=null, progress=False))
    assert "drug stim" in verdict


def test_q_values_for_new_donors_of_a_level(fitted):
    adata, _, _ = fitted
    mgvi = MGVI.from_anndata(adata, KEYS, latents=LATENTS, sample_key="donor")
    mgvi.fit(adata, TrainingPlan(max_epochs=2), progress=False)
    refits = cross_fit(mgvi, adata, max_epochs=1, progress=False)
    table = mgvi.rank_genes(adata, "stim", calibration=refits)
    assert table.attrs["q_value_of"] == "new samples" and table["q_value"].notna().all()
    with pytest.warns(DataWarning, match="no q-value of Ileum_stim"):
        few = adata.obs["donor"].isin(["stim0", "ctrl0", "ctrl1", "ctrl2"]).to_numpy()
        mgvi.rank_genes(adata, "Ileum_stim", few, calibration=refits)


def test_sets_of_cells_and_expression_know_levels(fitted):
    adata, mgvi, _ = fitted
    masks = [(adata.obs["drug"] == level).to_numpy() for level in ("stim", "ctrl")]
    by_name = mgvi.differential_expression(adata, "stim", "ctrl", n_draws=20)
    by_mask = mgvi.differential_expression(adata, *masks, n_draws=20)
    pd.testing.assert_frame_equal(by_name, by_mask)
    cells = mgvi.own(adata, "stim")
    assert cells.n_obs == masks[0].sum() and "X_mgvi_t_drug_stim" in cells.obsm
    assert "X_mgvi_t_tissue_Ileum" not in cells.obsm
    shares = mgvi.normalized_expression(adata, latents=["z", "t_tissue"])
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-4)
    assert len(plots.expression(mgvi, adata, "stim", list(adata.var_names[:2]), show=False)) == 2


def test_rankings_of_levels_are_where_scanpy_looks(fitted):
    adata, mgvi, _ = fitted
    written = adata.copy()
    tables = {level: mgvi.rank_genes(adata, level, calibration=False) for level in ("ctrl", "stim")}
    mgvi.write_rankings(written, tables)
    assert written.uns["rank_genes_mgvi"]["params"]["groupby"] == "drug"
    mgvi.write_rankings(written, {"Ileum_stim": tables["stim"]})
    assert written.uns["rank_genes_mgvi"]["params"]["groupby"] == "tissue x drug"
    for other, column in (("Ileum", "tissue"), ("Ileum_stim", "tissue x drug")):
        with pytest.raises(DataError, match=f"stim of 'drug', {other} of '{column}'"):
            mgvi.write_rankings(written, {"stim": tables["stim"], other: tables["ctrl"]})


@pytest.mark.slow
def test_scanpy_draws_rankings_of_combinations_with_the_column_that_they_are_of(fitted):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scanpy = pytest.importorskip("scanpy")
    adata, mgvi, _ = fitted
    written = adata.copy()
    tables = {name: mgvi.rank_genes(adata, name, calibration=False) for name in GROUPS[:2]}
    mgvi.write_rankings(written, tables)
    tissue, drug = (written.obs[key].astype(str) for key in KEYS)
    written.obs["tissue x drug"] = tissue + "_" + drug
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = scanpy.pl.rank_genes_groups_dotplot(
            written, key="rank_genes_mgvi", n_genes=2, dendrogram=False, show=False
        )
    assert "mainplot_ax" in found
    pyplot.close("all")


@pytest.mark.slow
def test_a_checkpoint_goes_on(tmp_path):
    adata, plan = tissue_by_drug(), TrainingPlan(max_epochs=4, batch_size=40)
    whole = MGVI.from_anndata(adata, KEYS, latents=LATENTS)
    whole.fit(adata, plan, progress=False)
    part = MGVI.from_anndata(adata, KEYS, latents=LATENTS)
    part.fit(adata, plan, checkpoint=tmp_path / "state", progress=False)
    again = MGVI.from_anndata(adata, KEYS, latents=LATENTS)
    again.fit(adata, plan, checkpoint=tmp_path / "state", progress=False)
    assert same(again.latents(adata), whole.latents(adata))


def test_a_group_cannot_be_added(fitted):
    adata, mgvi, _ = fitted
    with pytest.raises(SettingsError, match=r"several columns.*tissue and drug.*train a new model"):
        mgvi.add_group(adata)


@pytest.mark.slow
def test_the_report_shows_columns_and_levels(fitted):
    adata, mgvi, _ = fitted
    for model in (mgvi, None):
        page = render(adata.copy(), model, labels=["celltype"], progress=False)
        assert "tissue x drug" in page and "t_drug_stim" in page and "drug stim" in page
    assert "--group-key tissue drug" in page


@pytest.mark.slow
def test_the_command_line_takes_several_columns(tmp_path, capsys):
    path, out, model = tmp_path / "in.h5ad", tmp_path / "out.h5ad", tmp_path / "model"
    tissue_by_drug().write_h5ad(path)
    fit = ["fit", path, "--group-key", *KEYS, "--latents", "z:2", "per:drug:2",
           "per:tissue+drug:1", "--epochs", "2", "--quiet", "--out", out,
           "--model", model]  # fmt: skip
    assert main(list(map(str, fit))) == 0
    assert "X_mgvi_t_drug_stim" in capsys.readouterr().out
    rank = ["rank-genes", model, out, "--group", "stim", "--no-q", "--out", tmp_path / "g.csv"]
    assert main(list(map(str, rank))) == 0
    assert len(pd.read_csv(tmp_path / "g.csv")) == 90
    behind = ["fit", "--quiet", "--epochs", "1", "--out", out, "--group-key", "drug", path]
    assert main(list(map(str, behind))) == 0
    with pytest.raises(SystemExit):
        main(["fit", "--out", str(out), "--group-key", "drug"])
    assert main(list(map(str, ["fit", path, "--group-key", "tissue", "age", "--out", out]))) == 2
    assert "'age' is not a column" in capsys.readouterr().err


def test_names_of_copies_work_where_groups_are_donors():
    adata = tissue_by_drug()
    condition = {level: [f"{level}{i}" for i in range(3)] for level in ("ctrl", "stim")}
    latents = (shared(2), subsets("condition", condition, 2))
    mgvi = MGVI.from_anndata(adata, "donor", latents=latents)
    mgvi.fit(adata, TrainingPlan(max_epochs=2), progress=False)
    stim = (adata.obs["drug"] == "stim").to_numpy()
    known = mgvi.latents(adata)["condition_stim"].notna().all(axis=1)
    np.testing.assert_array_equal(known, stim)
    for name in ("stim", "condition_stim"):
        table = mgvi.rank_genes(adata, name, calibration=False)
        np.testing.assert_allclose(table["bayes_factor"] / table["per_cell"], stim.sum())


def test_donors_nested_in_conditions_are_two_columns():
    adata = tissue_by_drug()
    mgvi = MGVI.from_anndata(adata, ("drug", "donor"), latents=("z:2", "per:drug:2", "per:donor:1"))
    mgvi.fit(adata, TrainingPlan(max_epochs=2), progress=False)
    keys = {"z", "t_drug_ctrl", "t_drug_stim"} | {f"t_donor_{d}" for d in set(adata.obs["donor"])}
    assert set(mgvi.latents(adata)) == keys
    table = mgvi.rank_genes(adata, "stim", calibration=False)
    assert table["bayes_factor"].notna().all()


@pytest.mark.slow
def test_programs_of_levels_are_in_their_own_latents():
    adata = tissue_by_drug(n_cells=2000, n_genes=300, n_program_genes=100, seed=3)
    mgvi = MGVI.from_anndata(adata, KEYS)
    mgvi.fit(adata, progress=False)
    latents = mgvi.latents(adata)
    pairs = {"t_tissue_Ileum": "pair_Ileum_ctrl+Ileum_stim",
             "t_drug_stim": "pair_Colon_stim+Ileum_stim"}  # fmt: skip
    for key, column in pairs.items():
        other = next(each for each in pairs if each != key)
        own = latents[key].notna().all(axis=1).to_numpy()
        program = adata.obs[column].to_numpy(str)
        assert probe(latents[key].to_numpy()[own], program[own]) > 0.9
        both = own & latents[other].notna().all(axis=1).to_numpy()
        assert probe(latents[other].to_numpy()[both], program[both]) < 0.6
    for key in ("t_tissue_Colon", "t_drug_ctrl"):
        assert np.nanstd(latents[key].to_numpy(), axis=0).max() == 0
