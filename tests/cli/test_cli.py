"""The command line, as a user would call it."""

import json
import os
import signal
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import pyro_mgvi
from pyro_mgvi.analysis.metrics import kmeans_ari, probe
from pyro_mgvi.cli.files import read_cells
from pyro_mgvi.cli.main import main
from pyro_mgvi.cli.outputs import write_cells
from pyro_mgvi.datasets import clear_recipe
from pyro_mgvi.training import Trainer


@pytest.fixture
def h5ad(adata, tmp_path):
    path = tmp_path / "in.h5ad"
    adata = adata.copy()
    adata.obs["donor"] = np.where(np.arange(adata.n_obs) % 2, "d1", "d2")
    adata.layers["raw"] = adata.X.copy()
    adata.uns["note"] = "mine"
    adata.obsm["X_pca"] = np.ones((adata.n_obs, 2))
    adata.write_h5ad(path)
    return path


def fit(*options):
    return main(["fit", *map(str, options), "--epochs", "2", "--quiet"])


def test_fit_writes_latents_and_keeps_what_the_input_held(h5ad, tmp_path, capsys):
    before = h5ad.read_bytes()
    out, model = tmp_path / "out.h5ad", tmp_path / "model"
    assert fit(h5ad, "--group-key", "group", "--layer", "raw", "--batch-key", "donor",
               "--out", out, "--model", model) == 0  # fmt: skip
    printed = capsys.readouterr().out
    assert "X_mgvi_t_group3" in printed
    assert h5ad.read_bytes() == before
    source, result = ad.read_h5ad(h5ad), ad.read_h5ad(out)
    assert (source.X != result.X).nnz == 0 and result.uns["note"] == "mine"
    pd.testing.assert_frame_equal(source.obs, result.obs)
    pd.testing.assert_frame_equal(source.var, result.var)
    assert set(result.obsm) == {"X_pca", "X_mgvi_z", *(f"X_mgvi_t_group{i}" for i in (1, 2, 3))}
    foreign = (result.obs["group"] != "group1").to_numpy()
    np.testing.assert_array_equal(np.isnan(result.obsm["X_mgvi_t_group1"]).all(1), foreign)
    mgvi = result.uns["mgvi"]
    assert json.loads(mgvi["settings"])["batch_key"] == "donor"
    assert mgvi["versions"]["pyro_mgvi"] == pyro_mgvi.__version__
    history = mgvi["history"]
    assert len(history) == 2 and history["kept"].sum() == 1
    kept = history.loc[history["kept"], "validation"].item()
    assert f"2 epochs, validation loss {kept:.2f} nats per cell" in printed
    assert "1 nat is 1.44 bits" in printed
    loaded = pyro_mgvi.MGVI.load(model)
    np.testing.assert_array_equal(loaded.latents(source)["z"], result.obsm["X_mgvi_z"])
    pd.testing.assert_frame_equal(loaded.history, history, check_index_type=False)


def test_fit_can_encode_foreign_cells(h5ad, tmp_path):
    out = tmp_path / "out.h5ad"
    assert fit(h5ad, "--group-key", "group", "--foreign", "encode", "--out", out) == 0
    assert np.isfinite(ad.read_h5ad(out).obsm["X_mgvi_t_group1"]).all()


def test_latents_are_chosen_by_short_texts(h5ad, tmp_path, capsys):
    out = tmp_path / "out.h5ad"
    specs = ["z:4", "t:3", "pair:2", "few=group1+group3:1"]
    assert fit(h5ad, "--group-key", "group", "--out", out, "--latents", *specs) == 0
    result = ad.read_h5ad(out)
    widths = {key: result.obsm[f"X_mgvi_{key}"].shape[1] for key in ("z", "t_group2", "few")}
    assert widths == {"z": 4, "t_group2": 3, "few": 1}
    pair = result.obsm["X_mgvi_pair_group1+group2"]
    outside = (result.obs["group"] == "group3").to_numpy()
    np.testing.assert_array_equal(np.isnan(pair).all(1), outside)
    capsys.readouterr()
    for spec, message in [
        ("z", "not understood"),
        ("z:ten", "not understood"),
        ("u:5", "not understood"),
        ("t:0", "dim must be at least 1"),
        ("few=lung:2", "unknown group"),
        ("few=group1+:2", "names a group without a name"),
        ("few=:2", "names a group without a name"),
        ("few=group1+group1:2", "names a group twice"),
        ("t=group1+group2:2", "overlap"),
    ]:
        bad = tmp_path / "bad.h5ad"
        chosen = ["z:4", "t:3", spec] if spec.startswith("t=") else [spec]
        assert fit(h5ad, "--group-key", "group", "--out", bad, "--latents", *chosen) == 2
        assert message in capsys.readouterr().err and not bad.exists()


def test_empty_cells_are_dropped_on_request(h5ad, tmp_path, capsys):
    adata = ad.read_h5ad(h5ad)
    adata.X.data[adata.X.indptr[3] : adata.X.indptr[4]] = 0
    adata.write_h5ad(h5ad)
    out = tmp_path / "out.h5ad"
    assert fit(h5ad, "--group-key", "group", "--out", out) == 2
    assert "cell_4" in capsys.readouterr().err and not out.exists()
    model = tmp_path / "model"
    assert fit(h5ad, "--group-key", "group", "--drop-empty", "--out", out, "--model", model) == 0
    assert ad.read_h5ad(out).n_obs == adata.n_obs - 1
    genes = tmp_path / "genes.csv"  # the model leaves the cell out of the same file again
    assert rank(model, h5ad, "--group", "group1", "--no-q", "--out", genes) == 0
    assert len(pd.read_csv(genes)) == adata.n_vars


def test_bad_input_ends_with_one_line_and_nothing_written(h5ad, tmp_path, capsys):
    text = tmp_path / "text.h5ad"
    text.write_text("not hdf5")
    out = tmp_path / "out.h5ad"
    (tmp_path / "folder.h5ad").mkdir()
    cases = [
        ((h5ad, "--group-key", "organ", "--out", out), "organ"),
        ((h5ad, "--group-key", "group", "--layer", "x", "--out", out), "layer 'x'"),
        ((text, "--group-key", "group", "--out", out), "cannot be read as h5ad"),
        ((tmp_path / "none.h5ad", "--group-key", "group", "--out", out), "does not exist"),
        ((tmp_path, "--group-key", "group", "--out", out), "is a folder and no zarr"),
        ((h5ad, "--group-key", "group", "--out", tmp_path / "no" / "out.h5ad"), "folder"),
        ((h5ad, "--group-key", "group", "--out", tmp_path / "folder.h5ad"), "it is a folder"),
        ((h5ad, "--group-key", "group", "--out", out, "--model", tmp_path), "not a saved model"),
    ]
    listing = sorted(tmp_path.rglob("*"))
    for options, message in cases:
        assert fit(*options) == 2, message
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == listing


def test_errors_name_options_as_the_command_line_does(h5ad, tmp_path, capsys):
    adata = ad.read_h5ad(h5ad)
    adata.X = adata.X * 0.5
    adata.write_h5ad(halved := tmp_path / "halved.h5ad")
    assert fit(halved, "--group-key", "group", "--out", tmp_path / "out.h5ad") == 2
    assert "counts seem to be in adata.layers['raw']: pass --layer raw" in capsys.readouterr().err
    del adata.layers["raw"]
    adata.write_h5ad(halved)
    assert fit(halved, "--group-key", "group", "--out", tmp_path / "out.h5ad") == 2
    assert "build the model with --round-counts;" in capsys.readouterr().err
    assert fit(halved, "--group-key", "tissue", "--out", tmp_path / "out.h5ad") == 2
    assert "--group-key 'tissue' is not a column" in capsys.readouterr().err
    assert not (tmp_path / "out.h5ad").exists()


@pytest.mark.slow
def test_covariates_that_say_nothing_or_something_new(h5ad, tmp_path, capsys):
    out = tmp_path / "out.h5ad"
    adata = ad.read_h5ad(h5ad)
    adata.obs["age"], adata.obs["donor"] = 3.0, "d1"
    adata.write_h5ad(h5ad)
    for option, key in (("--covariate-key", "age"), ("--batch-key", "donor")):
        assert fit(h5ad, "--group-key", "group", option, key, "--out", out) == 2
        error = capsys.readouterr().err
        assert f"{key!r} has the same value in every cell" in error and not out.exists()
    adata.obs["donor"] = ["d1", "d2"] * (adata.n_obs // 2)
    adata.write_h5ad(h5ad)
    folder = tmp_path / "donors"
    options = ("--batch-key", "donor", "--model", folder, "--out", out)
    assert fit(h5ad, "--group-key", "group", *options) == 0
    adata.obs["donor"] = "d3"
    adata.write_h5ad(h5ad)
    table = tmp_path / "genes.csv"
    rank = ["rank-genes", folder, h5ad, "--group", "group1", "--no-q", "--out", table]
    assert main([str(x) for x in rank]) == 2
    assert "value(s) unknown to the model: d3" in capsys.readouterr().err and not table.exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (("--out", "no/out.h5ad"), "does not exist"),
        (("--out", "folder"), "it is a folder"),
        (("--out", "in.h5ad"), "it is the input; choose another path, or pass --force"),
        (("--out", "new.h5ad", "--model", "folder"), "not a saved model"),
        (("--out", "new.h5ad", "--model", "no/model"), "does not exist"),
        (("--out", "new.h5ad", "--model", "new.h5ad"), "named like something else"),
        (("--out", "new", "--model", "new"), "it is what --out names, too"),
        (("--out", "new.h5ad", "--resume"), "name its folder (--checkpoint)"),
        (("--out", "new.h5ad", "--checkpoint", "in.h5ad"), "is a file: name a folder"),
        (("--out", "new.h5ad", "--model", "m", "--checkpoint", "m/c"), "in what --model writes"),
        (("--out", "new.h5ad", "--checkpoint", "used"), "holds a training of 7 epochs already"),
        (("--out", "new.h5ad", "--accelerator", "nonsense"), "'nonsense' cannot be used here"),
    ],
)
def test_an_output_that_cannot_be_written_is_found_before_training(
    h5ad, tmp_path, monkeypatch, capsys, options, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trainer, "run", None)
    (tmp_path / "folder").mkdir()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "epoch_7.pt").write_text("")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert fit(h5ad, "--group-key", "group", *options) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    after = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert after == before


def test_the_input_is_overwritten_by_force(h5ad):
    assert fit(h5ad, "--group-key", "group", "--out", h5ad, "--force") == 0
    assert "X_mgvi_z" in ad.read_h5ad(h5ad).obsm


@pytest.mark.slow
def test_zarr_in_and_zarr_out(h5ad, tmp_path):
    source, out = tmp_path / "in.zarr", tmp_path / "out.zarr"
    write_cells(ad.read_h5ad(h5ad), source)
    assert fit(source, "--group-key", "group", "--out", out) == 0
    assert fit(h5ad, "--group-key", "group", "--out", tmp_path / "out.h5ad") == 0
    found, same = read_cells(out), ad.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(found.obsm["X_mgvi_z"], same.obsm["X_mgvi_z"])
    assert found.uns["note"] == "mine" and (found.X != same.X).nnz == 0
    assert found.uns["mgvi"]["interrupted"] == same.uns["mgvi"]["interrupted"] == False  # noqa: E712


def test_the_model_is_there_if_the_cells_cannot_be_written(h5ad, tmp_path, monkeypatch, capsys):
    def full(self, path, **settings):
        path.write_text("half")
        raise OSError("no space left on device")

    monkeypatch.setattr(ad.AnnData, "write_h5ad", full)
    out, model = tmp_path / "out.h5ad", tmp_path / "model"
    out.write_text("")
    assert fit(h5ad, "--group-key", "group", "--out", out, "--model", model) == 2
    printed = capsys.readouterr()
    assert f"written to {model}" in printed.out
    assert printed.err == f"pyro-mgvi: cannot write {out}: no space left on device\n"
    assert out.read_text() == ""
    assert len(pyro_mgvi.MGVI.load(model).history) == 2


def ctrl_c():
    raise KeyboardInterrupt  # processes in the background ignore SIGINT


def sigterm():
    signal.raise_signal(signal.SIGTERM)


def interrupt_after(monkeypatch, n_epochs, by=ctrl_c):
    epoch = Trainer._epoch

    def interrupted(self, number):
        if number == n_epochs:
            by()
        epoch(self, number)

    monkeypatch.setattr(Trainer, "_epoch", interrupted)


@pytest.mark.slow
def test_an_interrupted_fit_writes_what_it_has_and_is_resumed(h5ad, tmp_path, monkeypatch, capsys):
    names = {"--out": "out.h5ad", "--model": "model", "--checkpoint": "run"}
    options = [x for name, value in names.items() for x in (name, tmp_path / value)]
    interrupt_after(monkeypatch, 1)
    assert fit(h5ad, "--group-key", "group", *options) == 130
    printed = capsys.readouterr()
    assert "interrupted after 1 epochs: what is written holds the best weights" in printed.err
    assert "the same command with --resume goes on" in printed.err
    half = ad.read_h5ad(tmp_path / "out.h5ad")
    assert half.uns["mgvi"]["interrupted"] and len(half.uns["mgvi"]["history"]) == 1
    loaded = pyro_mgvi.MGVI.load(tmp_path / "model")
    assert loaded.interrupted
    np.testing.assert_array_equal(loaded.latents(half)["z"], half.obsm["X_mgvi_z"])
    monkeypatch.undo()
    assert fit(h5ad, "--group-key", "group", *options) == 2
    assert "with --resume" in capsys.readouterr().err
    assert fit(h5ad, "--group-key", "group", *options, "--resume") == 0
    assert "run holds 1 epochs of a training" in capsys.readouterr().err
    whole = tmp_path / "whole.h5ad"
    assert fit(h5ad, "--group-key", "group", "--out", whole) == 0
    found, expected = ad.read_h5ad(tmp_path / "out.h5ad"), ad.read_h5ad(whole)
    np.testing.assert_array_equal(found.obsm["X_mgvi_z"], expected.obsm["X_mgvi_z"])
    pd.testing.assert_frame_equal(found.uns["mgvi"]["history"], expected.uns["mgvi"]["history"])
    assert not found.uns["mgvi"]["interrupted"]
    assert not pyro_mgvi.MGVI.load(tmp_path / "model").interrupted


@pytest.mark.parametrize("by", [ctrl_c, sigterm])
def test_a_fit_interrupted_in_its_first_epoch_writes_nothing(
    h5ad, tmp_path, monkeypatch, capsys, by
):
    interrupt_after(monkeypatch, 0, by)
    before = signal.getsignal(signal.SIGTERM)
    out, model = tmp_path / "out.h5ad", tmp_path / "model"
    assert fit(h5ad, "--group-key", "group", "--out", out, "--model", model) == 130
    assert "interrupted; nothing is written" in capsys.readouterr().err
    assert not out.exists() and not model.exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_reader_of_stdout_that_has_gone_costs_no_file(h5ad, tmp_path, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    out, model = tmp_path / "out.h5ad", tmp_path / "model"
    with open(writer, "w", buffering=1, encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert fit(h5ad, "--group-key", "group", "--out", out, "--model", model) == 0
    assert out.is_file() and model.is_dir()


def test_an_interrupt_while_modules_are_imported_is_one_line(h5ad, monkeypatch, capsys):
    class Interrupting:
        def find_spec(self, name, *args):
            if name == "pyro_mgvi.cli.commands":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "pyro_mgvi.cli.commands")
    monkeypatch.delattr("pyro_mgvi.cli.commands")
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert fit(h5ad, "--group-key", "group", "--out", h5ad) == 130
    assert capsys.readouterr().err.startswith("pyro-mgvi: interrupted")


@pytest.mark.parametrize("name", ["", "a" * 300 + ".h5ad", "a" * 300 + ".h5mu"])
def test_an_input_behind_the_columns_must_be_a_path_too(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["fit", "--out", "x.h5ad", "--group-key", "group", name])
    assert caught.value.code == 2 and "error: argument IN: " in capsys.readouterr().err


def test_interrupting_writes_nothing(h5ad, tmp_path, monkeypatch, capsys):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(pyro_mgvi.MGVI, "fit", interrupt)
    out = tmp_path / "out.h5ad"
    assert fit(h5ad, "--group-key", "group", "--out", out) == 130
    assert "interrupted" in capsys.readouterr().err and not out.exists()


@pytest.mark.slow
def test_demo_prints_scores_beside_their_best_and_writes_results(tmp_path, capsys, monkeypatch):
    small = clear_recipe(seed=0, n_cells=200, n_shared_genes=80, n_program_genes=40)
    monkeypatch.setattr("pyro_mgvi.cli.demo.simulate", lambda seed: small)
    out = tmp_path / "demo"
    assert main(["demo", "--epochs", "2", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for score in ("type ARI (shared)", "group probe (shared)", "program ARI (group2)"):
        assert score in printed
    assert {p.name for p in out.iterdir()} == {"latents.h5ad", "latents.png", "scores.csv", "model"}
    assert set(pd.read_csv(out / "scores.csv")["aim"]) == {"ceiling", "chance"}


@pytest.mark.slow
def test_real_cells_from_the_shell(reference, tmp_path):
    adata = reference("tiny_sc_mixology")
    adata.write_h5ad(tmp_path / "in.h5ad")
    out = tmp_path / "out.h5ad"
    assert main(["fit", str(tmp_path / "in.h5ad"), "--group-key", "group", "--quiet",
                 "--out", str(out)]) == 0  # fmt: skip
    result = ad.read_h5ad(out)
    z, line = result.obsm["X_mgvi_z"], result.obs["label"].to_numpy(str)
    common = np.isin(line, ["H1975", "H2228", "HCC827"])
    assert kmeans_ari(z[common], line[common]) > 0.9
    # Three protocols of 42 such cells each: chance 0.33, 1.00 in the log counts.
    assert probe(z[common], result.obs["group"].to_numpy(str)[common]) < 0.75
    for group in result.obs["group"].unique():  # and chance for the line in what is private
        mine = common & (result.obs["group"] == group).to_numpy()
        assert probe(result.obsm[f"X_mgvi_t_{group}"][mine], line[mine]) < 0.5


@pytest.fixture
def model(h5ad, tmp_path):
    fit(h5ad, "--group-key", "group", "--out", tmp_path / "out.h5ad", "--model", tmp_path / "model")
    return tmp_path / "model"


def rank(*options):
    return main(["rank-genes", *map(str, options)])


def test_rank_genes_writes_the_same_table_as_the_library(h5ad, model, tmp_path, capsys):
    out = tmp_path / "genes.csv"
    where = "celltype == 'T1' or donor == 'd1'"
    assert rank(model, h5ad, "--group", "group2", "--where", where, "--no-q", "--out", out) == 0
    printed = capsys.readouterr().out
    assert "no q-values, as asked" in printed
    for column in pd.read_csv(out, index_col="gene"):  # each is explained below the table
        assert f"\n  {column}: " in printed
    assert "in nats" in printed and "1 nat is 1.44 bits" in printed
    adata = ad.read_h5ad(h5ad)
    cells = ((adata.obs["celltype"] == "T1") | (adata.obs["donor"] == "d1")).to_numpy()
    table = pyro_mgvi.MGVI.load(model).rank_genes(adata, "group2", cells, calibration=False)
    pd.testing.assert_frame_equal(pd.read_csv(out, index_col="gene"), table)


def test_rank_genes_within_labels(h5ad, model, tmp_path, capsys):
    out = tmp_path / "genes.csv"
    assert rank(model, h5ad, "--group", "group1", "--by", "celltype", "--no-q", "--out", out) == 0
    assert "  q_value: " in capsys.readouterr().out
    adata = ad.read_h5ad(h5ad)
    mgvi = pyro_mgvi.MGVI.load(model)
    table = mgvi.rank_genes(adata, "group1", by="celltype", calibration=False)
    pd.testing.assert_frame_equal(pd.read_csv(out, index_col=["label", "gene"]), table)


@pytest.mark.slow
def test_several_splits_are_averaged_and_their_spread_is_said(tmp_path, capsys):
    h5ad, model, out = (tmp_path / name for name in ("cells.h5ad", "model", "genes.csv"))
    clear_recipe(0, n_cells=200, n_shared_genes=60, n_program_genes=20).write_h5ad(h5ad)
    written = ("--out", tmp_path / "out.h5ad", "--model", model)
    assert fit(h5ad, "--group-key", "group", "--latents", "z:2", "t:2", *written) == 0
    options = ("--group", "group1", "--splits", "2", "--quiet", "--out", out)
    assert rank(model, h5ad, *options) == 0
    adata, mgvi = ad.read_h5ad(h5ad), pyro_mgvi.MGVI.load(model)
    splits = [pyro_mgvi.cross_fit(mgvi, adata, progress=False, split=i) for i in range(2)]
    table = mgvi.rank_genes(adata, "group1", calibration=splits, progress=False)
    pd.testing.assert_frame_equal(pd.read_csv(out, index_col="gene"), table)
    assert "  z_sd: " in capsys.readouterr().out and "z_sd" in table
    assert rank(model, h5ad, "--group", "group1", "--splits", "0", "--out", out) == 2
    assert "--splits" in capsys.readouterr().err
    assert rank(model, h5ad, "--group", "group1", "--splits", "2", "--no-q", "--out", out) == 2
    assert "leave one out" in capsys.readouterr().err


def test_rank_genes_reports_a_missing_q_value(h5ad, model, tmp_path, capsys):
    out = tmp_path / "genes.csv"
    where = "celltype == 'T1'"
    assert rank(model, h5ad, "--group", "group1", "--where", where, "--out", out) == 0
    assert "q_value is missing: too few cells" in capsys.readouterr().out
    assert pd.read_csv(out)["q_value"].isna().all()


@pytest.mark.slow
def test_rank_genes_ends_with_one_line_on_bad_input(h5ad, model, tmp_path, capsys, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("work was done")

    monkeypatch.setattr(pyro_mgvi.MGVI, "rank_genes", never)
    out = tmp_path / "genes.csv"
    (tmp_path / "folder.csv").mkdir()
    group = ("--group", "group1")
    cases = [
        ((model, h5ad, "--group", "ileum", "--out", out), "'ileum' is unknown"),
        ((model, h5ad, *group, "--where", "group == 'group2'", "--out", out), "foreign cell"),
        ((model, h5ad, *group, "--where", "celltype == 'T99'", "--out", out), "no cell"),
        ((model, h5ad, *group, "--by", "organ", "--out", out), "--by 'organ' is not a column"),
        ((model, h5ad, *group, "--where", "organ == 1", "--out", out), "celltype"),
        ((model, h5ad, *group, "--where", "@os.getcwd()", "--out", out), "does not work"),
        ((model, h5ad, *group, "--where", "celltype", "--out", out), "not true or false"),
        ((tmp_path, h5ad, *group, "--out", out), "not a saved model"),
        ((model, h5ad, *group, "--out", tmp_path / "no" / "genes.csv"), "folder"),
        ((model, h5ad, *group, "--out", tmp_path / "folder.csv"), "it is a folder"),
    ]
    for options, message in cases:
        assert rank(*options) == 2, message
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("default::pyro_mgvi.DataWarning")  # shown in one line
def test_samples_are_named_once_and_the_ranking_says_of_what_it_speaks(h5ad, tmp_path, capsys):
    folder, out, table = tmp_path / "donors", tmp_path / "out.h5ad", tmp_path / "genes.csv"
    adata = ad.read_h5ad(h5ad)
    adata.obs["animal"] = [f"animal{i % 4}" for i in range(adata.n_obs)]
    adata.write_h5ad(h5ad)
    options = ("--group-key", "group", "--sample-key", "animal", "--model", folder, "--out", out)
    assert fit(h5ad, *options) == 0
    assert '"sample_key": "animal"' in ad.read_h5ad(out).uns["mgvi"]["settings"]
    assert rank(folder, h5ad, "--group", "group2", "--quiet", "--out", table) == 0
    assert "q-values speak of new samples" in capsys.readouterr().out
    few = "animal in ['animal0', 'animal1']"
    options = ("--group", "group2", "--where", few, "--quiet", "--out", table)
    assert rank(folder, h5ad, *options) == 0
    said = capsys.readouterr()
    assert "q_value is missing: too few samples" in said.out and "at least 3" in said.err


def test_an_estimate_trains_and_writes_nothing(h5ad, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    assert main(["fit", str(h5ad), "--group-key", "group", "--layer", "raw", "--estimate"]) == 0
    assert capsys.readouterr().out.startswith("about ")
    assert main(["fit", str(h5ad), "--group-key", "group", "--layer", "raw", "--estimate",
                 "--n-trainings", "3"]) == 0  # fmt: skip
    assert "(4 trainings of " in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_several_trainings_tell_how_well_they_agree(h5ad, tmp_path, capsys):
    out, model = tmp_path / "out.h5ad", tmp_path / "model"
    assert fit(h5ad, "--group-key", "group", "--layer", "raw", "--out", out, "--model", model,
               "--n-trainings", "2", "--checkpoint", tmp_path / "state") == 0  # fmt: skip
    assert "z: 2 other trainings recover" in capsys.readouterr().out
    assert fit(h5ad, "--group-key", "group", "--layer", "raw", "--out", out, "--model", model,
               "--n-trainings", "2", "--checkpoint", tmp_path / "state", "--resume",
               "--force") == 0  # fmt: skip
    assert "holds 2 trainings, begun or done, and 2 epochs of the last" in capsys.readouterr().err
    agreement = pyro_mgvi.MGVI.load(model).agreement
    assert (agreement["trainings"] == 2).all()
    pd.testing.assert_frame_equal(ad.read_h5ad(out).uns["mgvi"]["agreement"], agreement,
                                  check_dtype=False, check_index_type=False)  # fmt: skip


def test_a_checkpoint_that_is_not_gone_on_with_is_not_said_to_be(h5ad, tmp_path, capsys):
    names = ["--group-key", "group", "--layer", "raw", "--checkpoint", tmp_path / "state"]
    assert fit(h5ad, *names, "--out", tmp_path / "out.h5ad") == 0
    capsys.readouterr()
    further = ["--resume", "--epochs", "7", "--quiet", "--out", tmp_path / "new.h5ad"]
    assert main(["fit", *map(str, [h5ad, *names, *further])]) == 2
    error = capsys.readouterr().err
    assert "state holds 2 epochs of a training\n" in error and "going on" not in error
    assert "is of another training, with other --epochs: name" in error


def test_a_fit_needs_somewhere_to_write_to(h5ad, capsys):
    assert main(["fit", str(h5ad), "--group-key", "group"]) == 2
    assert "--out" in capsys.readouterr().err


def test_a_file_larger_than_memory_is_fitted_and_copied(h5ad, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pyro_mgvi.data.stores.on_disk.IN_MEMORY", 0.0)
    out, before = tmp_path / "out.h5ad", h5ad.read_bytes()
    assert fit(h5ad, "--group-key", "group", "--backed", "--out", out) == 0
    assert h5ad.read_bytes() == before
    source, result = ad.read_h5ad(h5ad), ad.read_h5ad(out)
    assert (source.X != result.X).nnz == 0 and result.uns["note"] == "mine"
    assert set(result.obsm) == {"X_pca", "X_mgvi_z", *(f"X_mgvi_t_group{i}" for i in (1, 2, 3))}
    assert len(result.uns["mgvi"]["history"]) == 2


def test_latents_of_an_earlier_fit_are_not_in_the_copy(h5ad, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pyro_mgvi.data.stores.on_disk.IN_MEMORY", 0.0)
    monkeypatch.setattr("pyro_mgvi.training.program.VALUES", 50 * 60)  # three blocks of cells
    first, second, model = tmp_path / "a.h5ad", tmp_path / "b.h5ad", tmp_path / "model"
    options = ("--group-key", "group", "--backed")
    assert fit(h5ad, *options, "--latents", "z:3", "pair:2", "--out", first) == 0
    options = (*options, "--latents", "z:4", "t:2", "--out", second, "--model", model)
    assert fit(first, *options) == 0
    said = capsys.readouterr().err
    assert "leaving out the latents of an earlier fit: X_mgvi_pair_group1+group2" in said
    found, loaded = ad.read_h5ad(second), pyro_mgvi.MGVI.load(model)
    wanted = loaded.latents(ad.read_h5ad(first, backed="r"))
    assert set(found.obsm) == {"X_pca", *(f"X_mgvi_{key}" for key in wanted)}
    for key, table in wanted.items():
        np.testing.assert_array_equal(found.obsm[f"X_mgvi_{key}"], table)
        assert found.obsm[f"X_mgvi_{key}"].dtype == np.float32


@pytest.mark.parametrize("name", ["out.zarr", "in.h5ad"])
def test_where_a_file_larger_than_memory_cannot_be_written_to(h5ad, tmp_path, name, capsys):
    options = ("--group-key", "group", "--backed", "--force", "--out", tmp_path / name)
    assert fit(h5ad, *options) == 2
    assert "--backed" in capsys.readouterr().err


@pytest.mark.slow
def test_fit_discovers_which_groups_share_what(tmp_path, capsys):
    adata = clear_recipe(seed=0, n_cells=600, n_shared_genes=60, n_program_genes=60)
    adata.write_h5ad(tmp_path / "in.h5ad")
    options = (tmp_path / "in.h5ad", "--group-key", "group", "--discover")
    assert fit(*options, "--out", tmp_path / "out.h5ad") == 0
    assert "program 1: group" in capsys.readouterr().out
    result = ad.read_h5ad(tmp_path / "out.h5ad")
    table = result.uns["mgvi"]["discovery"]
    assert {"varies", "absent"} <= set(table["verdict"])
    assert {f"X_mgvi_{key}" for key in table["latent"]} == set(result.obsm)


@pytest.mark.parametrize("more", [("--latents", "z:3"), ("--estimate",)])
def test_discover_is_refused_beside_what_it_finds(h5ad, tmp_path, capsys, more):
    assert fit(h5ad, "--group-key", "group", "--discover", *more, "--out", tmp_path / "o.h5ad") == 2
    assert "--discover finds the latents" in capsys.readouterr().err
