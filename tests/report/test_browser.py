"""A browser shows the page as it should."""

import html
import json
import re
import shutil
import subprocess

import pytest

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


@pytest.mark.slow
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
