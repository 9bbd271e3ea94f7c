"""A browser shows the page as it should."""

import csv
import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from helpers.html_reader import number

from pyro_mgvi.report import render

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
WIDTHS = (360, 768, 1400)
# Runs inside the page, in a frame as wide as it is to be: a window cannot be narrower than 500.
INSPECT = """<script>
const errors = [];
addEventListener("error", e => errors.push(String(e.message || e.target.outerHTML)), true);
addEventListener("securitypolicyviolation", e => errors.push("asked for " + e.blockedURI));
console.error = (...parts) => errors.push(parts.join(" "));
let library = null;
addEventListener("load", () => { library = typeof Plotly; });
let tries = 0;
addEventListener("load", () => setTimeout(function wait() {
  const status = document.getElementById("x-status");
  if (status && status.textContent.includes("being drawn") && tries++ < 200) {
    setTimeout(wait, 50);
    return;
  }
  const page = document.documentElement;
  const inside = e => e.closest(".table, .js-plotly-plot") && !e.matches(".table, .js-plotly-plot");
  const measured = () => ({
    page: page.scrollWidth,
    wide: [...document.body.querySelectorAll("*")].filter(
      e => !inside(e) && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName),
  });
  const before = measured();
  let used = null;
  try { used = act(); } catch (error) { errors.push(String(error.stack)); }
  const after = measured();
  parent.postMessage({
    width: innerWidth, errors: errors, used: used, library: library,
    page: Math.max(before.page, after.page), wide: [...before.wide, ...after.wide],
    images: [...document.images].map(
      i => [i.naturalWidth, i.naturalHeight, i.getBoundingClientRect().width,
            Boolean(i.closest(".still"))]),
    loaded: performance.getEntriesByType("resource").map(r => r.name).filter(
      n => !/^(data|blob):/.test(n)),
    headings: [...document.querySelectorAll("h2")].map(e => e.textContent),
    unnamed: [...document.querySelectorAll("select, input, button")].filter(
      e => !(e.tagName == "BUTTON" && e.textContent.trim()) && !e.ariaLabel && !e.labels.length
    ).map(e => e.outerHTML),
  }, "*");
}, 500));
// What a reader does: chooses colours and latents, selects cells, sorts and searches.
function act() {
  const at = id => document.getElementById("x-" + id);
  if (!at("plot")) return null;
  const texts = box => [...box.querySelectorAll("tbody tr")].filter(row => !row.hidden).map(
    row => [...row.cells].map(cell => cell.textContent));
  const fire = (e, name) => e.dispatchEvent(new Event(name, { bubbles: true }));
  const choose = (id, value) => { at(id).value = value; fire(at(id), "change"); };
  const found = { uncounted: at("counts").textContent, ink: [],
    colours: [...at("colour").options].map(o => [o.value, o.text]) };
  const drawn = () => [...at("multiples").querySelectorAll("canvas")].map(c => new Set(
    c.getContext("2d").getImageData(0, 0, c.width, c.height).data).size > 2);
  for (const value of ["d0", "g0", "c1", "c0"]) {
    choose("colour", value);
    found.ink.push(drawn().every(Boolean));
  }
  found.labels = [...at("key").querySelectorAll("button")].map(b => b.textContent);
  at("key").querySelector("button").click();
  found.pressed = at("key").querySelector("button").getAttribute("aria-pressed");
  found.status = at("status").textContent;
  found.counts = texts(at("counts").children[0]);
  found.genes = texts(at("genes"));
  const heads = at("genes").querySelectorAll("th");
  heads[3].querySelector("button").click();
  heads[3].querySelector("button").click();
  found.sorted = [heads[3].getAttribute("aria-sort"), texts(at("genes")).map(row => row[3])];
  const search = at("genes").querySelector("input");
  search.value = found.genes[0][0].toUpperCase();
  fire(search, "input");
  found.searched = texts(at("genes")).map(row => row[0]);
  found.csv = Tables.csv(at("genes").querySelector("table"));
  const views = at("multiples").querySelectorAll("button");
  views[views.length - 1].click();
  found.title = at("title").textContent;
  found.points = at("plot").data[0].x.length;
  found.fits = ["plot", "compare"].map(id => at(id).clientHeight - at(id).querySelector(
    ".main-svg").getBoundingClientRect().height);
  found.tags = at("plot").data[0].text.join("").match(/<[^>]*>/g);
  at("plot").emit("plotly_selected", { points: [{ pointIndex: 0 }, { pointIndex: 5 }] });
  found.lasso = at("status").textContent;
  found.bold = at("plot").data[0].selectedpoints.length;
  at("genes").querySelector("td button").click();
  found.coloured = [at("colour").selectedOptions[0].text,
    at("genes").querySelector("td").textContent];
  found.compared = [at("compare").data[0].x.length, at("gene").selectedOptions[0].text];
  at("clear").click();
  found.cleared = at("status").textContent;
  found.stills = [...document.querySelectorAll(".still")].map(e => getComputedStyle(e).display);
  const table = document.querySelector("#genes .table");
  table.closest("section").querySelector("input").value = "plain";
  fire(table.closest("section").querySelector("input"), "input");
  found.filtered = [...new Set(texts(table).map(row => row[0]))];
  return found;
}
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
    command += ["--virtual-time-budget=30000", "--dump-dom", (folder / "host.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    found = re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    assert found and found[1], (
        f"chromium said nothing (exit {done.returncode}): {done.stderr[-2000:]}"
    )
    return sorted(json.loads(html.unescape(found[1])), key=lambda item: item["width"])


@pytest.fixture(scope="module")
def seen(page, tmp_path_factory):
    """What the browser finds at each width."""
    pytest.importorskip("plotly", reason="the explorer needs plotly")
    return inspect(page, tmp_path_factory.mktemp("browser") / "good")


@pytest.mark.slow
def test_a_browser_shows_it_at_three_widths(page, seen):
    assert [item["width"] for item in seen] == list(WIDTHS)
    n_images = len(re.findall("<img ", page))
    for item in seen:
        assert item["errors"] == [] and item["loaded"] == []
        assert item["page"] <= item["width"] and item["wide"] == []
        assert len(item["images"]) == n_images
        for natural_width, natural_height, shown, still in item["images"]:
            assert natural_width > 0 and natural_height > 0
            assert shown == 0 if still else 250 < shown <= natural_width
        assert item["headings"][-1] == "Predictive checks" and item["unnamed"] == []


@pytest.mark.slow
def test_the_page_can_be_read_before_the_library_is_compiled(page, seen):
    library = page[page.index('id="x-library"') :].split("</script>")[0]
    assert len(library) > len(page) / 2
    for item in seen:
        assert item["library"] == "undefined" and item["used"] is not None


@pytest.mark.slow
def test_cells_are_selected_and_their_genes_are_ranked(seen, fitted):
    adata, _ = fitted
    sizes = adata.obs["group"].value_counts(sort=False)
    for item in seen:
        used = item["used"]
        names = [text for value, text in used["colours"] if value[0] == "g"]
        assert all(used["ink"]) and len(names) == len(set(names)) > 20
        first, n = adata.obs["group"].cat.categories[0], str(sizes.iloc[0])
        assert used["labels"] == [f"\u25cf{name}{size}" for name, size in sizes.items()]
        assert used["pressed"] == "true" and used["status"] == f"{n} of 120 cells are selected."
        assert used["uncounted"] == "Select some cells, and they are counted here."
        assert used["counts"] == [[first, n, n, "100"]]
        x = adata[:, names].X.toarray()
        log_ng = np.log1p(1e4 * x / adata.X.sum(1))
        mine = (adata.obs["group"] == first).to_numpy()
        truth = dict(zip(names, np.asarray(log_ng[mine].mean(0) - log_ng[~mine].mean(0)).ravel()))
        found = {row[0]: number(row[3]) for row in used["genes"]}
        assert set(found) == set(names)
        for name in names:
            assert found[name] == pytest.approx(truth[name], abs=0.02)
        ranked = list(found.values())
        assert ranked == sorted(ranked, reverse=True)


@pytest.mark.slow
def test_tables_sort_search_and_download(seen):
    for item in seen:
        used = item["used"]
        direction, values = used["sorted"]
        assert direction == "ascending"
        assert [number(v) for v in values] == sorted(number(v) for v in values)
        first = used["genes"][0][0]
        assert first in used["searched"] and len(used["searched"]) < len(used["genes"])
        rows = list(csv.reader(used["csv"].splitlines()))
        assert rows[0] == ["gene", "selected", "others", "difference"]
        assert [row[0] for row in rows[1:]] == used["searched"]
        assert used["filtered"] == ["plain"]


@pytest.mark.slow
def test_latents_are_enlarged_and_the_lasso_selects(seen, fitted):
    sizes = fitted[0].obs["group"].value_counts()
    for item in seen:
        used = item["used"]
        assert (
            used["title"] == f"t_plain: {sizes['plain']} cells of plain, by group"
            and used["points"] == sizes["plain"]
        )
        assert used["lasso"] == "2 of 120 cells are selected." and used["bold"] == 2
        assert used["compared"] == [120, used["coloured"][0]] and len(set(used["coloured"])) == 1
        assert set(used["tags"]) == {"<br>"}  # names are no tags, where plotly reads some
        assert all(abs(left) <= 1 for left in used["fits"]), "the picture is cut"
        assert used["cleared"] == "No cell is selected."
        assert set(used["stills"]) == {"none"}


@pytest.mark.slow
def test_without_plotly_the_pictures_are_shown(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr("pyro_mgvi.report.page.find_spec", lambda name: None)
    for item in inspect(render(fitted[0], progress=False), tmp_path / "still"):
        assert item["errors"] == [] and item["used"] is None and item["wide"] == []
        assert all(shown > 250 for _, _, shown, _ in item["images"])


@pytest.mark.slow
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
