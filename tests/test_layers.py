"""The house: imports run in one direction, rooms are small, and what is optional stays outside."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_mgvi

PACKAGE = Path(__file__).resolve().parents[1] / "pyro_mgvi"
#: From the ground up: each layer may import those before it, and itself.
LAYERS = (
    ("errors",),
    ("old_paths", "support"),
    ("kernels",),
    ("core",),
    ("networks", "likelihoods", "data"),
    ("model",),
    ("training",),
    ("analysis",),
    ("results",),
    ("presets", "modalities", "fitting"),
    ("saving",),
    ("mgvi",),
    ("criticism", "baselines", "datasets"),
    ("plots",),
    ("report",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))
PACKAGES = sorted({file.parent for file in FILES} - {PACKAGE})


def layer(file: Path) -> str:
    part = file.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


def imports(file: Path) -> set[str]:
    """Return the full names of what a file imports of this package, within functions, too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyro_mgvi"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("pyro_mgvi")}
    return found


def test_every_file_belongs_to_a_layer():
    rooms = {layer(file) for file in FILES} - {"__init__"}
    assert rooms == set(LEVEL)


def test_nothing_imports_upward():
    for file in FILES:
        own = layer(file)
        for name in imports(file):
            parts = name.split(".")
            if own == "__init__" or len(parts) < 2 or parts[1] == "__version__":
                continue  # the package itself, for its version
            other = parts[1]
            assert other in LEVEL, f"{file} imports {name} from the top level: name the module"
            if other != own:
                assert LEVEL[other] < LEVEL[own], f"{file}: {name} is not below {own}"


def test_modules_import_one_another_without_cycles():
    module = {
        file: ".".join(("pyro_mgvi", *file.relative_to(PACKAGE).with_suffix("").parts))
        for file in FILES
    }
    known = {name.removesuffix(".__init__"): file for file, name in module.items()}

    def targets(file):
        for name in imports(file):
            while name not in known and "." in name:
                name = name.rpartition(".")[0]
            target = known.get(name)
            if target is not None and target != file and target.name != "__init__.py":
                yield target

    state: dict[Path, str] = {}

    def visit(file, path):
        assert state.get(file) != "open", f"cycle: {[str(p.name) for p in (*path, file)]}"
        if file in state:
            return
        state[file] = "open"
        for target in targets(file):
            visit(target, (*path, file))
        state[file] = "done"

    for file in FILES:
        visit(file, ())


def test_no_file_is_over_300_lines():
    lines = {
        str(file.relative_to(PACKAGE)): len(file.read_text(encoding="utf-8").splitlines())
        for file in FILES
    }
    assert {name: n for name, n in lines.items() if n > 300} == {}


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: str(folder.relative_to(PACKAGE)))
def test_a_package_is_small_and_says_in_one_sentence_what_it_is_for(folder):
    modules = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
    assert len(modules) <= 10
    sentence = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert sentence and len(sentence.split()) >= 5
    assert sentence.splitlines()[0].endswith(".")


def test_no_attribute_is_looked_up_by_a_name_that_is_put_together():
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if named and node.func.id in ("getattr", "hasattr"):
                assert not isinstance(node.args[1], ast.JoinedStr), f"{file}:{node.lineno}"


HEAVY = ("lightning_fabric", "sklearn", "arviz", "torch._dynamo", "matplotlib", "scanpy", "jinja2")


@pytest.mark.slow
def test_what_comes_when_used_is_not_imported_before():
    code = "import sys, torch, pyro, anndata\nbefore = set(sys.modules)\n"  # dask's jinja2
    for statement in ("import pyro_mgvi", "from pyro_mgvi import MGVI, WassersteinTraceELBO"):
        code += f"{statement}\nprint(*({{*{HEAVY}}} & (set(sys.modules) - before)))\n"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_the_version_is_told_without_torch():
    code = (
        "import sys\n"
        "from pyro_mgvi.cli.main import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit as error:\n    assert error.code == 0\n"
        "assert not {'torch', 'pyro', 'numpy', 'pandas', 'anndata'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "pyro_mgvi", "--version"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    assert run.stdout.strip() == pyro_mgvi.__version__


OLD_PATHS = (
    "from pyro_mgvi.simulate import clear_recipe",
    "from pyro_mgvi import metrics, plots, datasets, criticism, baselines",
    "from pyro_mgvi.metrics import probe",
    "from pyro_mgvi.demo import scores",
    "from pyro_mgvi import start_anew, Start, Davison",
)


@pytest.mark.slow
def test_paths_of_earlier_versions_go_on_working(strict):
    code = (  # each as if nothing of the package were imported yet
        "import sys\n"
        f"for statement in {OLD_PATHS}:\n"
        "    for name in [m for m in sys.modules if m.split('.')[0] == 'pyro_mgvi']:\n"
        "        del sys.modules[name]\n"
        "    exec(statement, {})\n"
    )
    options = ["-W", "error::DeprecationWarning"] if strict else []
    subprocess.run([sys.executable, *options, "-c", code], check=True)
