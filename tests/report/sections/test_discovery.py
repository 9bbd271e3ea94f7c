"""The report's table of programs by groups is that of the discovery, saved or not."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from pyro_mgvi import MGVI, DataError, Discovery, shared, subsets
from pyro_mgvi.report.result import Result
from pyro_mgvi.report.sections.discovery import who_shares_what

LATENTS = (shared(2), subsets("t", {"group1+group2": ("group1", "group2")}, 2))
COMMON = {"z_score": 1.0, "q_value": 0.01, "cells": 20, "n_genes": 9}
ROWS = [
    *({"program": 1, "group": f"group{b}", "verdict": "varies", "share": 1.0} for b in (1, 2)),
    {"program": 1, "group": "group3", "verdict": "absent", "share": 0.1},
    *({"program": 2, "group": f"group{b}", "verdict": "varies", "share": 0.9} for b in (1, 2)),
    {"program": 2, "group": "group3", "verdict": "too few cells", "cells": 0},
]
LATENT = {1: "t_group1+group2", 2: "z"}


def found(rows=ROWS):
    columns = ["program", "group", "verdict", "share", *COMMON, "latent", "genes"]
    full = [
        COMMON | {"latent": LATENT[row["program"]], "genes": f"g{row['program']}, g9"} | row
        for row in rows
    ]
    return Discovery(pd.DataFrame(full, columns=columns), LATENTS, {}, np.zeros(0, int))


def read(adata, discovery, keep_model=True, path=None):
    """Return a fit whose latents were discovered; by way of a file if there is a path."""
    adata = adata.copy()
    mgvi = MGVI.from_anndata(adata, "group", latents=discovery or ["z:2"])
    mgvi.write_latents(adata)
    if path is not None:
        adata.write_h5ad(path)
        adata = ad.read_h5ad(path)
    return Result.read(adata, mgvi if keep_model else None)


@pytest.mark.parametrize("keep_model", [True, False], ids=["model", "file"])
def test_programs_are_told_with_their_groups(adata, keep_model, tmp_path):
    section = who_shares_what(read(adata, found(), keep_model, tmp_path / "cells.h5ad"))
    words, pictures, tables = section.blocks
    assert words.text.startswith("2 programs were found, of which 1 is absent from some groups.")
    assert "not of new donors" in words.text
    (table,) = [item.frame for item in tables.items]
    assert table["groups that vary"].tolist() == ["group1, group2"] * 2
    assert table["undecided"].tolist() == ["none", "group3"]
    assert table["latent"].tolist() == ["t_group1+group2", "z"]
    assert table["first genes"].tolist() == ["g1, g9", "g2, g9"]
    assert table["genes"].tolist() == [9, 9]
    assert len(pictures.items) == 1


def test_a_model_that_was_not_discovered_has_no_section(adata):
    assert who_shares_what(read(adata, None)) is None


@pytest.mark.parametrize("keep_model", [True, False], ids=["model", "file"])
def test_a_discovery_of_nothing_says_so(adata, keep_model, tmp_path):
    section = who_shares_what(read(adata, found([]), keep_model, tmp_path / "cells.h5ad"))
    assert [block.kind for block in section.blocks] == ["paragraph"]
    assert "No program" in section.blocks[0].text


def test_a_damaged_record_is_named(adata):
    result = read(adata, found(), keep_model=False)
    result.adata.uns["mgvi"]["discovery"] = result.adata.uns["mgvi"]["discovery"].drop(
        columns="verdict"
    )
    with pytest.raises(DataError, match=r"uns\['mgvi'\]\['discovery'\] is damaged.*verdict"):
        who_shares_what(result)
