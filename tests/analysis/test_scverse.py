"""Own cells and rankings as users of scanpy expect them."""

import warnings
from importlib.metadata import version

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers.fitting import fitted, untrained
from packaging.version import Version
from scipy import sparse

from pyro_mgvi import (
    MGVI,
    DataError,
    DataWarning,
    SettingsError,
    TrainingPlan,
    pairwise,
    private,
    shared,
)

KEY = "rank_genes_mgvi"
KEEP_ALL = TrainingPlan(max_epochs=2, batch_size=32, prune_below=0)


@pytest.fixture(scope="module")
def scanpy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("scanpy")


@pytest.fixture(scope="module")
def mgvi(adata):
    return fitted(adata, KEEP_ALL, latents=(shared(3), private(2), pairwise(1)))


def test_own_cells_have_their_latents_and_no_others(mgvi, adata):
    cells = mgvi.own(adata, "group2")
    assert list(cells.obs_names) == list(adata.obs_names[adata.obs["group"] == "group2"])
    assert set(cells.obsm) == {
        f"X_mgvi_{key}" for key in ("z", "t_group2", "pair_group1+group2", "pair_group2+group3")
    }
    assert not adata.obsm and not cells.is_view
    for key, table in mgvi.latents(cells).items():
        if f"X_mgvi_{key}" in cells.obsm:
            assert np.isfinite(table).all(axis=None)
            np.testing.assert_allclose(cells.obsm[f"X_mgvi_{key}"], table, atol=1e-5)
    both = mgvi.own(adata, "pair_group1+group3")
    assert set(both.obs["group"]) == {"group1", "group3"}
    assert set(both.obsm) == {"X_mgvi_z", "X_mgvi_pair_group1+group3"}
    assert mgvi.own(adata, "z").n_obs == 120


def test_latents_that_are_there_are_taken_as_they_are(mgvi, adata):
    written = adata.copy()
    mgvi.write_latents(written)
    written.X = np.log1p(written.X.toarray())  # normalised since: no counts to read
    cells = mgvi.own(written, "t_group1")
    mine = (adata.obs["group"] == "group1").to_numpy()
    np.testing.assert_array_equal(
        cells.obsm["X_mgvi_t_group1"], written.obsm["X_mgvi_t_group1"][mine]
    )
    assert "X_mgvi_t_group2" in written.obsm


def test_cells_that_the_model_leaves_out_are_not_among_them(adata, tmp_path):
    empty = adata.copy()
    empty.X = sparse.csr_matrix(adata.X.toarray() * (np.arange(120) >= 5)[:, None])
    mgvi = MGVI.from_anndata(empty, "group", drop_empty=True, latents=["z:2", "t:1"])
    cells = mgvi.own(empty, "group1")
    mine = (adata.obs["group"] == "group1").to_numpy() & (np.arange(120) >= 5)
    assert list(cells.obs_names) == list(adata.obs_names[mine])
    empty.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    pd.testing.assert_frame_equal(mgvi.own(backed, "group1").obs, cells.obs)
    part = mgvi.own(backed[:60], "group1")
    assert list(part.obs_names) == list(cells.obs_names.intersection(adata.obs_names[:60]))
    backed.file.close()


def as_lazy(adata, path):
    """Return the same cells as anndata reads them lazily."""
    pytest.importorskip("dask.array")
    pytest.importorskip("xarray")
    if Version(version("anndata")) < Version("0.12"):
        pytest.skip("anndata reads lazily from 0.12 on")
    adata.write_h5ad(path)
    return ad.experimental.read_lazy(path)


def as_backed(adata, path):
    adata.write_h5ad(path)
    return ad.read_h5ad(path, backed="r")


def as_foreign(adata, path):
    """Return the same cells with a column in another byte order, as HDF5 and FITS files may be."""
    adata.obs["age"] = adata.obs["age"].to_numpy().astype(np.dtype("f8").newbyteorder("S"))
    return adata


FORMS = {
    "lazy": as_lazy,
    "part of lazy": lambda adata, path: as_lazy(adata, path)[:],
    "part of a file": lambda adata, path: as_backed(adata, path)[:],
    "foreign": as_foreign,
    "foreign in a file": lambda adata, path: as_backed(as_foreign(adata, path), path),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("written", [False, True])
def test_cells_in_any_form_are_those_in_memory(mgvi, adata, form, written, tmp_path):
    cells = adata.copy()
    cells.obs["age"] = np.arange(120.0)
    if written:
        mgvi.write_latents(cells)
    there = FORMS[form](cells.copy(), tmp_path / "x.h5ad")
    expected, found = mgvi.own(cells, "group2"), mgvi.own(there, "group2")
    assert list(found.obs_names) == list(expected.obs_names) and type(found.X) is type(expected.X)
    np.testing.assert_array_equal(found.X.toarray(), expected.X.toarray())
    assert {*found.obsm} == {*expected.obsm}
    for key in found.obsm:
        np.testing.assert_allclose(found.obsm[key], expected.obsm[key], atol=1e-5)
    tables = [mgvi.program_summary(x, label_key="celltype") for x in (cells, there)]
    pd.testing.assert_frame_equal(*(table.sort_index(axis=1) for table in tables))


def test_latents_of_an_earlier_fit_are_removed_of_lazy_cells(mgvi, adata, tmp_path):
    cells = adata.copy()
    mgvi.write_latents(cells)
    lazy, other = as_lazy(cells, tmp_path / "x.h5ad"), untrained(adata, latents=(shared(1),))
    with pytest.warns(DataWarning, match="removed the latents of an earlier fit.*X_mgvi_t_group1"):
        other.write_latents(lazy)
    assert {*lazy.obsm} == {"X_mgvi_z"}


def test_names_that_are_none_or_several_are_refused(mgvi, adata):
    with pytest.raises(SettingsError, match="no latent is called 'group9'"):
        mgvi.own(adata, "group9")
    with pytest.raises(DataError, match="no cell owns t_group1"):
        mgvi.own(adata[(adata.obs["group"] != "group1").to_numpy()].copy(), "t_group1")
    with pytest.raises(DataError, match="needs the AnnData"):
        mgvi.own(mgvi.read(adata), "group1")
    with pytest.raises(DataError, match="'group' is not a column"):
        mgvi.own(ad.AnnData(adata.X, var=adata.var), "group1")
    empty = untrained(adata)
    empty.model.active.close({"t": empty.model.active["t"].clone()})
    with pytest.warns(DataWarning, match="t_group1 has no dimension in use"):
        empty.own(adata, "group1")


@pytest.mark.parametrize(
    "levels",
    [pd.to_datetime(["2020-01-01", "2020-02-01"]), np.array([0.1, 3], np.float32), [True, False]],
    ids=["dates", "float32", "bool"],
)
def test_groups_that_are_no_text_are_found_by_the_names_that_the_model_gives_them(adata, levels):
    cells = adata.copy()
    cells.obs["kind"] = pd.Series(levels).iloc[np.arange(120) % 2].to_numpy()
    mgvi = MGVI.from_anndata(cells, "kind", latents=["z:2", "t:1"])
    for name in mgvi.schema.groups:
        assert mgvi.own(cells, name).n_obs == 60


@pytest.mark.slow
def test_scanpy_finds_neighbours_of_own_cells(mgvi, adata, scanpy):
    cells = mgvi.own(adata, "group2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scanpy.pp.neighbors(cells, n_neighbors=5, use_rep="X_mgvi_t_group2")
    assert cells.obsp["connectivities"].nnz


@pytest.fixture
def ranked(mgvi, adata):
    written = adata.copy()
    rankings = {
        group: mgvi.rank_genes(adata, group, calibration=False) for group in ("group1", "group3")
    }
    rankings["group1"]["z_score"] = np.linspace(5, -5, 60)
    rankings["group1"]["q_value"] = np.linspace(0, 1, 60)
    mgvi.write_rankings(written, rankings)
    return written, rankings


def test_scanpy_reads_a_ranking_before_and_after_it_was_stored(ranked, scanpy, tmp_path):
    written, rankings = ranked
    written.write_h5ad(tmp_path / "ranked.h5ad")
    for adata in (written, ad.read_h5ad(tmp_path / "ranked.h5ad")):
        for group, table in rankings.items():
            found = scanpy.get.rank_genes_groups_df(adata, group=group, key=KEY)
            assert list(found["names"]) == list(table.index)
            for column, truth in (
                ("scores", "bayes_factor"),
                ("logfoldchanges", "log_fold_change"),
                ("pvals_adj", "q_value"),
            ):
                np.testing.assert_allclose(found[column], table[truth], rtol=1e-6, err_msg=column)
        found = scanpy.get.rank_genes_groups_df(adata, group="group1", key=KEY)
        assert found["pvals"].between(0, 1).all() and found["pvals"].is_monotonic_increasing
        both = scanpy.get.rank_genes_groups_df(adata, group=None, key=KEY)
        assert both["group"].value_counts().to_dict() == {"group1": 60, "group3": 60}


def as_matrix(adata, scanpy):
    """Return the signed scores of the genes, a row for each group, as decoupler's users do."""
    found = scanpy.get.rank_genes_groups_df(adata, group=None, key=KEY)
    return found.pivot(index="group", columns="names", values="logfoldchanges").astype(float)


def test_decoupler_finds_a_set_in_a_stored_ranking(ranked, scanpy):
    decoupler = pytest.importorskip("decoupler", reason="decoupler comes with the extra [enrich]")
    written, rankings = ranked
    fold_change = rankings["group1"]["log_fold_change"].sort_values()
    sets = {"up": fold_change.index[-10:], "down": fold_change.index[:10]}
    net = pd.DataFrame([(k, gene) for k in sets for gene in sets[k]], columns=["source", "target"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score, q_value = decoupler.mt.ulm(as_matrix(written, scanpy), net, tmin=5)
    assert list(score.index) == ["group1", "group3"]
    assert score.loc["group1", "up"] > 2 and score.loc["group1", "down"] < -2
    assert (q_value.loc["group1"] < 0.05).all()


def test_gseapy_finds_a_set_in_a_stored_ranking(ranked, scanpy):
    gseapy = pytest.importorskip("gseapy", reason="gseapy comes with the extra [dev]")
    written, _ = ranked
    row = as_matrix(written, scanpy).loc["group1"].sort_values(ascending=False)
    sets = {"up": list(row.index[:10]), "middle": list(row.index[25:35])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = gseapy.prerank(
            rnk=row, gene_sets=sets, min_size=5, permutation_num=100, outdir=None, seed=0, threads=1
        ).res2d.set_index("Term")
    assert found.loc["up", "NES"] > 1 and found.loc["up", "FDR q-val"] < 0.05
    assert set(found.loc["up", "Lead_genes"].split(";")) <= set(sets["up"])


def test_scanpy_draws_a_ranking(ranked, scanpy):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    written, _ = ranked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scanpy.pl.rank_genes_groups(written, key=KEY, n_genes=3, show=False)
        axes = scanpy.pl.rank_genes_groups_dotplot(written, key=KEY, n_genes=3, show=False)
        scanpy.pl.rank_genes_groups_violin(
            written, groups=["group1"], key=KEY, n_genes=2, show=False
        )
    assert axes
    pyplot.close("all")


def test_a_view_is_written_to_as_data_of_its_own(mgvi, adata):
    view = adata[:60]
    mgvi.write_rankings(view, {"group1": mgvi.rank_genes(adata, "group1", calibration=False)})
    assert KEY in view.uns and KEY not in adata.uns


def test_a_bad_ranking_is_refused_and_nothing_written(mgvi, adata):
    table = mgvi.rank_genes(adata, "group1", calibration=False)
    before = set(adata.uns)
    for rankings, key, error, message in (
        ({"group9": table}, KEY, DataError, "group9"),
        ({"group1": table[["per_cell"]]}, KEY, DataError, "no column bayes_factor"),
        ({"group1": table, "group2": table.iloc[1:]}, KEY, DataError, "other genes"),
        ({}, KEY, SettingsError, "tables by group"),
        (table, KEY, SettingsError, "tables by group"),
        ({"group1": table}, "a/b", SettingsError, "without '/'"),
    ):
        with pytest.raises(error, match=message):
            mgvi.write_rankings(adata, rankings, key)
    assert set(adata.uns) == before


def test_a_ranking_by_label_is_no_table_for_scanpy(mgvi, adata):
    adata = adata.copy()
    table = mgvi.rank_genes(adata, "group1", by="celltype", calibration=False, progress=False)
    with pytest.raises(DataError, match=r"several labels .*table\.loc\['T\d'\]"):
        mgvi.write_rankings(adata, {"group1": table})
    assert "rank_genes_mgvi" not in adata.uns
    label = table.index[0][0]
    mgvi.write_rankings(adata, {"group1": table.loc[label]})
    assert set(adata.uns["rank_genes_mgvi"]["names"]["group1"]) == set(adata.var_names)


def test_counts_of_other_cells_are_not_written(mgvi, adata):
    written = adata.copy()
    for other in (adata[60:], adata[::-1]):
        with pytest.raises(DataError, match="other cells than these 120, or of these in another"):
            mgvi.write_latents(written, counts=mgvi.read(other.copy()), progress=False)
    assert not len(written.obsm)
    mgvi.write_latents(written, counts=mgvi.read(adata), progress=False)
    expected = mgvi.latents(adata)["z"]
    np.testing.assert_allclose(written.obsm["X_mgvi_z"], expected, rtol=1e-6)
