"""The README's code runs as it stands, and its variants are as short as it says."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI

import pyro_mgvi

README = (Path(__file__).parents[1] / "README.md").read_text()
VARIANTS = README.split("## Write your own variant")[1].split("\n## ")[0]
SNIPPETS = re.findall(r"```python\n(.*?)```", VARIANTS, re.S)
NAMES = {name: getattr(pyro_mgvi, name) for name in pyro_mgvi.__all__}
NAMES |= {"torch": torch, "dist": dist, "dataclass": dataclass}


@pytest.fixture
def regions(adata):
    names = {"group1": "Ileum", "group2": "Jejunum", "group3": "Colon"}
    adata = adata.copy()
    adata.obs["region"] = adata.obs["group"].cat.rename_categories(names)
    adata.obs["donor"] = np.where(np.arange(adata.n_obs) % 2, "d1", "d2")
    return adata


def steps(mgvi, adata):
    svi = SVI(
        mgvi.model, mgvi.guide, pyro.optim.Adam({"lr": 5e-3}), pyro_mgvi.WassersteinTraceELBO()
    )
    return [svi.step(*batch) for e in range(4) for batch in mgvi.read(adata).minibatches(60, e)]


def test_there_are_three_variants():
    assert len(SNIPPETS) == 3


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["latent", "prior", "likelihood"])
def test_a_variant_takes_ten_lines_and_trains(snippet, regions, tmp_path):
    lines = [line for line in snippet.splitlines() if line.strip()]
    assert len(lines) <= 12 and len([x for x in lines if not x.startswith("latents")]) <= 10
    space = NAMES | {"adata": regions}
    exec(snippet, space)
    mgvi = space.get("mgvi") or pyro_mgvi.MGVI.from_anndata(
        regions, "region", latents=space["latents"]
    )
    losses = steps(mgvi, regions)
    assert np.mean(losses[-2:]) < np.mean(losses[:2])
    mgvi.save(tmp_path / "m")
    own = [space[name] for name in ("Lasso", "OneDispersion") if name in space]
    loaded = pyro_mgvi.MGVI.load(tmp_path / "m", components=own)
    for key, value in mgvi.latents(regions).items():
        np.testing.assert_array_equal(loaded.latents(regions)[key], value)


def test_the_code_for_biologists_and_pyro_users_runs(regions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    regions.write_h5ad("cells.h5ad")
    blocks = re.findall(r"```python\n(.*?)```", README.split("## Write your own variant")[0], re.S)
    space = {}
    for block in blocks:
        block = block.replace("mgvi.fit(adata)", "mgvi.fit(adata, max_epochs=2, progress=False)")
        block = block.replace('[["treated"]]', '[["Ileum"]]')
        exec(block, space)
    assert (tmp_path / "region.mgvi" / "weights.pt").exists()
    assert "X_mgvi_t_Ileum" in space["adata"].obsm
