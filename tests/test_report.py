"""The HTML report: what it says is true, and a browser shows it as it should."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

import pyro_mgvi
from pyro_mgvi import DataError, SettingsError, plots
from pyro_mgvi.cli.main import main, record
from pyro_mgvi.analysis.metrics import probe
from pyro_mgvi.report import render, write_report
from pyro_mgvi.report.blocks import Table

GROUPS = {"group1": "<b>A&B", "group2": "$x$ <script>", "group3": "plain"}
SECTIONS = ("data", "settings", "training", "latents", "genes", "diagnostics", "checks")
SPECS = ["z:3", "t:2"]


@pytest.fixture(scope="module")
def fitted(adata):
    """Cells with hostile names, their latents as `pyro-mgvi fit` writes them, and the model."""
    adata = adata.copy()
    adata.obs["group"] = adata.obs["group"].cat.rename_categories(GROUPS)
    adata.obs["celltype"] = "T<i>" + adata.obs["celltype"].astype(str)
    adata.obs["donor"] = np.where(np.arange(adata.n_obs) % 2, "d1", "d2")
    adata.var_names = [f"<u>gene&{g}" for g in range(adata.n_vars)]
    latents = (pyro_mgvi.shared(3), pyro_mgvi.private(2))
    mgvi = pyro_mgvi.MGVI.from_anndata(adata, "group", batch_key="donor", latents=latents)
    mgvi.fit(adata, max_epochs=12, progress=False, relevance=0)
    mgvi.write_latents(adata)
    settings = {"group_key": "group", "layer": None, "batch_key": "donor", "covariate_keys": []}
    record(adata, mgvi, settings | {"latents": SPECS, "foreign": "nan", "seed": 0})
    return adata, mgvi


@pytest.fixture(scope="module")
def page(fitted):
    return render(*fitted, labels=["celltype"], diagnosed=True, max_epochs=1, progress=False)


class Reader(HTMLParser):
    """Reads tables, texts by tag, and checks that tags are balanced."""

    VOID = {"meta", "link", "img", "br"}

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.tables, self.texts = [], [], [], {}
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in self.VOID:
            return
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open:
            return
        if self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        self.texts.setdefault(self.open[-1], []).append(data)

    def table(self, *columns) -> pd.DataFrame:
        """Return the table that begins with these columns."""
        return next(
            pd.DataFrame(rows[1:], columns=rows[0])
            for rows in self.tables
            if tuple(rows[0][: len(columns)]) == columns
        )


def number(text: str) -> float:
    return float(text.replace(",", "").replace("\N{MINUS SIGN}", "-"))


def test_it_is_one_file_that_runs_nothing(page):
    reader = Reader(page)
    assert not {"script", "iframe", "object", "u", "i"} & {tag for tag, _ in reader.tags}
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            assert re.match("data:|#", attributes.get(name, "#")), (tag, attributes)
    assert not re.search(r"url\(|@import", page)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    links = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert tuple(ids) == SECTIONS and links == [f"#{name}" for name in SECTIONS]


def test_names_are_shown_as_they_are(page):
    reader = Reader(page)
    assert list(reader.table("group", "cells")["group"]) == list(GROUPS.values())
    for name in GROUPS.values():
        assert html.escape(name) in page
    assert "<b>A" not in page and "<script" not in page and "<u>" not in page and "<i>" not in page


def test_data_settings_and_training_are_those_of_the_fit(fitted, page):
    adata, mgvi = fitted
    reader = Reader(page)
    table = reader.table("group", "cells").set_index("group")
    depth = np.asarray(adata.X.sum(1)).ravel()
    for name, cells in adata.obs.groupby("group", observed=True).indices.items():
        assert table.at[name, "cells"] == str(len(cells))
        assert number(table.at[name, "counts per cell"]) == round(np.median(depth[cells]))
    counts = reader.table("celltype").set_index("celltype")
    truth = pd.crosstab(adata.obs["celltype"], adata.obs["group"])
    assert (
        counts.astype(int).to_numpy() == truth.loc[counts.index, counts.columns].to_numpy()
    ).all()
    settings = dict(reader.table("setting").to_numpy())
    assert settings["batch (column of obs)"] == "donor" and settings["latents"] == "z:3 t:2"
    assert settings["covariates"] == "none" and settings["counts (layer)"] == "X"
    versions = dict(reader.table("package").to_numpy())
    assert versions["pyro-mgvi"] == pyro_mgvi.__version__
    best = mgvi.history["validation"].idxmin()
    kept = f"those of epoch {mgvi.history['epoch'][best]:.0f}, "
    assert any(kept in text for text in reader.texts["p"])


def test_genes_are_those_of_the_ranking(fitted, page):
    adata, mgvi = fitted
    tables = [rows for rows in Reader(page).tables if rows[0][:2] == ["gene", "nats per cell"]]
    assert len(tables) == 3
    for group, rows in zip(mgvi.schema.groups, tables):
        truth = mgvi.rank_genes(adata, group, calibration=False).head(15)
        assert [row[0] for row in rows[1:]] == list(truth["gene"])
        found = [number(row[1]) for row in rows[1:]]
        np.testing.assert_allclose(found, truth["per_cell"], rtol=0.06)
    assert "too few cells for q-values" in page  # 40 cells per group


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


def test_the_verdict_is_there_with_refits(fitted, page):
    assert Reader(page).table("latent", "worth")["latent"].tolist() == [
        "z", *(f"t_{name}" for name in GROUPS.values())
    ]  # fmt: skip
    assert page.count("units active)") == 2 * 3  # at the top, and in its section
    assert "--diagnose" not in page


def test_predictive_checks_are_those_of_the_model(fitted, page):
    adata, _ = fitted
    table = Reader(page).table("statistic").set_index("statistic")
    zeros = 1 - adata.X.nnz / np.prod(adata.shape)
    assert number(table.at["gene zeros", "observed"]) == pytest.approx(zeros, abs=0.001)
    library = adata.X.sum() / adata.n_obs
    assert number(table.at["cell library", "observed"]) == pytest.approx(library, rel=0.01)


def test_pictures_are_pictures_with_captions(page):
    images = [attributes for tag, attributes in Reader(page).tags if tag == "img"]
    assert len(images) == 1 + 1 + (3 + 3 * 2) + 3 + 4  # depth, loss, latents, genes, checks
    for attributes in images:
        picture = Image.open(io.BytesIO(base64.b64decode(attributes["src"].partition(",")[2])))
        assert abs(picture.width - 2 * int(attributes["width"])) <= 1
        assert np.asarray(picture.convert("L")).std() > 5, "an empty picture"
        assert len(attributes["alt"]) > 20


def test_without_the_model_it_says_what_to_run(fitted, page):
    adata, _ = fitted
    before = adata.copy()
    short = render(adata, labels=["celltype"], progress=False)
    reader = Reader(short)
    assert "--model MODEL" in short and "--group-key group" in short
    assert tuple(a["id"] for _, a in reader.tags if "id" in a) == SECTIONS
    full = Reader(page)
    for columns in (("group", "cells"), ("latent", "belongs to"), ("latent", "can it tell")):
        pd.testing.assert_frame_equal(reader.table(*columns), full.table(*columns))
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert set(adata.uns) == set(before.uns) and (adata.X != before.X).nnz == 0


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


def test_transformed_data_have_no_ranking_and_no_zeros(adata):
    adata = adata.copy()
    adata.X = np.log1p(adata.X.toarray())
    mgvi = pyro_mgvi.MGVI.from_anndata(
        adata, "group", latents=[pyro_mgvi.shared(2)], likelihood=pyro_mgvi.Gaussian
    )
    mgvi.fit(adata, max_epochs=1, progress=False)
    mgvi.write_latents(adata)
    reader = Reader(render(adata, mgvi, progress=False))
    hints = [text for text in reader.texts["p"] if text.startswith("No ")]
    assert len(hints) == 2 and all("Gaussian" in hint for hint in hints)


def test_without_counts_the_latents_are_still_shown(fitted):
    adata = fitted[0].copy()
    adata.X = None
    reader = Reader(render(adata, progress=False))
    assert any("adata.X is empty" in text for text in reader.texts["p"])
    assert reader.table("group", "cells")["cells"].astype(int).sum() == adata.n_obs


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


def test_it_is_written_whole_or_not_at_all(fitted, tmp_path, monkeypatch):
    adata, _ = fitted
    path = tmp_path / "report.html"
    path.write_text("the old one")
    with pytest.raises(SettingsError, match=r"folder .* does not exist"):
        write_report(tmp_path / "none" / "report.html", adata, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(pyro_mgvi.report.page.os, "replace", refuse)
        with pytest.raises(SettingsError, match="disk is full"):
            write_report(path, adata, progress=False)
    assert path.read_text() == "the old one" and [p.name for p in tmp_path.iterdir()] == [path.name]
    write_report(path, adata, progress=False)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def refuse(*_):
    raise OSError("disk is full")


def test_from_the_shell(adata, tmp_path, capsys):
    source, result, out = (tmp_path / name for name in ("in.h5ad", "out.h5ad", "report.html"))
    adata.write_h5ad(source)
    options = ["--group-key", "group", "--epochs", "2", "--quiet"]
    model = tmp_path / "model"
    assert main(["fit", str(source), *options, "--out", str(result), "--model", str(model)]) == 0
    command = ["report", str(result), "--out", str(out), "--quiet"]
    assert main(command) == 0 and "--model MODEL" in out.read_text()
    assert main([*command, "--model", str(model), "--labels", "celltype"]) == 0
    assert "--model MODEL --out report.html --diagnose" in out.read_text()
    out.unlink()
    capsys.readouterr()
    for wrong, message in [
        (["report", str(source), "--out", str(out)], "no uns['mgvi']"),
        ([*command, "--labels", "organ"], "'organ' is not a column"),
        ([*command, "--diagnose"], "name it (--model)"),
        ([*command, "--model", str(tmp_path)], "not a saved model"),
        (["report", str(result), "--out", str(tmp_path / "no" / "x.html")], "does not exist"),
        (["report", str(tmp_path / "none.h5ad"), "--out", str(out)], "does not exist"),
    ]:
        assert main(wrong) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not out.exists()


def test_the_demo_can_be_reported(tmp_path, monkeypatch):
    small = pyro_mgvi.datasets.simulate.clear_recipe(0, n_cells=120, n_shared_genes=60, n_program_genes=30)
    monkeypatch.setattr("pyro_mgvi.cli.demo.simulate", lambda seed: small)
    assert main(["demo", "--epochs", "2", "--out", str(tmp_path / "demo")]) == 0
    result, model, out = (str(tmp_path / p) for p in ("demo/latents.h5ad", "demo/model", "r.html"))
    assert main(["report", result, "--model", model, "--out", out, "--quiet"]) == 0
    assert json.loads(ad.read_h5ad(result).uns["mgvi"]["settings"])["command"] == "demo"


def test_numbers_read_well():
    frame = pd.DataFrame({"a": [1234567, -3], "b": [0.000123456, np.nan], "c": [98765.4, -0.5]})
    table = Table(frame.assign(d=["x", "<y>"]), "caption")
    assert table.rows == [
        ["1,234,567", "0.000123", "98,765", "x"],
        ["\N{MINUS SIGN}3", "-", "\N{MINUS SIGN}0.5", "<y>"],
    ]
    assert table.numeric == [True, True, True, False]


def test_more_labels_than_colours_differ_in_shape():
    rng = np.random.default_rng(0)
    labels = np.repeat([f"type {i:02d}" for i in range(20)], 3)
    ax = plots.scatter(Figure().subplots(), rng.normal(size=(60, 2)), labels)
    handles = ax.get_legend().legend_handles
    looks = {(tuple(h.get_facecolor()[0]), h.get_paths()[0].vertices.tobytes()) for h in handles}
    assert len(handles) == 20 and len(looks) == 20
    assert sum(len(x.get_offsets()) for x in ax.collections) == 60


BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
WIDTHS = (420, 1400)
# Runs inside the page, in a frame as wide as it is to be: a window cannot be narrower than 500.
INSPECT = """<script>
const errors = [];
addEventListener("error", e => errors.push(String(e.message || e.target.outerHTML)), true);
addEventListener("load", () => {
  const page = document.documentElement;
  const inside = e => e.closest(".table") && e.className != "table";
  parent.postMessage({
    width: innerWidth, page: page.scrollWidth, errors: errors,
    wide: [...document.body.querySelectorAll("*")].filter(
      e => !inside(e) && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName),
    images: [...document.images].map(
      i => [i.naturalWidth, i.naturalHeight, i.getBoundingClientRect().width]),
    loaded: performance.getEntriesByType("resource").map(r => r.name).filter(
      n => !n.startsWith("data:")),
    headings: [...document.querySelectorAll("h2")].map(e => e.textContent),
  }, "*");
});
</script>"""


def inspect(page: str, folder) -> list[dict]:
    """Return what chromium finds in the page, at each width."""
    if BROWSER is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    folder.mkdir()
    (folder / "page.html").write_text(page.replace("<head>", "<head>" + INSPECT, 1))
    frames = "".join(f'<iframe src="page.html" width={w} height=900></iframe>' for w in WIDTHS)
    (folder / "host.html").write_text(
        "<!DOCTYPE html><meta charset=utf-8><script>const found = [];"
        "addEventListener('message', e => { found.push(e.data);"
        "document.querySelector('pre').textContent = JSON.stringify(found); });</script>"
        f"<pre></pre>{frames}"
    )
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--window-size=1600,1000"]
    command += ["--virtual-time-budget=20000", "--dump-dom", (folder / "host.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    found = re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    assert found and found[1], (
        f"chromium said nothing (exit {done.returncode}): {done.stderr[-2000:]}"
    )
    return sorted(json.loads(html.unescape(found[1])), key=lambda item: item["width"])


def test_a_browser_shows_it_at_two_widths(page, tmp_path):
    found = inspect(page, tmp_path / "good")
    assert [item["width"] for item in found] == list(WIDTHS)
    n_images = len(re.findall("<img ", page))
    for item in found:
        assert item["errors"] == [] and item["loaded"] == []
        assert item["page"] <= item["width"] and item["wide"] == []
        assert len(item["images"]) == n_images
        for natural_width, natural_height, shown in item["images"]:
            assert natural_width > 0 and natural_height > 0 and 250 < shown <= natural_width
        assert item["headings"][-1] == "Predictive checks"


def test_the_browser_sees_what_is_wrong(page, tmp_path):
    wrong = page.replace(
        "</main>",
        '<div style="width: 2000px">wide</div><img src="data:image/png;base64,AAAA">'
        "<script>throw Error('planted')</script></main>",
        1,
    )
    for item in inspect(wrong, tmp_path / "bad"):
        assert any("planted" in error for error in item["errors"])
        assert "DIV" in item["wide"] and item["page"] > item["width"]
        assert item["images"][-1][:2] == [0, 0]
