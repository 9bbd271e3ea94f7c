"""The page as a whole: one file that runs nothing, written whole or not at all."""

import base64
import html
import io
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from helpers.hostile import HOSTILE_GROUPS
from helpers.html_reader import Reader
from PIL import Image

from pyro_mgvi import SettingsError
from pyro_mgvi.report import render, write_report

SECTIONS = (
    *("findings", "explorer", "data", "settings", "training", "latents", "programs", "genes"),
    *("diagnostics", "checks"),
)


def own(page: str) -> str:
    """Return the page without plotly's own script."""
    library = pytest.importorskip("plotly.offline").get_plotlyjs()
    assert page.count(library) == 1
    return page.replace(library, "")


@pytest.mark.slow
def test_it_is_one_file_that_asks_for_no_other(page):
    reader = Reader(page)
    assert not {"iframe", "object", "u", "i", "form"} & {tag for tag, _ in reader.tags}
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            assert re.match("data:|#", attributes.get(name, "#")), (tag, attributes)
    assert not re.search(r"url\(|@import|https?:", own(page))
    policy = next(a["content"] for tag, a in reader.tags if "http-equiv" in a)
    assert "default-src 'none'" in policy and "http" not in policy
    ids = [attributes["id"] for tag, attributes in reader.tags if tag == "section"]
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert tuple(ids) == SECTIONS and links == [f"#{name}" for name in SECTIONS]


@pytest.mark.slow
def test_headings_are_in_order(page):
    levels = [int(tag[1]) for tag, _ in Reader(page).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


@pytest.mark.slow
def test_names_are_shown_as_they_are(page):
    reader, mine = Reader(page), own(page)
    assert list(reader.table("group", "cells")["group"]) == list(HOSTILE_GROUPS.values())
    for name in HOSTILE_GROUPS.values():
        assert html.escape(name) in mine
    assert "<b>A" not in mine and "<u>" not in mine and "<i>" not in mine
    scripts = re.findall("<script[^>]*>", mine)
    inert = (
        '<script type="application/json" id="x-data">',
        '<script type="text/plain" id="x-library">',
    )
    assert scripts == ["<script>", *inert, "<script>"]
    assert mine.count("</script>") == len(scripts)


@pytest.mark.slow
def test_without_plotly_it_says_so_and_shows_pictures(fitted, page, monkeypatch):
    pytest.importorskip("plotly")
    monkeypatch.setattr("pyro_mgvi.report.page.find_spec", lambda name: None)
    short = render(fitted[0], labels=["celltype"], progress=False)
    assert 'pip install "pyro-mgvi[report]"' in html.unescape(short) and "x-data" not in short
    assert short.count("<script>") == 1  # that of the tables
    assert "pyro-mgvi[report]" not in page
    assert len(short) < 1.5e6 < len(page)


@pytest.mark.slow
def test_pictures_are_pictures_with_captions(page):
    images = [attributes for tag, attributes in Reader(page).tags if tag == "img"]
    assert len(images) == 1 + 1 + (3 + 3 * 2) + 3 + 4  # depth, loss, latents, genes, checks
    for attributes in images:
        picture = Image.open(io.BytesIO(base64.b64decode(attributes["src"].partition(",")[2])))
        assert abs(picture.width - 2 * int(attributes["width"])) <= 1
        assert np.asarray(picture.convert("L")).std() > 5, "an empty picture"
        assert len(attributes["alt"]) > 20


@pytest.mark.slow
def test_without_the_model_it_says_what_to_run(fitted, page):
    adata, _ = fitted
    before = adata.copy()
    short = render(adata, labels=["celltype"], progress=False)
    reader = Reader(short)
    assert "--model MODEL" in short and "--group-key group" in short
    assert tuple(a["id"] for tag, a in reader.tags if tag == "section") == SECTIONS
    full = Reader(page)
    for columns in (("group", "cells"), ("latent", "belongs to"), ("latent", "can it tell")):
        pd.testing.assert_frame_equal(reader.table(*columns), full.table(*columns))
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert set(adata.uns) == set(before.uns) and (adata.X != before.X).nnz == 0


@pytest.mark.slow
def test_it_is_written_whole_or_not_at_all(fitted, tmp_path, monkeypatch):
    adata, _ = fitted
    path = tmp_path / "report.html"
    path.write_text("the old one")
    with pytest.raises(SettingsError, match=r"folder .* does not exist"):
        write_report(tmp_path / "none" / "report.html", adata, progress=False)
    with pytest.raises(SettingsError, match="it is a folder"), monkeypatch.context() as patch:
        patch.setattr("pyro_mgvi.report.page.render", None)
        write_report(tmp_path, adata, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr("pyro_mgvi.support.files.whole_files.os.replace", refuse)
        with pytest.raises(SettingsError, match="disk is full"):
            write_report(path, adata, progress=False)
    assert path.read_text() == "the old one" and [p.name for p in tmp_path.iterdir()] == [path.name]
    write_report(path, adata, progress=False)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_file_that_is_not_named_like_a_page_is_not_overwritten(fitted, tmp_path):
    adata, mgvi = fitted
    (tmp_path / "cells.h5ad").write_text("keep")
    with pytest.raises(SettingsError, match=r"cells.h5ad: it is named like something else; use .h"):
        write_report(tmp_path / "cells.h5ad", adata, mgvi, progress=False)
    assert (tmp_path / "cells.h5ad").read_text() == "keep"


def refuse(*_):
    raise OSError("disk is full")
