"""The genes of private dimensions are those of the model."""

import numpy as np
import pytest
import torch
from helpers.html_reader import Reader, number

from pyro_mgvi.report.result import Result
from pyro_mgvi.report.section_programs import programs_of


@pytest.mark.slow
def test_programs_are_those_of_the_table(fitted, page):
    adata, mgvi = fitted
    tables = [rows for rows in Reader(page).tables if rows[0][:2] == ["gene", "effect"]]
    truth = mgvi.programs(adata, calibration=False)
    parts = [part.head(10) for _, part in truth.groupby(["latent", "dimension"], sort=False)]
    assert len(tables) == len(parts) == 6
    for rows, part in zip(tables, parts):
        assert [row[0] for row in rows[1:]] == list(part["gene"])
        found = [number(row[1]) for row in rows[1:]]
        np.testing.assert_allclose(found, part["effect"], rtol=0.06)


@pytest.mark.slow
def test_without_a_private_dimension_there_is_nothing_to_show(fitted):
    adata, mgvi = fitted
    result, active = Result.read(adata, mgvi), mgvi.model.active
    before = active["t"].clone()
    active.close({"t": torch.ones_like(before)})
    try:
        (block,) = programs_of(result).blocks
    finally:
        active["t"].copy_(before)
    assert "None of the private dimensions is in use" in block.text
