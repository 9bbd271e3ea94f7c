"""What a model's latents were discovered by comes back with it: the table, and nothing to run."""

import json

import numpy as np
import pandas as pd
import pytest

from pyro_mgvi import MGVI, DataWarning, Discovery, ModelFileError, plots, shared, subsets
from pyro_mgvi.datasets import clear_recipe

LATENTS = (shared(2), subsets("t", {"group1+group2": ("group1", "group2")}, 2))
ROWS = [
    (1, "group1", "varies", 1.0, 7.5, 1e-9, 20, "t_group1+group2", 9, "gene_1, gene_2"),
    (1, "group2", "undecided", 0.31, 1.0, 0.2, 20, "t_group1+group2", 9, "gene_1, gene_2"),
    (1, "group3", "too few cells", np.nan, np.nan, np.nan, 0, "t_group1+group2", 9, "gene_1"),
]
COLUMNS = [
    *("program", "group", "verdict", "share", "z_score", "q_value", "cells"),
    *("latent", "n_genes", "genes"),
]


def discovered(adata, rows=ROWS):
    found = Discovery(pd.DataFrame(rows, columns=COLUMNS), LATENTS, {}, np.zeros(len(adata), int))
    return MGVI.from_anndata(adata, "group", latents=found)


def edited(path, change):
    settings = json.loads((path / "settings.json").read_text())
    change(settings)
    (path / "settings.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("rows", [ROWS, []], ids=["programs", "none"])
def test_the_table_comes_back_and_is_drawn(adata, tmp_path, rows):
    mgvi = discovered(adata, rows)
    mgvi.save(tmp_path / "m")
    loaded = MGVI.load(tmp_path / "m")
    pd.testing.assert_frame_equal(
        loaded.discovery.table, mgvi.discovery.table, check_exact=True, check_dtype=bool(rows)
    )
    assert repr(loaded.discovery) == repr(mgvi.discovery)
    assert loaded.discovery.latents == mgvi.families.families
    if rows:
        labels = [text.get_text() for text in plots.discovery(loaded.discovery).get_xticklabels()]
        assert labels == ["group1", "group2", "group3"]
    loaded.save(tmp_path / "again")
    texts = [(tmp_path / name / "settings.json").read_text() for name in ("m", "again")]
    assert texts[0] == texts[1]


def test_a_loaded_model_trains_on_without_directions(adata, tmp_path):
    discovered(adata).save(tmp_path / "m")
    loaded = MGVI.load(tmp_path / "m")
    assert loaded.discovery.directions(loaded.read(adata)) == {}
    with pytest.warns(DataWarning, match="directions that were discovered are not saved"):
        loaded.fit(adata, max_epochs=1, progress=False)
    assert loaded.discovery is not None
    loaded.fit(adata, max_epochs=1, progress=False)  # it is past what they were for
    shared_by_all = [(*row[:2], "varies", *row[3:]) for row in ROWS]
    discovered(adata, shared_by_all).save(tmp_path / "none")
    MGVI.load(tmp_path / "none").fit(adata, max_epochs=1, progress=False)


def test_a_loaded_discovery_makes_the_same_latents_of_a_new_model(adata, tmp_path):
    mgvi = discovered(adata)
    mgvi.save(tmp_path / "m")
    again = MGVI.from_anndata(adata, "group", latents=MGVI.load(tmp_path / "m").discovery)
    keys = [copy.key for copy in again.families.copies]
    assert keys == [copy.key for copy in mgvi.families.copies] == ["z", "t_group1+group2"]


def test_models_without_the_entry_have_none(adata, tmp_path):
    discovered(adata).save(tmp_path / "m")
    edited(tmp_path / "m", lambda settings: settings.pop("discovery"))
    assert MGVI.load(tmp_path / "m").discovery is None
    MGVI.from_anndata(adata, "group").save(tmp_path / "plain")
    assert "discovery" not in json.loads((tmp_path / "plain" / "settings.json").read_text())


@pytest.mark.parametrize(
    "change",
    [
        lambda settings: settings["discovery"][0].pop("verdict"),
        lambda settings: settings["discovery"][0].update(share="much"),
        lambda settings: settings.update(discovery=[1]),
        lambda settings: settings.update(discovery=3),
    ],
    ids=["column", "number", "rows", "list"],
)
def test_a_damaged_table_is_refused(adata, tmp_path, change):
    discovered(adata).save(tmp_path / "m")
    edited(tmp_path / "m", change)
    with pytest.raises(ModelFileError, match="damaged"):
        MGVI.load(tmp_path / "m")


@pytest.mark.slow
def test_what_was_really_discovered_comes_back(tmp_path):
    cells = clear_recipe(seed=0, n_cells=600, n_shared_genes=60, n_program_genes=60)
    mgvi = MGVI.from_anndata(cells, "group", latents="discover")
    mgvi.fit(cells, max_epochs=1, progress=False)
    mgvi.save(tmp_path / "m")
    loaded = MGVI.load(tmp_path / "m")
    assert len(mgvi.discovery.table) and mgvi.discovery.programs
    pd.testing.assert_frame_equal(
        loaded.discovery.table, mgvi.discovery.table, check_exact=True, check_column_type=True
    )
