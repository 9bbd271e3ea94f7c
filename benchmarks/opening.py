"""How large the report of many cells is, and how long a browser takes to show it.

    python -m benchmarks.opening --cells 50000 --repeats 5 --out DIR

Simulated cells, trained briefly, which the size of the page does not depend on. Chromium opens the
page; the page itself tells when it can be read and when its explorer is drawn. A report that is
there already is used again.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch

from pyro_mgvi import MGVI
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.report import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --window-size=1400,1000 "
    "--remote-debugging-port=0"  # so that it stays until it is told to end
).split()
# Two frames after the text is there it has been painted; the explorer says when it is drawn.
TIMES = """<script>
const times = {};
const painted = name => requestAnimationFrame(() => requestAnimationFrame(
  () => { times[name] = performance.now() / 1000; }));
addEventListener("DOMContentLoaded", () => painted("can be read"));
addEventListener("load", function wait() {
  const status = document.getElementById("x-status");
  if (!("can be read" in times) || (status && status.textContent.includes("being drawn"))) {
    setTimeout(wait, 20);
    return;
  }
  times["is drawn"] = performance.now() / 1000;
  console.log("TIMES" + JSON.stringify(times) + "END");
});
</script>"""


def opened(page: Path) -> dict[str, float]:
    """Return the seconds from the request until the page can be read, and is drawn.

    Raises
    ------
    SystemExit
        If there is no browser, or it says nothing.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit("chromium is not installed (Debian: apt-get install chromium)")
    with TemporaryDirectory() as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", page.as_uri()]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace")
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"TIMES(.*)END", line.replace('\\"', '"')):
                    times: dict[str, float] = json.loads(found[1])
                    return times
        finally:
            process.kill()
            process.wait()
    raise SystemExit("the browser has ended without a word")


def main() -> None:
    """Write the report if it is not there, open it some times, and print size and medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=50_000)
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("opening"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    page = given.out.resolve() / f"report_{given.cells}.html"
    if not page.exists():
        adata = clear_recipe(0, given.cells, 500, 100, groups=given.groups)
        mgvi = MGVI.from_anndata(adata, "group")
        mgvi.fit(adata, max_epochs=2)
        mgvi.write_latents(adata)
        write_report(page, adata, mgvi, labels=["celltype"])
    timed = page.with_name(f"timed_{given.cells}.html")
    timed.write_text(page.read_text().replace("<head>", "<head>" + TIMES, 1))
    times = pd.DataFrame([opened(timed) for _ in range(given.repeats)])
    print(f"{given.cells:,} cells: {page.stat().st_size / 1e6:.1f} MB")
    print(times.agg(["min", "median", "max"]).round(2).to_string())


if __name__ == "__main__":
    main()
