"""The genes of private dimensions are those of the model."""

import numpy as np
import pytest
import torch
from helpers.html_reader import Reader, number

from pyro_mgvi.report.rankings import Rankings
from pyro_mgvi.report.result import Result
from pyro_mgvi.report.sections.programs import programs_of


@pytest.mark.slow
def test_programs_are_those_of_the_table(fitted, page):
    adata, mgvi = fitted
    table = Reader(page).table("latent", "dimension", "gene")
    truth = mgvi.programs(adata, calibration=False).groupby(["latent", "dimension"], sort=False)
    assert truth.ngroups == 6
    head = truth.head(10)
    for column in ("latent", "gene"):
        assert list(table[column]) == list(head[column])
    assert list(table["dimension"].astype(int)) == list(head["dimension"])
    np.testing.assert_allclose(table["effect"].map(number), head["effect"], rtol=0.06)


@pytest.mark.slow
def test_without_a_private_dimension_there_is_nothing_to_show(fitted):
    adata, mgvi = fitted
    result, active = Result.read(adata, mgvi), mgvi.model.active
    before = active["t"].clone()
    active.close({"t": torch.ones_like(before)})
    try:
        (block,) = programs_of(result, Rankings.of(result)).blocks
    finally:
        active["t"].copy_(before)
    assert "None of the private dimensions is in use" in block.text
