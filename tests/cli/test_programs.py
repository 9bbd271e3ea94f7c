"""The command ``programs``, on what ``fit`` wrote."""

import pandas as pd
import pytest

import pyro_mgvi
from pyro_mgvi.cli.main import main


@pytest.fixture
def saved(adata, tmp_path):
    mgvi = pyro_mgvi.MGVI.from_anndata(adata, "group", latents=["z:3", "t:2"])
    mgvi.fit(adata, pyro_mgvi.TrainingPlan(max_epochs=2, prune_below=0), progress=False)
    mgvi.save(tmp_path / "model")
    adata.write_h5ad(tmp_path / "in.h5ad")
    return tmp_path / "model", tmp_path / "in.h5ad"


def run(saved, *options):
    return main(["programs", *map(str, saved), *map(str, options), "--quiet"])


def test_the_table_is_that_of_the_model(saved, adata, tmp_path, capsys):
    out = tmp_path / "programs.csv"
    assert run(saved, "--latents", "t_group2", "--no-q", "--out", out) == 0
    expected = pyro_mgvi.MGVI.load(saved[0]).programs(adata, "t_group2", calibration=False)
    pd.testing.assert_frame_equal(pd.read_csv(out), expected, check_dtype=False)
    printed = capsys.readouterr().out
    assert "t_group2, dimension 2" in printed and expected["gene"].iloc[0] in printed
    for column in ("effect", "mean", "z_score", "q_value"):
        assert printed.count(f"\n  {column}: ") == 1
    tabs = tmp_path / "programs.tsv"
    assert run(saved, "--no-q", "--out", tabs) == 0
    assert set(pd.read_csv(tabs, sep="\t")["latent"]) == {f"t_group{i}" for i in (1, 2, 3)}


def test_bad_input_ends_with_one_line_and_nothing_written(saved, tmp_path, capsys):
    out = tmp_path / "programs.csv"
    for options, message in (
        (("--latents", "u", "--out", out), "unknown latent"),
        (("--out", tmp_path / "no" / "x.csv"), "does not exist"),
        (("--out", saved[1]), "named like something else"),
        (("--out", tmp_path), "it is a folder"),
    ):
        assert run(saved, "--no-q", *options) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not out.exists()


def test_a_model_without_private_dimensions_says_so(saved, tmp_path, capsys):
    mgvi = pyro_mgvi.MGVI.load(saved[0])
    mgvi.model.active.close({"t": mgvi.model.active["t"].clone()})
    mgvi.save(saved[0])
    assert run(saved, "--out", tmp_path / "programs.csv") == 0  # nothing is refitted
    assert "no dimension of these latents is in use" in capsys.readouterr().out
    assert not len(pd.read_csv(tmp_path / "programs.csv"))
