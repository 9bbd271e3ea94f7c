"""Pictures, probes and the verdict are of the latents of the fit."""

import numpy as np
import pytest
from helpers.hostile import HOSTILE_GROUPS
from helpers.html_reader import Reader, number

from pyro_mgvi.analysis.metrics import probe
from pyro_mgvi.report import render
from pyro_mgvi.report.result import Result
from pyro_mgvi.report.sections import latents as section_latents


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


def with_first_dimension_of_t(fitted, sd):
    """Return cells whose t_plain is zero, but for normal numbers in its first dimension."""
    adata = fitted[0].copy()
    own = (adata.obs["group"] == "plain").to_numpy()
    t = adata.obsm["X_mgvi_t_plain"].copy()
    t[own] = 0.0
    t[own, 0] = np.random.default_rng(0).normal(0, sd, own.sum())
    adata.obsm["X_mgvi_t_plain"] = t
    return adata


@pytest.mark.slow
def test_a_latent_out_of_use_is_said_to_hold_nothing(fitted):
    adata = with_first_dimension_of_t(fitted, sd=0.0)
    page = render(adata, progress=False)
    assert "t_plain: none of its dimensions is in use" in page
    assert "t_plain" not in set(Reader(page).table("latent", "can it tell")["latent"])


@pytest.mark.slow
def test_a_latent_that_says_very_little_is_not_said_to_hold_nothing(fitted):
    adata = with_first_dimension_of_t(fitted, sd=0.05)
    texts = [str(block) for block in section_latents.latents(Result.read(adata)).blocks]
    (said,) = [text for text in texts if "t_plain: " in text]
    assert "hardly vary (variance at most 0.01)" in said and "holds nothing" not in said


def pictures(adata, *labels):
    """Return the captions of the latents' pictures."""
    blocks = section_latents.latents(Result.read(adata, labels=labels)).blocks
    return [item.caption for row in blocks[2:] for item in row.items]


@pytest.mark.slow
def test_missing_labels_are_grey_and_in_no_probe(fitted):
    adata = fitted[0].copy()
    labels = adata.obs["celltype"]
    adata.obs["annotation"] = labels.where(np.arange(120) % 4 > 0).astype("category")
    captions = pictures(adata, "annotation")
    assert [text for text in captions if "Grey: 30 cells without annotation." in text] == [
        text for text in captions if "tells annotation" in text
    ]
    reader = Reader(render(adata, labels=["annotation"], progress=False))
    table = reader.table("latent", "can it tell").set_index(["latent", "can it tell"])
    row = table.loc[("z", "annotation")]
    known = adata.obs["annotation"].notna().to_numpy()
    score = probe(adata.obsm["X_mgvi_z"][known], labels[known])
    assert (number(row["accuracy"]), number(row["chance"])) == (pytest.approx(score, abs=6e-3), 0.2)
    caption = next(text for text in reader.texts["caption"] if "Balanced accuracy" in text)
    assert "Cells without a label are left out (annotation: 30)." in caption


@pytest.mark.slow
def test_a_single_dimension_in_use_is_not_said_to_be_components(fitted):
    adata = fitted[0].copy()
    own = (adata.obs["group"] == "plain").to_numpy()
    t = adata.obsm["X_mgvi_t_plain"].copy()
    t[own, 1] = 0.0
    adata.obsm["X_mgvi_t_plain"] = t
    adata.obs["score"] = np.linspace(0, 1, 120)
    found = [text for text in pictures(adata, "celltype", "score") if "of plain only" in text]
    assert found == [
        "Cells of plain only. Rows alike mean that this latent says something other than celltype. "
        "Lines are medians; the height within a row means nothing.",
        "Cells of plain only. No trend means that this latent says something other than score.",
        "Cells of plain only. Rows alike mean that this latent says something other than donor. "
        "Lines are medians; the height within a row means nothing.",
    ]
    words = section_latents.latents(Result.read(adata)).blocks[0].text
    assert "single dimension in use is drawn along that dimension instead" in words


@pytest.mark.slow
def test_numbers_and_rare_labels_are_in_no_probe(fitted):
    adata = fitted[0].copy()
    adata.obs["score"] = np.linspace(0, 1, 120)
    adata.obs["clone"] = [f"clone {i // 2 if i < 10 else 99}" for i in range(120)]
    adata.obs["plate"] = np.arange(120) % 3  # few numbers are levels
    reader = Reader(render(adata, labels=["score", "clone", "plate"], progress=False))
    table = reader.table("latent", "can it tell")
    assert set(table["can it tell"]) == {"group", "donor", "plate"}
    caption = next(text for text in reader.texts["caption"] if "Balanced accuracy" in text)
    assert "Labels of fewer than 3 cells are left out (clone: 5)." in caption
    assert "Numbers are not probed for (score)." in caption


@pytest.mark.slow
def test_the_users_own_colours_are_used(fitted, monkeypatch):
    adata, palettes = fitted[0].copy(), {}
    adata.obs["celltype"] = adata.obs["celltype"].astype("category")
    adata.uns["celltype_colors"] = ["red", "lime", "blue", "cyan", "magenta"]
    real = section_latents.Panel.of

    def spy(place, labels, title, palette, font):
        palettes[title] = palette
        return real(place, labels, title, palette, font)

    monkeypatch.setattr(section_latents.Panel, "of", spy)
    pictures(adata, "celltype")
    assert palettes["z by celltype"]["T<i>T1"] == "#ff0000ff" and palettes["z by donor"] is None
