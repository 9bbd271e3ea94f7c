"""Pictures, probes and the verdict are of the latents of the fit."""

import pytest
from helpers.hostile import HOSTILE_GROUPS
from helpers.html_reader import Reader, number

from pyro_mgvi.analysis.metrics import probe
from pyro_mgvi.report import render


@pytest.mark.slow
def test_probes_are_those_of_the_latents(fitted, page):
    adata, _ = fitted
    table = Reader(page).table("latent", "can it tell").set_index(["latent", "can it tell"])
    z, group = adata.obsm["X_mgvi_z"], adata.obs["group"].astype(str)
    assert number(table.at[("z", "group"), "accuracy"]) == pytest.approx(probe(z, group), abs=0.006)
    own = (adata.obs["group"] == "plain").to_numpy()
    t, types = adata.obsm["X_mgvi_t_plain"][own], adata.obs["celltype"][own]
    row = table.loc[("t_plain", "celltype")]
    assert number(row["accuracy"]) == pytest.approx(probe(t, types), abs=0.006)
    assert number(row["chance"]) == 0.2
    assert ("t_plain", "group") not in table.index  # one group owns it: nothing to tell


@pytest.mark.slow
def test_the_verdict_is_there_with_refits(fitted, page):
    assert Reader(page).table("latent", "worth")["latent"].tolist() == [
        "z", *(f"t_{name}" for name in HOSTILE_GROUPS.values())
    ]  # fmt: skip
    assert page.count("units active)") == 2 * 3  # at the top, and in its section
    assert "--diagnose" not in page


def test_a_latent_out_of_use_is_said_to_hold_nothing(fitted):
    adata, _ = fitted
    adata = adata.copy()
    own = (adata.obs["group"] == "plain").to_numpy()
    t = adata.obsm["X_mgvi_t_plain"].copy()
    t[own] = 0.0
    adata.obsm["X_mgvi_t_plain"] = t
    page = render(adata, progress=False)
    assert "t_plain: none of its dimensions is in use" in page
    assert "t_plain" not in set(Reader(page).table("latent", "can it tell")["latent"])
