"""Figures of predictive checks, and the plate diagram."""

import shutil

import numpy as np
import pandas as pd
import pyro
import pytest
import torch

import pyro_mgvi
from pyro_mgvi import MGVIError, plots
from pyro_mgvi.criticism import PredictiveChecks


def table(names, n):
    columns, rng = {}, np.random.default_rng(0)
    for name in names:
        observed = rng.uniform(1, 2, n)
        columns[f"{name}_observed"] = observed
        columns[f"{name}_predicted"] = observed + 0.01
        columns[f"{name}_lower"] = observed - 0.1
        columns[f"{name}_upper"] = observed + np.where(np.arange(n) < n / 4, -0.05, 0.1)
    return pd.DataFrame(columns)


def test_predictive_checks_mark_what_is_outside():
    checks = PredictiveChecks(
        table(("mean", "variance", "zeros"), 40), table(("library", "zeros"), 20), n_draws=20
    )
    axes = plots.predictive_checks(checks)
    assert len(axes) == 6
    for ax, n in zip(axes[1:], (40, 40, 40, 20, 20)):
        inside, outside = (x for x in ax.collections if type(x).__name__ == "PathCollection")
        assert (len(inside.get_offsets()), len(outside.get_offsets())) == (0.75 * n, 0.25 * n)
        assert ax.texts[0].get_text().startswith("75%")
    assert axes[0].get_xscale() == axes[0].get_yscale() == "log"


def test_plate_diagram_shows_sites_and_plates_and_writes_a_file(mgvi, adata, tmp_path):
    pytest.importorskip("graphviz")
    graph = plots.plate_diagram(mgvi)
    for name in ("z", "t", "library", "counts", "cells", "t_copies"):
        assert name in graph.source, name
    latents = (pyro_mgvi.shared(2), pyro_mgvi.pairwise(1))
    other = pyro_mgvi.MGVI.from_anndata(adata, "group", batch_key="celltype", latents=latents)
    assert "pair_copies" in plots.plate_diagram(other, distributions=True).source
    if shutil.which("dot") is None:
        with pytest.raises(MGVIError, match="graphviz"):
            plots.plate_diagram(mgvi, tmp_path / "model.svg")
        return
    plots.plate_diagram(mgvi, tmp_path / "model.svg")
    assert "t_copies" in (tmp_path / "model.svg").read_text()
    with pytest.raises(MGVIError, match=r"model\.nothing"):
        plots.plate_diagram(mgvi, tmp_path / "model.nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["model.svg"]


def test_plate_diagram_leaves_the_callers_parameters(mgvi):
    pytest.importorskip("graphviz")
    pyro.param("mine", torch.ones(2))
    plots.plate_diagram(mgvi)
    assert [*pyro.get_param_store()] == ["mine"]
