"""The command ``report``, on what ``fit`` and ``demo`` wrote."""

import json

import anndata as ad
import pytest

from pyro_mgvi.cli.main import main
from pyro_mgvi.datasets import clear_recipe


@pytest.mark.slow
def test_from_the_shell(adata, tmp_path, capsys):
    source, result, out = (tmp_path / name for name in ("in.h5ad", "out.h5ad", "report.html"))
    adata.write_h5ad(source)
    options = ["--group-key", "group", "--epochs", "2", "--quiet"]
    model = tmp_path / "model"
    assert main(["fit", str(source), *options, "--out", str(result), "--model", str(model)]) == 0
    command = ["report", str(result), "--out", str(out), "--quiet"]
    assert main(command) == 0 and f"--model {model} --out report.html" in out.read_text()
    assert main([*command, "--model", str(model), "--labels", "celltype"]) == 0
    assert f"--model {model} --out report.html --diagnose" in out.read_text()
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


@pytest.mark.slow
def test_the_demo_can_be_reported(tmp_path, monkeypatch):
    small = clear_recipe(0, n_cells=120, n_shared_genes=60, n_program_genes=30)
    monkeypatch.setattr("pyro_mgvi.cli.demo.simulate", lambda seed: small)
    assert main(["demo", "--epochs", "2", "--out", str(tmp_path / "demo")]) == 0
    result, model, out = (str(tmp_path / p) for p in ("demo/latents.h5ad", "demo/model", "r.html"))
    assert main(["report", result, "--model", model, "--out", out, "--quiet"]) == 0
    assert json.loads(ad.read_h5ad(result).uns["mgvi"]["settings"])["command"] == "demo"
