"""The code of the docs runs as it stands; variants train, and are as short as extend.md says."""

import ast
import re
import subprocess
import sys
from importlib.util import find_spec
from inspect import ismodule

import numpy as np
import pyro
import pytest
from helpers.cells import log_normalised
from helpers.columns import tissue_by_drug
from helpers.documents import ROOT, cells_of_regions, commands, python_blocks, run
from pyro.infer import SVI

import pyro_mgvi
from pyro_mgvi import MGVI, NB, ZINB, Likelihood, TrainingPlan, per, shared
from pyro_mgvi.cli.main import main
from pyro_mgvi.datasets import two_modalities

BLOCKS = python_blocks("docs/extend.md")
BRIEF = TrainingPlan(max_epochs=2, prune_below=0)
LATENT, FOREIGN = "A latent of some groups", "A prior for foreign cells, with its divergence"
OWNERS, LIKELIHOOD = "A prior for the cells that own a latent", "A likelihood"
NETWORKS = "An encoder and a decoder"
VARIANTS = (LATENT, OWNERS, FOREIGN, LIKELIHOOD, NETWORKS)


@pytest.fixture
def regions(adata):
    return cells_of_regions(adata, "Ileum", "Jejunum", "Colon")


@pytest.mark.parametrize("heading", [heading for heading in BLOCKS if heading not in VARIANTS])
def test_the_code_of_a_section_runs(heading, regions):
    run(BLOCKS[heading], regions)


SCALE = python_blocks("docs/scale.md")


@pytest.mark.parametrize("heading", SCALE)
def test_the_code_about_scale_runs(heading, regions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(SCALE[heading], regions)


HOW_TO = python_blocks("docs/howto.md")
NEEDED = {"Ask which gene sets a dimension holds": "decoupler"}  # packages of an extra


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*ArviZ")
@pytest.mark.parametrize("heading", HOW_TO)
def test_a_recipe_runs(heading, regions, tmp_path, monkeypatch):
    if heading in NEEDED:
        pytest.importorskip(NEEDED[heading])
    monkeypatch.chdir(tmp_path)
    run(HOW_TO[heading], regions)


def designs():
    """Return the two lines of each row of the table of designs in choose.md."""
    text = (ROOT / "docs/choose.md").read_text(encoding="utf-8")
    table = text.split("| my design is | the two lines |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [re.fullmatch(r"\| (.*?) ?\| `(.*)` \|", line).groups() for line in table]
    return {first[0]: (first[1], second[1]) for first, second in zip(cells[::2], cells[1::2])}


@pytest.mark.slow
@pytest.mark.parametrize("design", designs())
def test_the_two_lines_of_a_design_run(design, monkeypatch):
    adata = tissue_by_drug(n_cells=240)
    obs = adata.obs
    obs["condition"] = obs["drug"]
    obs["treatment"] = obs["drug"].replace({"stim": "treated"})
    obs["patient"] = [f"p{i % 4}" for i in range(adata.n_obs)]
    fit = MGVI.fit
    monkeypatch.setattr(MGVI, "fit", lambda mgvi, cells: fit(mgvi, cells, BRIEF, progress=False))
    mdata = two_modalities(n_cells=240, n_genes=60, n_proteins=20)
    mdata.obs["condition"] = np.where(mdata.obs["group"] == "group1", "ctrl", "stim")
    space = {"adata": adata, "mdata": mdata, "NB": NB, "ZINB": ZINB}
    space |= {"MGVI": MGVI, "per": per, "shared": shared}
    for line in designs()[design]:
        exec(line, space)
    found = [space.get(name) for name in ("genes", "tables", "programs")]
    looked = space["mgvi"].discovery is not None  # in so few cells it finds nothing
    assert looked or any(each is not None and len(each) for each in found)
    if "sample_key" in designs()[design][0]:
        assert space["genes"].attrs["q_value_of"] == "new samples"


@pytest.mark.slow
def test_get_started_leads_from_a_scanpy_file_to_a_finding(adata, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cells = cells_of_regions(adata, "ctrl", "stim", "other")
    cells.obs = cells.obs.rename(columns={"region": "condition", "celltype": "cell_type"})
    cells.layers["counts"] = cells.X.copy()
    cells.X = log_normalised(cells).X
    cells.write_h5ad("cells.h5ad")
    space = run(python_blocks("docs/start.md")["From a scanpy file to a finding"], cells)
    assert "X_mgvi_t_stim" in space["adata"].obsm
    assert set(space["genes"].index) == set(cells.var_names)
    assert "t_stim" in capsys.readouterr().out


GROUPS = {
    "README.md": ("region", ("Ileum", "Jejunum", "Colon")),
    "docs/start.md": ("condition", ("ctrl", "stim", "other")),
}


@pytest.mark.slow
@pytest.mark.parametrize("document", GROUPS)
def test_the_same_from_a_shell(document, adata, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    key, names = GROUPS[document]
    cells = cells_of_regions(adata, *names)
    types = cells.obs["celltype"].cat.rename_categories({"T1": "Enterocyte"})
    cells.obs = cells.obs.rename(columns={"region": key}).assign(cell_type=types)
    cells.layers["counts"] = cells.X.copy()
    cells.write_h5ad("cells.h5ad")
    lines = [line for line in commands(document) if line != ["demo"]]
    assert [line[0] for line in lines] == ["fit", "rank-genes", "programs", "report"]
    for line in lines:
        brief = ["--epochs", "2"] if line[0] == "fit" else []
        assert main([*line, *brief, "--quiet"]) == 0, line
        assert (tmp_path / line[line.index("--out") + 1]).is_file()


@pytest.mark.skipif(find_spec("sphinx") is None, reason="sphinx comes with the extra [docs]")
@pytest.mark.slow
def test_the_pages_build_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "docs", tmp_path / "html"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert "WassersteinTraceELBO" in (tmp_path / "html" / "reference.html").read_text()


def test_the_evidence_is_there():
    text = (ROOT / "docs/evidence.md").read_text()
    for note in re.findall(r"RESULTS\w*\.md", text):
        assert (ROOT / "benchmarks/notes" / note).is_file(), note
    for module in re.findall(r"python -m (benchmarks\.\w+)", text):
        assert find_spec(module) is not None, module


def test_the_tests_that_hold_a_newcomers_rows_are_there():
    text = (ROOT / "benchmarks/notes/RESULTS_newcomer.md").read_text()
    named = set(re.findall(r"`([\w/]+\.py)::(test_\w+)`", text))
    assert len(named) > 50
    for path, name in named:
        assert f"\ndef {name}(" in (ROOT / "tests" / path).read_text(), f"{path}::{name}"


def test_every_public_name_of_the_top_level_is_in_the_reference():
    rooms = {name for name in pyro_mgvi.__all__ if ismodule(getattr(pyro_mgvi, name))}
    listed = {line.strip() for line in (ROOT / "docs/reference.md").read_text().splitlines()}
    assert not set(pyro_mgvi.__all__) - rooms - listed


def steps(mgvi, adata):
    plan = TrainingPlan(max_epochs=4, batch_size=60, validation_fraction=0, search=None)
    setup = mgvi.training_setup(adata, plan)
    svi = SVI(setup.model, setup.guide, pyro.optim.Adam({"lr": 5e-3}), setup.elbo)
    losses = [svi.step(*batch) for epoch in range(4) for batch in setup.minibatches(epoch)]
    setup.finish()
    return losses


def defined(space, kind=object):
    """Return the classes of a kind that the code defined."""
    classes = [value for value in space.values() if isinstance(value, type)]
    return [x for x in classes if x.__module__ == "a_document" and issubclass(x, kind)]


def assert_trains_and_comes_back(mgvi, adata, own, path):
    losses = steps(mgvi, adata)
    assert np.mean(losses[-2:]) < np.mean(losses[:2])
    mgvi.save(path)
    loaded = MGVI.load(path, components=own).latents(adata)
    for key, value in mgvi.latents(adata).items():
        np.testing.assert_array_equal(loaded[key], value)


@pytest.mark.parametrize("heading", VARIANTS)
def test_a_variant_trains_and_is_saved(heading, regions, tmp_path):
    space = run(BLOCKS[heading], regions)
    assert_trains_and_comes_back(space["mgvi"], regions, defined(space), tmp_path / "m")


def test_each_likelihood_trains_and_ranks_genes(regions, tmp_path):
    likelihoods = defined(run(BLOCKS[LIKELIHOOD], regions), Likelihood)
    assert len(likelihoods) == 2
    for likelihood in likelihoods:
        mgvi = MGVI.from_anndata(regions, "region", likelihood=likelihood)
        assert_trains_and_comes_back(mgvi, regions, [likelihood], tmp_path / likelihood.__name__)
        table = mgvi.rank_genes(regions, "Ileum", calibration=False)
        assert set(table.index) == set(regions.var_names) and table["per_cell"].notna().all()


def n_lines(code, leave_out):
    """Return how many lines of code define something."""
    lines, total = code.splitlines(), 0
    for node in ast.parse(code).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)) or getattr(node, "name", "") in leave_out:
            continue
        if isinstance(node, ast.Assign) and node.targets[0].id in ("latents", "mgvi"):
            continue
        first = min([node.lineno, *(x.lineno for x in getattr(node, "decorator_list", []))])
        total += sum(bool(line.strip()) for line in lines[first - 1 : node.end_lineno])
    return total


@pytest.mark.parametrize("heading", [LATENT, OWNERS, FOREIGN, LIKELIHOOD])
def test_a_variant_takes_ten_lines(heading):
    (code,) = BLOCKS[heading]
    assert n_lines(code, leave_out={"PoissonLogNormal"}) <= 10  # the longer of two likelihoods
