"""Latents in an AnnData: those of one fit, with a record of what wrote them."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers.fitting import LATENTS, fitted, untrained

import pyro_mgvi
from pyro_mgvi import DataError, DataWarning, Latents, SettingsError, subsets
from pyro_mgvi.analysis.latent_values import latent_blocks
from pyro_mgvi.report import render


@pytest.fixture(scope="module")
def trained(adata):
    return fitted(adata)


def by_type(adata):
    cells = adata.copy()
    cells.obs["type"] = np.where(adata.obs["celltype"] == "T1", "one", "rest")
    return cells


@pytest.mark.slow
def test_latents_of_an_earlier_fit_go_and_are_named(adata, trained):
    cells = by_type(adata)
    trained.write_latents(cells)
    trained.write_latents(cells)  # the same fit: nothing to say
    cells.obsm["X_pca"] = np.zeros((120, 2))
    cells.obsm["X_mgvi_mine"] = np.ones((120, 2))  # of the user, who had it there before
    other = pyro_mgvi.MGVI.from_anndata(cells, "type", latents=LATENTS)
    removed = "obsm: X_mgvi_t_group1, X_mgvi_t_group2, X_mgvi_t_group3$"
    with pytest.warns(DataWarning, match=removed) as caught:
        other.write_latents(cells)
    assert len([each for each in caught if each.category is DataWarning]) == 1
    assert sorted(cells.obsm) == [
        "X_mgvi_mine",
        "X_mgvi_t_one",
        "X_mgvi_t_rest",
        "X_mgvi_z",
        "X_pca",
    ]


def test_latents_of_earlier_versions_go_where_nothing_is_recorded(adata, trained):
    cells = adata.copy()
    cells.obsm["X_mgvi_t_old"] = np.zeros((120, 2))
    with pytest.warns(DataWarning, match="X_mgvi_t_old"):
        trained.write_latents(cells)


def test_each_prefix_has_latents_of_its_own(adata, trained):
    cells = by_type(adata)
    cells.obsm["X_pca"] = np.zeros((120, 2))
    other = pyro_mgvi.MGVI.from_anndata(cells, "type", latents=LATENTS)
    for prefix in ("X_", "X_mgvi_types_"):
        other.write_latents(cells, prefix=prefix)
    trained.write_latents(cells)
    trained.write_latents(cells)
    assert {"X_pca", "X_z", "X_t_one", "X_mgvi_types_z", "X_mgvi_z"} < set(cells.obsm)
    assert {"mgvi", "mgvi_X_", "mgvi_X_mgvi_types_"} <= set(cells.uns)
    assert json.loads(cells.uns["mgvi"]["settings"])["group_key"] == "group"
    with pytest.warns(DataWarning, match="obsm: X_t_one, X_t_rest$"):
        trained.write_latents(cells, prefix="X_")
    assert "X_pca" in cells.obsm
    for prefix in ("a/b", "", None):
        with pytest.raises(SettingsError, match="prefix must be"):
            trained.write_latents(cells, prefix=prefix)


@pytest.mark.slow
def test_what_wrote_the_latents_is_recorded_and_enough_for_a_report(adata, tmp_path):
    cells = adata.copy()
    cells.obs["donor"] = ["d1", "d2"] * 60
    latents = (*LATENTS, subsets("few", [["group1", "group2"]], 2))
    mgvi = fitted(cells, latents=latents, batch_key="donor")
    mgvi.write_latents(cells, foreign="encode")
    cells.write_h5ad(tmp_path / "x.h5ad")
    back = ad.read_h5ad(tmp_path / "x.h5ad")
    record = back.uns["mgvi"]
    settings = json.loads(record["settings"])
    assert settings["group_key"] == "group" and settings["batch_key"] == "donor"
    assert settings["latents"] == ["z:3", "t:2", "few=group1+group2:2"]
    assert settings["foreign"] == "encode" and "use_raw" not in settings
    assert Latents(settings["latents"], mgvi.schema.groups).copies == mgvi.families.copies
    assert list(record["latents"]) == [f"X_mgvi_{copy.key}" for copy in mgvi.families.copies]
    assert record["versions"]["pyro_mgvi"] == pyro_mgvi.__version__
    pd.testing.assert_frame_equal(
        record["history"].reset_index(drop=True), mgvi.history, check_dtype=False
    )
    assert "few" in render(back, progress=False)
    mgvi.history["train"] = 0.0
    assert (cells.uns["mgvi"]["history"]["train"] != 0).all()  # a copy


def test_latents_without_a_history_can_be_stored(adata, tmp_path):
    cells = adata.copy()
    untrained(adata).write_latents(cells)
    cells.write_h5ad(tmp_path / "x.h5ad")
    assert "X_mgvi_z" in ad.read_h5ad(tmp_path / "x.h5ad").obsm


def test_a_view_is_written_to_without_a_word_and_leaves_the_whole_as_it_is(adata, trained):
    whole = adata.copy()
    part = whole[:60]
    trained.write_latents(part)
    assert "X_mgvi_z" in part.obsm and not whole.obsm and not whole.uns


def test_a_backed_view_is_refused_before_any_work(adata, trained, tmp_path):
    adata.write_h5ad(tmp_path / "x.h5ad")
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    with pytest.raises(DataError, match=r"backed mode: take mgvi.latents\(adata\)"):
        trained.write_latents(backed[:60])
    assert len(trained.latents(backed[:60])["z"]) == 60
    trained.write_latents(backed)
    np.testing.assert_array_equal(backed.obsm["X_mgvi_z"], trained.latents(adata)["z"])


def test_blocks_are_the_latents_of_cells_in_order(adata, trained):
    data, wanted = trained.read(adata), trained.latents(adata, foreign="encode")
    blocks = [*latent_blocks(trained, data, foreign="encode")]
    np.testing.assert_array_equal(np.concatenate([cells for cells, _ in blocks]), np.arange(120))
    for key, table in wanted.items():
        found = np.concatenate([values[key] for _, values in blocks])
        np.testing.assert_array_equal(found, table)


def test_a_bar_shows_that_cells_are_encoded(adata, trained, monkeypatch, capsys):
    monkeypatch.setattr("pyro_mgvi.support.progress.DELAY", 0.0)
    for bar in (True, False):
        trained.write_latents(adata.copy(), progress=bar)
        trained.latents(adata, progress=bar)
        assert ("encoding" in capsys.readouterr().err) is bar


def test_latents_are_written_to_annotated_data_only(adata, trained):
    with pytest.raises(DataError, match=r"write_latents\(adata, counts=counts\)"):
        trained.write_latents(trained.read(adata))
    with pytest.raises(DataError, match="read_h5ad"):
        trained.write_latents("x.h5ad")
    with pytest.raises(DataError, match="other cells than these 60"):
        trained.write_latents(adata[:60].copy(), counts=trained.read(adata))


def test_counts_that_are_read_know_the_names_of_their_cells(adata, trained):
    data = trained.read(adata).subset(np.arange(30, 90))
    names = pd.Index(adata.obs_names[30:90], name="cell")
    z = trained.latents(data)["z"]
    pd.testing.assert_frame_equal(z, trained.latents(adata[30:90])["z"])
    of_cells = trained.effect_sizes(data), trained.normalized_expression(data)
    assert all(each.index.equals(names) and each.index.name == "cell" for each in of_cells)
    half = names[::2]
    by_name = trained.rank_genes(data, "group1", list(half), calibration=False)
    mask = pd.Series(names.isin(half), names).sample(frac=1, random_state=0)
    for given in (mask, mask[names].to_numpy()):
        ranked = trained.rank_genes(data, "group1", given, calibration=False)
        pd.testing.assert_frame_equal(ranked, by_name)
    data.names = None  # of counts made from arrays
    assert list(trained.latents(data)["z"].index) == list(range(30, 90))
