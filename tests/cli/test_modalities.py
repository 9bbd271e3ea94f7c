"""Several modalities from the shell: read, fitted, written, ranked; refused in one line."""

import mudata
import pandas as pd
import pytest
from helpers.modalities import mosaic

from pyro_mgvi import MGVI
from pyro_mgvi.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture
def path(tmp_path):
    mosaic(prot="d0").write_h5mu(tmp_path / "in.h5mu")
    return tmp_path / "in.h5mu"


@pytest.mark.slow
def test_a_file_with_modalities_is_fitted_and_ranked(path, capsys):
    out, saved, table = (path.parent / name for name in ("out.h5mu", "model", "genes.csv"))
    fit = ["fit", path, "--group-key", "donor", "--out", out, "--model", saved, "--epochs", "2"]
    fit += ["--modality", "rna=ZINB", "prot=NB", "--latents", "z:2", "modality:prot:2", "t:1@rna"]
    assert main([str(each) for each in [*fit, "--quiet"]]) == 0
    written = mudata.read_h5mu(out)
    assert {"X_mgvi_z", "X_mgvi_prot", "X_mgvi_t_rna_d0"} <= set(written.obsm)
    assert "obsm X_mgvi_z" in capsys.readouterr().out
    rank = ["rank-genes", saved, path, "--group", "d0", "--no-q", "--out", table]
    assert main([str(each) for each in rank]) == 0
    assert pd.read_csv(table)["gene"].str.startswith("rna:").all()


@pytest.mark.parametrize(
    "more, said",
    [
        (["--modality", "rna"], "no NAME=LIKELIHOOD"),
        (["--modality", "rna=Gaussian"], "no NAME=LIKELIHOOD"),
        (["--modality", "rna=NB", "rna=ZINB"], "names modality 'rna' twice"),
        (["--modality", "atac=NB"], "not in the data: atac"),
        (["--use-raw"], "--use-raw is for one modality"),
        (["--latents", "modality:atac:2"], "'atac'"),
        (["--feature-mask", "d0=in_d0"], "'in_d0', is a column of no modality's var"),
        (["--feature-mask", "masks"], "a column of the modalities' var for each group"),
        (["--backed"], "--backed is for one modality"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(path, more, said, capsys):
    out = path.parent / "out.h5mu"
    command = ["fit", str(path), "--group-key", "donor", "--out", str(out), *more]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not out.exists()


def test_the_output_has_the_form_of_the_input(path, capsys):
    command = ["fit", str(path), "--group-key", "donor", "--out", str(path.parent / "out.h5ad")]
    assert main(command) == 2
    assert "several modalities are written as h5mu" in capsys.readouterr().err


@pytest.mark.slow
def test_files_that_do_not_fit_are_named_in_one_line(path, capsys):
    folder = path.parent
    mosaic(prot="d0").mod["rna"].write_h5ad(folder / "one.h5ad")
    (folder / "no.h5mu").write_text("no")
    names = ("y.h5mu", "m", "o.h5ad", "o", "g.csv")
    out, several, of_one, one, table = (str(folder / name) for name in names)
    keys = ["--group-key", "donor", "--epochs", "1", "--quiet"]
    assert main(["fit", str(path), *keys, "--out", out, "--model", several]) == 0
    assert main(["fit", str(folder / "one.h5ad"), *keys, "--out", of_one, "--model", one]) == 0
    capsys.readouterr()
    rank = ["--group", "d1", "--no-q", "--out", table]
    page = ["--out", str(folder / "r.html"), "--quiet"]
    for command, said in (
        (["rank-genes", one, out, *rank], "the model is of one AnnData, not of a MuData"),
        (["rank-genes", several, of_one, *rank], "these are features of a modality: pass the MuDa"),
        (["programs", several, of_one, "--no-q", "--out", table], "features of a modality"),
        (["report", out, "--model", one, *page], "the model is of one AnnData, and the result"),
        (["report", of_one, "--model", several, *page], "X_mgvi_rna'] is missing"),
        (["report", str(folder / "no.h5mu"), *page], "cannot be read as h5mu"),
        (["fit", str(folder / "one.h5ad"), *keys, "--out", out + ".h5mu"], "one modality is writ"),
    ):
        assert main(command) == 2, command
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert main(["rank-genes", several, out, *rank, "--where", "kind == 'a'"]) == 0
    assert pd.read_csv(table)["gene"].str.startswith(("rna:", "prot:")).all()


@pytest.mark.slow
def test_panels_are_told_from_a_shell(path):
    mdata = mudata.read_h5mu(path)
    for donor in ("d0", "d1", "d2"):
        mdata.mod["rna"].var[f"in_{donor}"] = [donor != "d1" or g < 10 for g in range(12)]
    mdata.mod["rna"].X[(mdata.mod["rna"].obs["donor"] == "d1").to_numpy(), 10:] = 0
    mdata.write_h5mu(path)
    masks = [f"{donor}=in_{donor}" for donor in ("d0", "d1", "d2")]
    fit = ["fit", str(path), "--group-key", "donor", "--out", str(path.parent / "out.h5mu")]
    fit += ["--model", str(path.parent / "m"), "--epochs", "1", "--quiet", "--feature-mask", *masks]
    assert main(fit) == 0
    absent = MGVI.load(path.parent / "m").schema.absent
    assert absent["d1"] == ("rna:rna10", "rna:rna11") and len(absent["d0"]) == 6
