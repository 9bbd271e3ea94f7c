"""The tutorials run in fast mode with warnings as errors, and what is stored of them is clean."""

import re
import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from pyro_mgvi import DataError
from pyro_mgvi.datasets import baron_pancreas, kang_pbmc, pbmc_citeseq
from pyro_mgvi.old_paths import MODULES, NAMES

FOLDER = Path(__file__).parents[1] / "tutorials"
TUTORIALS = sorted(FOLDER.glob("*.ipynb"))
# What the notebooks need beyond the extra test: packages, by the start of the name.
NEEDS = {
    "03": ("scanpy", "skmisc"),
    "07": ("scanpy", "skmisc"),
    "08": ("scanpy", "skmisc", "decoupler"),
    "10": ("scanpy", "skmisc"),
    "11": ("mudata", "scanpy"),
}
# Cells that are downloaded once.
REAL = {"07": kang_pbmc, "08": kang_pbmc, "10": baron_pancreas, "11": pbmc_citeseq}
MACHINE = re.compile(r"(?:/(?:home|root|tmp|work|Users|mnt)/|[A-Z]:\\\\)[^\s\"]*")
STRICT = """
import warnings
warnings.simplefilter("error")
# of other packages: tqdm without ipywidgets, anndata beside pandas 3.1, the kernel when it ends
warnings.filterwarnings("ignore", "IProgress not found")
warnings.filterwarnings("ignore", "The 'mode.chained_assignment' option is deprecated")
warnings.filterwarnings("ignore", "For consistency across implementations")
"""


@pytest.fixture
def nbformat():
    """Import what reads notebooks when a test needs it: it takes seconds."""
    return import_module("nbformat")


@pytest.fixture
def execute(tmp_path, monkeypatch, nbformat):
    """Run a notebook in an empty folder, as a reader would; a failing cell raises."""
    from nbclient import NotebookClient

    monkeypatch.setenv("PYRO_MGVI_FAST", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # tiny tensors: more threads only wait
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")  # this Python's kernel, not the user's
    (tmp_path / "run").mkdir()

    def execute(notebook):
        notebook = nbformat.from_dict(notebook)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(STRICT))
        resources = {"metadata": {"path": str(tmp_path / "run")}}
        client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources)
        return client.execute()

    return execute


def test_all_are_here():
    assert [path.name[:2] for path in TUTORIALS] == [f"{number:02d}" for number in range(1, 12)]


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path, execute, nbformat, tmp_path):
    for package in NEEDS.get(path.name[:2], ()):
        if find_spec(package) is None:
            pytest.skip(f"{path.name} needs {package}: pip install 'pyro-mgvi[tutorials]'")
    if path.name[:2] in REAL:
        try:
            REAL[path.name[:2]]()
        except DataError as error:
            pytest.skip(str(error))
    copy = shutil.copy(path, tmp_path)
    execute(nbformat.read(copy, as_version=4))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import warnings; warnings.warn('look out')", r"UserWarning\S*: look out"),  # colours
    ],
    ids=["error", "warning"],
)
def test_a_broken_cell_fails_the_run(cell, reason, execute, nbformat):
    from nbclient.exceptions import CellExecutionError

    cells = [nbformat.v4.new_code_cell(source) for source in ("x = 1", cell, "x = 2")]
    with pytest.raises(CellExecutionError, match=reason):
        execute(nbformat.v4.new_notebook(cells=cells))


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_what_is_stored_is_clean(path, nbformat):
    assert path.stat().st_size < 600_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    title = notebook.cells[0].source.splitlines()[0]
    assert title.startswith("# ") and title.endswith("?")
    assert "What you may conclude, and what not" in text
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    assert counts == list(range(1, len(code) + 1))  # one run, from top to bottom
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [x for x in outputs if x.output_type == "error" or x.get("name") == "stderr"]
    assert not any("widget" in kind for x in outputs for kind in x.get("data", {}))
    assert not re.search(r"\bat 0x[0-9a-f]+", str(outputs))  # another address in every run
    assert not MACHINE.findall(path.read_text())
    source = "\n".join(cell.source for cell in code)
    assert not re.search(r"pyro_mgvi[\w.]*\._|\b\w+\._[a-z]|import _", source)  # public names only
    assert not [old for old in (*MODULES, *NAMES) if re.search(rf"\b{old}\b", source)]
