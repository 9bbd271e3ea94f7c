"""A fit is read back whole, or what is missing is named."""

import json
import shlex
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
from helpers.html_reader import Reader

import pyro_mgvi
from pyro_mgvi import MGVI, DataError, SettingsError, private, shared
from pyro_mgvi.cli.arguments import parser
from pyro_mgvi.report import render
from pyro_mgvi.report.result import Result, without_model


@pytest.mark.slow
def test_columns_are_chosen_if_none_are_named(fitted):
    adata, _ = fitted
    adata = adata.copy()
    adata.obs["many"] = [f"level {i}" for i in range(adata.n_obs)]
    adata.obs["one"] = "same"
    adata.obs["twin"] = adata.obs["celltype"].astype(str).str.lower()
    adata.obs["half"] = np.where(np.arange(adata.n_obs) < 60, "left", "right")
    adata.obs["score"] = np.arange(adata.n_obs) % 3
    probed = set(
        Reader(render(adata, progress=False)).table("latent", "can it tell")["can it tell"]
    )
    assert {"group", "celltype", "donor", "half"} <= probed
    assert not {"many", "one", "twin", "score"} & probed


@pytest.mark.slow
def test_named_copies_are_found_without_the_model(adata):
    cells, first, *others = adata.copy(), *adata.obs["group"].cat.categories
    latents = (pyro_mgvi.shared(2), pyro_mgvi.subsets("part", {"one": [first], "rest": others}, 2))
    mgvi = pyro_mgvi.MGVI.from_anndata(cells, "group", latents=latents)
    mgvi.fit(cells, max_epochs=1, progress=False)
    mgvi.write_latents(cells)
    page = render(cells, progress=False)
    assert "part_one" in page and "part_rest" in page


def broken(adata, **changes):
    adata = adata.copy()
    record = dict(adata.uns["mgvi"])
    settings = json.loads(record["settings"])
    for key, value in changes.items():
        if key == "settings":
            settings = {k: v for k, v in (settings | value).items() if v != "gone"}
        else:
            record[key] = value
    adata.uns["mgvi"] = {"settings": json.dumps(settings)} | {
        key: value for key, value in record.items() if key != "settings"
    }
    return adata


@pytest.mark.slow
def test_what_is_missing_is_named(fitted):
    adata, mgvi = fitted
    bare, no_latent, no_uns = adata.copy(), adata.copy(), adata.copy()
    del no_latent.obsm["X_mgvi_t_plain"]
    del no_uns.uns["mgvi"]
    bare.uns["mgvi"] = {"settings": "{not json"}
    unknown = adata.copy()
    unknown.obsm["X_mgvi_z"] = np.full_like(adata.obsm["X_mgvi_z"], np.nan)
    wide = adata.copy()
    wide.obsm["X_mgvi_z"] = np.ones((adata.n_obs, 7))
    no_group = adata.copy()
    del no_group.obs["group"]
    cases = [
        (no_uns, "no uns"),
        (bare, "uns.*damaged"),
        (broken(adata, settings={"group_key": "gone"}), "lacks settings: group_key"),
        (broken(adata, settings={"latents": "gone"}), "lacks settings: latents"),
        (broken(adata, history=pd.DataFrame({"x": [1]})), "lacks history: epoch, history: train"),
        (no_latent, r"X_mgvi_t_plain'\] is missing; the latents there are: X_mgvi_"),
        (unknown, "not finite"),
        (wide, r"shape \(120, 7\), not \(120, 3\)"),
        (no_group, "group_key 'group' is not a column"),
    ]
    for wrong, message in cases:
        with pytest.raises(DataError, match=message):
            render(wrong, progress=False)
    assert "Top genes" in render(no_uns, mgvi, progress=False)  # the model knows its settings
    with pytest.raises(DataError, match=r"label 'organ' is not a column of adata\.obs; it has: "):
        render(adata, labels=["organ"], progress=False)
    with pytest.raises(SettingsError, match="name it"):
        render(adata, diagnosed=True, progress=False)


def test_another_model_is_refused(fitted, adata):
    cells, mgvi = fitted
    latents = (pyro_mgvi.shared(3), pyro_mgvi.private(2))
    genes = cells.copy()
    genes.var_names = [f"other{g}" for g in range(cells.n_vars)]
    with pytest.raises(DataError, match="lack 60 of its genes"):
        render(genes, mgvi, progress=False)
    untrained = pyro_mgvi.MGVI.from_anndata(cells, "group", batch_key="donor", latents=latents)
    with pytest.raises(DataError, match=r"does not give the latents in obsm.'X_mgvi_z'"):
        render(cells, untrained, progress=False)
    groups = pyro_mgvi.MGVI.from_anndata(cells, "celltype", latents=latents[:1])
    with pytest.raises(DataError, match="model is of other groups"):
        render(cells, groups, progress=False)


GROUPS = ["group1", "group2", "group3"]


@pytest.mark.parametrize("with_model", [True, False])
@pytest.mark.parametrize("keys", ["group", ("group", "half")])
def test_groups_are_those_of_the_fit_whatever_their_order_is_by_now(adata, keys, with_model):
    cells = adata.copy()
    cells.obs["half"] = pd.Categorical(np.where(np.arange(120) % 2, "left", "right"))
    mgvi = MGVI.from_anndata(cells, keys, latents=["z:2", "pair:1"])
    mgvi.write_latents(cells)
    before = Result.read(cells, mgvi)
    cells.obs["group"] = cells.obs["group"].cat.reorder_categories(GROUPS[::-1])
    cells.obs["half"] = cells.obs["half"].cat.reorder_categories(["right", "left"])
    result = Result.read(cells, mgvi if with_model else None)
    assert result.groups == before.groups == mgvi.schema.groups
    pd.testing.assert_series_equal(result.group, before.group)
    assert [one.copy.key for one in result.copies()] == [copy.key for copy in mgvi.families.copies]


def test_groups_without_a_cell_and_unknown_ones_are_named(adata):
    cells = adata.copy()
    mgvi = MGVI.from_anndata(cells, "group", latents=["z:2", "t:1"])
    mgvi.write_latents(cells)
    part = cells[cells.obs["group"] != "group2"].copy()
    with pytest.raises(DataError, match=r"no cell of group2 \(groups of 'group'\)"):
        Result.read(part, mgvi)
    assert Result.read(part).groups == ("group1", "group3")
    cells.obs["group"] = cells.obs["group"].cat.rename_categories({"group2": "other"})
    with pytest.raises(DataError, match=r"the model knows no cell of other \(group\)"):
        Result.read(cells, mgvi)


def test_the_model_knows_the_settings_that_a_record_holds(adata):
    cells = adata.copy()
    cells.obs["donor"] = [f"d{i % 6}" for i in range(120)]
    cells.raw = cells.copy()
    cells.X = cells.X * 0.1
    mgvi = MGVI.from_anndata(cells, "group", use_raw=True, round_counts=True, sample_key="donor")
    mgvi.write_latents(cells)
    recorded = Result.read(cells, mgvi).settings
    del cells.uns["mgvi"]
    known = Result.read(cells, mgvi).settings
    assert known == {key: value for key, value in recorded.items() if key != "foreign"}
    assert known["use_raw"] and known["round_counts"] and known["sample_key"] == "donor"


@pytest.mark.slow
def test_labels_may_have_any_number_of_levels(fitted):
    adata = fitted[0].copy()
    adata.obs["leiden"] = pd.Categorical([str(i % 30) for i in range(120)])
    adata.obs["clone"] = [f"clone {i}" for i in range(120)]
    adata.obs["clone"] = adata.obs["clone"].where(np.arange(120) > 2)
    adata.obs["empty"] = None
    labels = ["leiden", "clone", "empty"]
    table = Reader(render(adata, labels=labels, progress=False)).table("latent", "can it tell")
    row = table.set_index(["latent", "can it tell"]).loc[("z", "leiden")]
    assert row["chance"] == "0.033"  # all of the thirty
    assert "clone" not in set(table["can it tell"])  # one cell each


@pytest.mark.slow
def test_cells_that_the_model_left_out_are_left_out_here_too(adata):
    cells = adata.copy()
    x = cells.X.tolil()
    x[[3, 7]] = 0
    cells.X = x.tocsr()
    mgvi = MGVI.from_anndata(cells, "group", drop_empty=True, latents=(shared(3), private(2)))
    mgvi.fit(cells, max_epochs=1, progress=False)
    mgvi.write_latents(cells)
    for model in (mgvi, None):
        result = Result.read(cells, model, labels=["celltype"])
        assert result.adata.obs_names.equals(cells.obs_names.delete([3, 7]))
        assert result.n_left_out == 2 and len(result.group) == 118
        assert all(np.isfinite(values).all() for _, _, values in result.copies())
    page = render(cells, mgvi, labels=["celltype"], diagnosed=True, max_epochs=1, progress=False)
    assert "2 cells without a count were left out" in page
    cells.obsm["X_mgvi_t_group1"][:] = np.nan  # not all of them
    with pytest.raises(DataError, match="not finite"):
        Result.read(cells, mgvi)


def test_columns_that_nobody_asked_for_are_no_obstacle(fitted):
    cells = fitted[0].copy()
    cells.obs["clones"] = [[i % 3] for i in range(cells.n_obs)]
    cells.obs["marks"] = [{"a": i % 2} for i in range(cells.n_obs)]
    cells.obs["twice"] = "x"
    cells.obs["other"] = "y"
    cells.obs.columns = [*cells.obs.columns[:-1], "twice"]
    assert Result.read(cells).labels == Result.read(fitted[0]).labels
    for column in ("clones", "marks"):
        with pytest.raises(DataError, match=rf"label '{column}' holds values that are no labels"):
            Result.read(cells, labels=[column])
    with pytest.raises(DataError, match="several columns 'twice'"):
        Result.read(cells, labels=["twice"])


def test_columns_in_another_byte_order_are_labels(fitted):
    cells = fitted[0].copy()
    age_n = np.arange(cells.n_obs)
    cells.obs["age"], cells.obs["plate"] = age_n.astype(">f8"), (age_n % 2).astype(">i4")
    result = Result.read(cells, labels=["age", "plate"])
    colours = dict(result.colours(np.ones(cells.n_obs, bool)))
    assert colours["age"].tolist() == age_n.tolist()
    assert list(colours["plate"].cat.categories) == [0, 1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lazy_cells_are_read(fitted, tmp_path):
    read_lazy = getattr(anndata.experimental, "read_lazy", None)
    if read_lazy is None:
        pytest.skip("anndata is too old to read lazily")
    pytest.importorskip("xarray")
    adata, mgvi = fitted
    adata.write_zarr(tmp_path / "r.zarr")
    result = Result.read(read_lazy(tmp_path / "r.zarr"), mgvi, labels=["celltype"])
    pd.testing.assert_frame_equal(result.history, mgvi.history, check_index_type=False)
    assert result.labels == ("celltype",)


def test_the_advised_fit_reads_the_same_cells(fitted):
    settings = {
        "group_key": "my group", "layer": "counts", "batch_key": "donor", "sample_key": None,
        "covariate_keys": ["age", "a b"], "drop_empty": True,
    }  # fmt: skip
    result = replace(Result.read(fitted[0], None, None), settings=settings)
    fit, report = without_model(result, "Genes").command.splitlines()
    found = vars(parser().parse_args(shlex.split(fit)[1:]))
    assert found["group_key"] == [settings["group_key"]]
    asked = {"layer", "batch_key", "sample_key", "drop_empty", "use_raw"}
    assert {key: found[key] for key in asked} == {key: settings.get(key, False) for key in asked}
    assert found["covariate_key"] == ["age", "a b"]
    assert parser().parse_args(shlex.split(report)[1:]).model == found["model"]


def test_a_fit_of_the_shell_is_advised_with_all_that_it_was_told(fitted):
    command = "pyro-mgvi fit 'my cells.h5ad' --group-key group --latents z:4 --out r.h5ad"
    result = replace(Result.read(fitted[0], None, None), settings={"command": command})
    fit, report = without_model(result, "Genes").command.splitlines()
    assert fit == f"{command} --model MODEL"
    assert report == "pyro-mgvi report RESULT.h5ad --model MODEL --out report.html"
    saved = replace(result, settings={"command": f"{command} --model 'my model'"})
    assert without_model(saved, "Genes").command == report.replace("MODEL", "'my model'")
    broken = replace(result, settings={"command": "pyro-mgvi fit 'my", "group_key": "group"})
    assert "--model MODEL" in without_model(broken, "Genes").command


@pytest.mark.slow
def test_the_number_of_genes_is_of_those_that_were_chosen(adata):
    cells = adata.copy()
    genes = list(cells.var_names[::2])
    mgvi = MGVI.from_anndata(cells, "group", genes=genes, latents=[shared(2), private(1)])
    mgvi.fit(cells, max_epochs=1, progress=False)
    mgvi.write_latents(cells)
    assert Result.read(cells).n_genes == Result.read(cells, mgvi).n_genes == len(genes)
