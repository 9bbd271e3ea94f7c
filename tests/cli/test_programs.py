"""The command ``programs``, on what ``fit`` wrote."""

import sys

import pandas as pd
import pytest

import pyro_mgvi
from pyro_mgvi.cli.gene_sets import GeneSets
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


@pytest.fixture
def gmt(adata, tmp_path):
    path = tmp_path / "sets.gmt"
    genes = [str(gene) for gene in adata.var_names]
    sets = {"one": genes[:12], "other": genes[20:40]}
    path.write_text("".join(f"{k}\t\t" + "\t".join(v) + "\n" for k, v in sets.items()))
    return path


@pytest.mark.slow
def test_gene_sets_are_told_in_a_second_table(saved, gmt, adata, tmp_path, capsys):
    pytest.importorskip("decoupler", reason="decoupler comes with the extra [enrich]")
    assert run(saved, "--no-q", "--gene-sets", gmt, "--out", tmp_path / "programs.csv") == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "programs.csv")
    found = pd.read_csv(tmp_path / "programs_gene_sets.csv")
    expected = pyro_mgvi.enrichment(table, gmt)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert len(found) == 2 * 6  # of three groups' two dimensions
    assert "latent t_group2, dimension 2, " in printed and " of 2 gene sets at q < 0.1" in printed
    command = ["rank-genes", *map(str, saved), "--group", "group1", "--no-q", "--quiet"]
    assert main([*command, "--gene-sets", str(gmt), "--out", str(tmp_path / "genes.tsv")]) == 0
    ranking = pd.read_csv(tmp_path / "genes.tsv", sep="\t")
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "genes_gene_sets.tsv", sep="\t"),
        pyro_mgvi.enrichment(ranking, gmt),
        check_dtype=False,
    )
    capsys.readouterr()
    by = [*command, "--by", "celltype", "--gene-sets", str(gmt), "--out", str(tmp_path / "by.csv")]
    assert main(by) == 0
    within = pd.read_csv(tmp_path / "by_gene_sets.csv")
    assert "label T1, " in capsys.readouterr().out
    assert set(within["label"]) == set(pd.read_csv(tmp_path / "by.csv")["label"])


@pytest.mark.parametrize(
    "out, beside",
    [
        ("g.csv", "g_gene_sets.csv"),
        ("g.tsv.gz", "g_gene_sets.tsv.gz"),
        ("g.1.TSV.GZ", "g.1_gene_sets.TSV.GZ"),
        ("g", "g_gene_sets"),
    ],
)
def test_the_second_table_is_named_like_the_first(out, beside, tmp_path):
    assert GeneSets.of(None, tmp_path / out).out == tmp_path / beside


def test_gene_sets_that_cannot_be_tested_are_refused_before_any_work(
    saved, gmt, tmp_path, capsys, monkeypatch
):
    out, gmt_of_others = tmp_path / "programs.csv", tmp_path / "others.gmt"
    gmt_of_others.write_text("one\t\t" + "\t".join(f"X{i}" for i in range(9)) + "\n")
    monkeypatch.setattr("pyro_mgvi.cli.gene_sets.require", lambda *names: None)
    monkeypatch.setattr(pyro_mgvi.MGVI, "programs", lambda *_, **__: pytest.fail("was refitted"))
    for path, message in (
        (tmp_path / "no.gmt", "gene sets cannot be read"),
        (saved[1], "gene sets cannot be read"),
        (gmt_of_others, "such as X0, X1, X2"),
    ):
        assert run(saved, "--gene-sets", path, "--out", out) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "decoupler", None)  # as if it were not installed
    assert run(saved, "--gene-sets", gmt, "--out", out) == 2
    assert 'pip install "pyro-mgvi[enrich]"' in capsys.readouterr().err
    assert not out.exists()
