"""Figures show themselves in a notebook, are saved whole or not at all, and leave no window."""

import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image

from pyro_mgvi import SettingsError, plots

HISTORY = pd.DataFrame({"epoch": [1, 2], "train": [3.0, 2.0]})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "many"),
    [("", 22), ("%matplotlib inline\n", 2), ("import matplotlib.pyplot as plt\n", 2)],
)
def test_a_notebook_shows_every_figure_once(first, many, tmp_path, monkeypatch):
    import nbformat  # takes seconds, which the quick tests need not pay
    from nbclient import NotebookClient

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    sources = {
        f"{first}import pandas as pd, warnings\nfrom pyro_mgvi import plots\n"
        "h = pd.DataFrame({'epoch': [1, 2], 'train': [3.0, 2.0]})\n"
        "warnings.simplefilter('error')": 0,
        "plots.history(h)": 1,
        "plots.history(h); x = 1": 1,
        "ax = plots.history(h, show=True)": 1,
        "plots.history(h, show=False)": 0,
        f"for i in range({many}): plots.history(h)": many,  # matplotlib warns of more than 20
        "import matplotlib.pyplot; matplotlib.pyplot.get_fignums()": 0,
    }
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = {
        cell.source: sum("image/png" in output.get("data", {}) for output in cell.outputs)
        for cell in notebook.cells
    }
    assert shown == sources
    assert notebook.cells[-1].outputs[0]["data"]["text/plain"] == "[]"


@pytest.mark.slow
def test_a_script_does_not_get_pyplot_unasked(strict):
    code = (
        "import sys, pandas as pd\nfrom pyro_mgvi import plots\n"
        "plots.history(pd.DataFrame({'epoch': [1], 'train': [3.0]}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    options = ["-W", "error"] if strict else []
    subprocess.run([sys.executable, *options, "-c", code], check=True)


def test_a_figure_is_saved_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "loss.png"
    plots.history(HISTORY, save=path)
    with Image.open(path) as picture:
        assert picture.width > 100
    for save, message in [
        (tmp_path / "none" / "x.png", "folder .* does not exist"),
        (tmp_path / "x.nothing", "ending must be one of .*png"),
        (tmp_path / "x", "ending must be one of"),
        (tmp_path, "is a folder"),
    ]:
        with pytest.raises(SettingsError, match=message):
            plots.history(HISTORY, save=save)
    before = path.read_bytes()
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", broken)
    with pytest.raises(SettingsError, match="disk is full"):
        plots.history(HISTORY, save=path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


def broken(figure, part):
    part.write_text("half")
    raise OSError("disk is full")


def test_what_cannot_be_shown_is_said(monkeypatch):
    monkeypatch.setattr("matplotlib.get_backend", lambda: "agg")
    with pytest.raises(SettingsError, match="agg has no display; use save"):
        plots.history(HISTORY, show=True)
