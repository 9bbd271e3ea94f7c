"""Several modalities from the shell: read, fitted, written, ranked; refused in one line."""

import mudata
import pandas as pd
import pytest
from helpers.modalities import mosaic

from pyro_mgvi.cli.main import main

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture
def path(tmp_path):
    mosaic(prot="d0").write_h5mu(tmp_path / "in.h5mu")
    return tmp_path / "in.h5mu"


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
        (["--modality", "atac=NB"], "not in the data: atac"),
        (["--use-raw"], "--use-raw is for one modality"),
        (["--latents", "modality:atac:2"], "'atac'"),
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
